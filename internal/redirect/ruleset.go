package redirect

import (
	"fmt"
	"strings"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// Table is the name of our table, in family inet.
const Table = "sealmesh"

// Ruleset is what the kernel of one namespace is to hold. Make one with Plan.
type Ruleset struct {
	maps   []flowMap
	chains []chain
}

// hook is where in the kernel a chain of ours stands.
type hook struct {
	name string // of hook and chain
	kind string
	num  uint32
}

type chain struct {
	hook  hook
	rules []rule
}

// Rules is the number of nftables rules.
func (r Ruleset) Rules() int {
	n := 0
	for _, c := range r.chains {
		n += len(c.rules)
	}
	return n
}

// String is the table as `nft list table inet sealmesh` prints it, then the
// policy routing as `ip rule` and `ip route` do.
func (r Ruleset) String() string {
	return r.table() + r.routing()
}

func (r Ruleset) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for _, m := range r.maps {
		fmt.Fprintf(&b, "\tmap %s {\n\t\ttype %s : mark\n\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %dm\n\t}\n\n",
			m.name, m.keyText, flowLimit, int(flowTimeout.Minutes()))
	}
	for i, c := range r.chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n\t\ttype %s hook %s priority mangle; policy accept;\n", c.hook.name, c.hook.kind, c.hook.name)
		for _, rule := range c.rules {
			fmt.Fprintf(&b, "\t\t%s\n", rule)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (r Ruleset) routing() string {
	var b strings.Builder
	for _, family := range []string{"ip", "ip -6"} {
		fmt.Fprintf(&b, "%s rule: %d: from all fwmark 0x%x/0x%x lookup %d\n", family, ports.RulePriority, ports.LoopMark, loopMask, ports.Table)
		fmt.Fprintf(&b, "%s route: local default dev lo table %d\n", family, ports.Table)
	}
	return b.String()
}
