package redirect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Check compares the network namespace of the calling thread with the
// configuration and says, one clause each, what differs; nothing if all is as
// Apply left it. Apply repairs all of it.
func Check(c Config) (drift []string, err error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	routing, err := openRouting()
	if err != nil {
		return nil, err
	}
	drift, err = routing.check()
	if err != nil {
		return nil, err
	}
	conn, err := open()
	if err != nil {
		return nil, err
	}
	held, err := read(conn)
	if err != nil {
		return nil, err
	}
	return append(drift, Plan(c).compare(held)...), nil
}

// held is our table as the kernel holds it.
type held struct {
	exists bool
	chains []*nftables.Chain
	maps   []*nftables.Set
	rules  map[string][][]attribute // by chain: the expressions of each rule
}

// compare says what of the ruleset is missing, and what is there beside it.
func (r Ruleset) compare(h held) (drift []string) {
	if !h.exists {
		return []string{"table " + Table + " is missing"}
	}
	for i, m := range r.maps {
		want := Ruleset{maps: r.maps[i : i+1]}
		if !slices.ContainsFunc(h.maps, want.wants) {
			drift = append(drift, "map "+m.name+" is missing or changed")
		}
	}
	if len(h.maps) > len(r.maps) {
		drift = append(drift, "a set was added")
	}
	if len(h.chains) > len(r.chains) {
		drift = append(drift, "a chain was added")
	}
	for _, c := range r.chains {
		drift = append(drift, c.compare(h)...)
	}
	return drift
}

func (c chain) compare(h held) []string {
	at := slices.IndexFunc(h.chains, func(k *nftables.Chain) bool { return k.Name == c.hook.name })
	if at < 0 {
		return []string{"chain " + c.hook.name + " is missing"}
	}
	k, want := h.chains[at], c.hook.chain()
	if k.Hooknum == nil || k.Priority == nil || k.Policy == nil || k.Type != want.Type ||
		*k.Hooknum != *want.Hooknum || *k.Priority != *want.Priority || *k.Policy != *want.Policy {
		return []string{"chain " + c.hook.name + " has another hook, priority or policy"}
	}
	got := h.rules[c.hook.name]
	for i, rule := range c.rules {
		if i >= len(got) || !rule.is(got[i]) {
			return []string{fmt.Sprintf("chain %s: rule %d of %d is not %q", c.hook.name, i+1, len(c.rules), rule)}
		}
	}
	if n := len(got) - len(c.rules); n > 0 {
		return []string{fmt.Sprintf("chain %s: %d rules were added", c.hook.name, n)}
	}
	return nil
}

// is reports whether a rule of the kernel does what r says: the same expressions
// with at least our attributes (the kernel shows its defaults too).
func (r rule) is(got []attribute) bool {
	exprs := r.exprs()
	if len(exprs) != len(got) {
		return false
	}
	for i, e := range exprs {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return false
		}
		name, want := expression(b)
		kernel, have := expression(got[i].value)
		if id, ok := setID[name]; ok {
			want = slices.DeleteFunc(want, func(a attribute) bool { return a.kind == id })
		}
		if name != kernel || !within(want, have) {
			return false
		}
	}
	return true
}

// setID is, by the expression that has it, the attribute with the number of a
// set within the transaction, which the kernel does not keep.
var setID = map[string]uint16{"dynset": unix.NFTA_DYNSET_SET_ID, "lookup": unix.NFTA_LOOKUP_SET_ID}

// expression is the name of one and its attributes.
func expression(b []byte) (name string, fields []attribute) {
	for _, a := range parse(b) {
		switch a.kind {
		case unix.NFTA_EXPR_NAME:
			name = string(bytes.TrimRight(a.value, "\x00"))
		case unix.NFTA_EXPR_DATA:
			fields = parse(a.value)
		}
	}
	return name, fields
}

// read lists our table. The library cannot read back all that it writes (tproxy),
// so that rules are kept in netlink's own form.
func read(conn *nftables.Conn) (held, error) {
	h := held{rules: make(map[string][][]attribute)}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return h, fmt.Errorf("redirect: list tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == Table }) {
		return h, nil
	}
	h.exists = true
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return h, fmt.Errorf("redirect: list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name == Table {
			h.chains = append(h.chains, c)
		}
	}
	if h.maps, err = conn.GetSets(table); err != nil {
		return h, fmt.Errorf("redirect: list sets: %w", err)
	}
	return h, h.readRules()
}

func (h *held) readRules() error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("redirect: netlink: %w", err)
	}
	defer conn.Close()
	name, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(Table + "\x00")}})
	if err != nil {
		return err
	}
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, name...),
	})
	if err != nil {
		return fmt.Errorf("redirect: list rules: %w", err)
	}
	for _, reply := range replies {
		if len(reply.Data) < 4 {
			return errors.New("redirect: list rules: short message")
		}
		var chain string
		var exprs []attribute
		for _, a := range parse(reply.Data[4:]) {
			switch a.kind {
			case unix.NFTA_RULE_CHAIN:
				chain = string(bytes.TrimRight(a.value, "\x00"))
			case unix.NFTA_RULE_EXPRESSIONS:
				exprs = parse(a.value)
			}
		}
		h.rules[chain] = append(h.rules[chain], exprs)
	}
	return nil
}

// attribute is one netlink attribute, of a kind within what holds it.
type attribute struct {
	kind  uint16
	value []byte
}

// parse splits a run of netlink attributes; nil if b is not one. Flags of the
// kind, which not every kernel sets, are left out.
func parse(b []byte) []attribute {
	var all []attribute
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return nil
		}
		kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		all = append(all, attribute{kind, b[4:length]})
		b = b[min(len(b), (length+3)&^3):]
	}
	if len(b) != 0 {
		return nil
	}
	return all
}

// within reports whether all of want is in got, nested attributes likewise.
func within(want, got []attribute) bool {
	for _, w := range want {
		if !slices.ContainsFunc(got, func(g attribute) bool {
			if g.kind != w.kind {
				return false
			}
			nested := parse(w.value)
			return bytes.Equal(g.value, w.value) || len(nested) > 0 && within(nested, parse(g.value))
		}) {
			return false
		}
	}
	return true
}
