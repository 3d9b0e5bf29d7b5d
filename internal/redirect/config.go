// Package redirect makes a network namespace hand a workload's TCP to the proxy
// beside it, and lets nothing pass around the proxy. It speaks netlink itself:
// no nft, iptables or ip binary. Nothing is translated (no NAT, no conntrack):
// the proxy's transparent sockets bear the addresses that were meant.
//
//	Config ── Plan (pure) ──► Ruleset ── Apply ──► kernel
//	                             └────── Check ◄──────┘   what differs, in words
//
// A packet's way, once the workload is redirected:
//
//	application ──► output: not lo, not the proxy's ─► mark LoopMark
//	                   └─ ip rule fwmark → table: local default dev lo
//	           lo ──► prerouting: marked ─► tproxy to the outbound listener, or drop
//	         wire ──► prerouting: for a local address ─► tproxy to the inbound
//	                  listener, or drop what begins a connection
//	              ──► postrouting: marked, yet leaving by another way than lo: drop
//
// The inbound proxy calls the application in the client's name; what the
// application answers is addressed to the client, and loops by the same rules
// back to the proxy's transparent socket.
//
// Everything fails closed. A workload in phase Guard passes nothing but loopback.
// One in phase Redirect passes no new connection while its proxy does not
// listen, and nothing marked leaves the machine if the route is missing, or if
// a program insists on a device (SO_BINDTODEVICE) or on a link-local address.
//
// Host workloads are some processes of a namespace, known by user or cgroup. A
// socket that was closed with data unsent, or not yet accepted, has no user any
// more, so the output chain remembers for a while whose each connection is
// (maps flows4 and flows6).
package redirect

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Phase is how far a workload's enrolment has come.
type Phase uint8

// The two phases. The zero value is the safe one.
const (
	// Guard drops everything but loopback: the proxy is not ready yet.
	Guard Phase = iota
	// Redirect hands TCP to the proxy.
	Redirect
)

// String is the phase in lower case, for reports.
func (p Phase) String() string {
	if p == Redirect {
		return "redirect"
	}
	return "guard"
}

// Config is what one network namespace is to do.
type Config struct {
	// Workloads of the namespace: one that is all of it, or any number of host
	// workloads.
	Workloads []Workload
	// ProxyUID is the user of the proxies, whose traffic passes even without
	// their mark. Never 0.
	ProxyUID uint32
	// Control is where proxies reach the control plane, which passes even in
	// phase Guard; zero when that is a unix socket.
	Control netip.AddrPort
}

// Workload is one workload and the ports of the proxy beside it.
type Workload struct {
	// Name is unique in the namespace, for messages.
	Name  string
	Phase Phase
	// Selector says which processes are the workload; the zero value is all of
	// the namespace.
	Selector Selector
	// Ports a host workload listens on. Empty for a whole namespace, where every
	// port is the workload's.
	Ports []uint16
	// Outbound, Inbound and Admin are the proxy's own ports.
	Outbound, Inbound, Admin uint16
	// SkipPorts are destination ports, in and out, that are not redirected.
	SkipPorts []uint16
}

// Validate reports every problem of the configuration at once.
func (c Config) Validate() error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("redirect: "+format, args...))
	}
	if len(c.Workloads) == 0 {
		problem("no workload: use Remove")
	}
	if c.ProxyUID == 0 {
		problem("proxy uid is 0: the proxy's user passes unsealed and must be its own")
	}
	taken := make(map[uint16]string)    // port → who has it
	selected := make(map[string]string) // selector → who has it
	names := make(map[string]bool)
	for _, w := range c.Workloads {
		w.validate(c, problem)
		if names[w.Name] {
			problem("workload %q is listed twice", w.Name)
		}
		names[w.Name] = true
		if other, ok := selected[w.Selector.String()]; ok {
			problem("workloads %q and %q are both %s", other, w.Name, w.Selector)
		}
		selected[w.Selector.String()] = w.Name
		for _, port := range slices.Concat([]uint16{w.Outbound, w.Inbound, w.Admin}, w.Ports) {
			if other, ok := taken[port]; ok && port != 0 {
				problem("port %d is claimed by %q and %q", port, other, w.Name)
			}
			taken[port] = w.Name
		}
	}
	return errors.Join(problems...)
}

// validate reports what is wrong with one workload by itself.
func (w Workload) validate(c Config, problem func(string, ...any)) {
	if w.Name == "" {
		problem("a workload has no name")
	}
	if w.Outbound == 0 || w.Inbound == 0 || w.Admin == 0 {
		problem("workload %q: outbound, inbound and admin ports must be given", w.Name)
	}
	if slices.Contains(w.Ports, 0) || slices.Contains(w.SkipPorts, 0) {
		problem("workload %q: port 0 is no port", w.Name)
	}
	for _, own := range []uint16{w.Outbound, w.Inbound} {
		if own != 0 && slices.Contains(w.SkipPorts, own) {
			problem("workload %q: port %d is the proxy's and cannot be skipped", w.Name, own)
		}
	}
	switch w.Selector.kind {
	case everything:
		if len(c.Workloads) > 1 {
			problem("workload %q is the whole namespace and must be alone in it", w.Name)
		}
		if len(w.Ports) > 0 {
			problem("workload %q is the whole namespace: every port is sealed, none can be listed", w.Name)
		}
	case byUID:
		if w.Selector.uid == c.ProxyUID {
			problem("workload %q: uid %d is the proxy's", w.Name, c.ProxyUID)
		}
	}
}
