package redirect

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// The lower half of a looped packet's mark is ports.LoopMark; the upper half is
// the outbound port of the proxy it goes to, which tells host workloads apart.
const loopMask = 0xffff

func (w Workload) loopMark() uint32 { return uint32(w.Outbound)<<16 | ports.LoopMark }

var looped = markMasked(ports.LoopMark, loopMask)

// Plan is the ruleset of a valid configuration. It is pure.
func Plan(c Config) Ruleset {
	w, ok := c.whole()
	switch {
	case ok && w.Phase == Guard:
		return ruleset(guardIn(c), guardOut(c), nil)
	case ok:
		return ruleset(wholeIn(w), wholeOut(c, w), nil)
	}
	return ruleset(hostIn(c), hostOut(c), []flowMap{flows4, flows6})
}

// whole is the workload that is all of the namespace, if there is one.
func (c Config) whole() (Workload, bool) {
	if len(c.Workloads) == 1 && c.Workloads[0].Selector.kind == everything {
		return c.Workloads[0], true
	}
	return Workload{}, false
}

func ruleset(in, out []rule, maps []flowMap) Ruleset {
	return Ruleset{maps: maps, chains: []chain{
		{prerouting, in},
		{output, out},
		// Marked, but not on its way to lo: no route for the mark, or the socket is
		// bound to another device.
		{postrouting, []rule{{notToLo, looped, drop}}},
	}}
}

// guardIn lets only loopback in, and answers of a remote control plane.
func guardIn(c Config) []rule {
	rules := []rule{{fromLo, accept}}
	if c.Control.IsValid() {
		rules = append(rules, c.neighbours()...)
		rules = append(rules, rule{saddr(c.Control.Addr().Unmap()), onlyTCP, sport("tcp", c.Control.Port()), continues, accept})
	}
	return append(rules, rule{drop})
}

// guardOut lets only loopback out, and the proxy to a remote control plane,
// without which it would never be ready.
func guardOut(c Config) []rule {
	rules := []rule{{toLo, accept}}
	if c.Control.IsValid() {
		rules = append(rules, c.neighbours()...)
		rules = append(rules, rule{mark(ports.Mark), daddr(c.Control.Addr().Unmap()), onlyTCP, dport("tcp", c.Control.Port()), accept})
	}
	return append(rules, rule{drop})
}

// neighbours lets the link address of the control plane, or of the router to it,
// be found. IPv4 does that by ARP, which no chain of ours sees.
func (c Config) neighbours() []rule {
	if c.Control.Addr().Unmap().Is4() {
		return nil
	}
	const solicit, advert = 135, 136
	return []rule{
		{neighbour("nd-neighbor-solicit", solicit), accept},
		{neighbour("nd-neighbor-advert", advert), accept},
	}
}

// wholeIn is the prerouting chain of a namespace that is one workload.
func wholeIn(w Workload) []rule {
	rules := slices.Concat(fromLoopback([]Workload{w}), []rule{{notTCP, pass}, {notLocal, pass}})
	for _, port := range w.passed() {
		rules = append(rules, rule{onlyTCP, dport("tcp", port), pass})
	}
	return append(rules,
		rule{isTCP, tproxy(w.Inbound), accept},
		// Other packets are of connections the proxy opened, whose sockets are not
		// transparent.
		rule{onlyTCP, begins, drop},
	)
}

// wholeOut is the output chain of a namespace that is one workload.
func wholeOut(c Config, w Workload) []rule {
	rules := append(proxyOut(c), rule{notTCP, pass})
	rules = append(rules, controlOut(c)...)
	for _, port := range w.passed() {
		rules = append(rules,
			rule{onlyTCP, dport("tcp", port), pass},
			// Answers, but not a connection that begins at a skipped port.
			rule{onlyTCP, sport("tcp", port), continues, pass},
		)
	}
	return append(rules, rule{setMark(w.loopMark())})
}

// hostIn is the prerouting chain of a namespace with host workloads.
func hostIn(c Config) []rule {
	rules := slices.Concat(fromLoopback(c.Workloads), []rule{{notLocal, pass}})
	for _, w := range c.Workloads {
		for _, port := range w.sealedPorts() {
			switch w.Phase {
			case Guard:
				rules = append(rules,
					rule{onlyTCP, dport("tcp", port), drop},
					rule{onlyUDP, dport("udp", port), drop},
				)
			case Redirect:
				rules = append(rules,
					rule{onlyTCP, dport("tcp", port), tproxy(w.Inbound), accept},
					rule{onlyTCP, dport("tcp", port), begins, drop},
				)
			}
		}
	}
	return rules
}

// hostOut is the output chain of a namespace with host workloads. A packet is a
// workload's if its socket is owned by it, if it comes from a port the workload
// listens on (a SYN-ACK, and what a connection sends before it is accepted, have
// no owner), or, ownerless, if its connection was the workload's before.
func hostOut(c Config) []rule {
	rules := proxyOut(c)
	for _, w := range c.Workloads {
		if w.Phase == Guard {
			rules = append(rules, rule{w.Selector.match(), drop})
			for _, port := range w.sealedPorts() {
				rules = append(rules,
					rule{onlyTCP, sport("tcp", port), drop},
					rule{onlyUDP, sport("udp", port), drop},
				)
			}
		}
	}
	rules = append(append(rules, rule{notTCP, pass}), controlOut(c)...)
	for _, w := range c.Workloads {
		if w.Phase == Redirect {
			rules = append(rules, w.markOut()...)
		}
	}
	return append(rules,
		rule{looped, flows4.remember(), accept},
		rule{looped, flows6.remember(), accept},
		rule{looped, drop},
		rule{owned, pass},
		rule{flows4.recall(), accept},
		rule{flows6.recall()},
	)
}

// markOut marks what a host workload sends.
func (w Workload) markOut() []rule {
	var rules []rule
	for _, port := range w.SkipPorts {
		rules = append(rules,
			rule{w.Selector.match(), onlyTCP, dport("tcp", port), pass},
			rule{w.Selector.match(), onlyTCP, sport("tcp", port), continues, pass},
		)
	}
	rules = append(rules, rule{w.Selector.match(), setMark(w.loopMark())})
	for _, port := range w.sealedPorts() {
		rules = append(rules, rule{onlyTCP, sport("tcp", port), setMark(w.loopMark())})
	}
	return rules
}

// fromLoopback takes looped packets to their proxies and leaves loopback alone.
func fromLoopback(workloads []Workload) []rule {
	// An application must not inherit the proxy's mark with a connection from it
	// (sysctl tcp_fwmark_accept, fwmark_reflect), or its answers would pass.
	rules := []rule{{fromLo, mark(ports.Mark), setMark(0), pass}}
	for _, w := range workloads {
		if w.Phase == Redirect {
			rules = append(rules, rule{fromLo, mark(w.loopMark()), isTCP, tproxy(w.Outbound), accept})
		}
	}
	// No proxy: never to a local listener that happens to have the same port.
	rules = append(rules, rule{fromLo, looped, drop})
	for _, w := range workloads {
		// Nobody has business at the transparent listeners themselves, and they
		// would call themselves for ever.
		for _, own := range []uint16{w.Outbound, w.Inbound} {
			rules = append(rules, rule{onlyTCP, dport("tcp", own), local, drop})
		}
	}
	return append(rules, rule{fromLo, pass})
}

// proxyOut lets loopback and the proxies' own traffic pass: by mark, and by user
// where the privilege to set marks is missing.
func proxyOut(c Config) []rule {
	return []rule{
		{toLo, pass},
		{mark(ports.Mark), pass},
		{skuid("", cmpEq, c.ProxyUID), pass},
	}
}

// controlOut lets the control plane be reached.
func controlOut(c Config) []rule {
	if !c.Control.IsValid() {
		return nil
	}
	return []rule{{daddr(c.Control.Addr().Unmap()), onlyTCP, dport("tcp", c.Control.Port()), pass}}
}

// passed are the ports of a whole namespace that are not redirected: the proxy
// itself answers probes at Admin.
func (w Workload) passed() []uint16 {
	return append([]uint16{w.Admin}, w.SkipPorts...)
}

// sealedPorts are the ports a host workload listens on, but for those to skip.
func (w Workload) sealedPorts() []uint16 {
	return slices.DeleteFunc(slices.Clone(w.Ports), func(p uint16) bool {
		return slices.Contains(w.SkipPorts, p)
	})
}

// The hooks our chains stand in. Everything is decided at priority mangle: after
// fragments are put together, before any address translation.
var (
	prerouting  = hook{"prerouting", "filter", unix.NF_INET_PRE_ROUTING}
	output      = hook{"output", "route", unix.NF_INET_LOCAL_OUT}
	postrouting = hook{"postrouting", "filter", unix.NF_INET_POST_ROUTING}
)
