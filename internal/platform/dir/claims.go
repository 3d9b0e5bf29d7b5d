package dir

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// checkTogether checks what objects claim against each other: a name, an
// address, a place on a machine and a trust anchor belong to one of them.
func (p *parser) checkTogether() {
	if len(p.meshes) == 0 && !p.unreadable() {
		p.add(Problem{Message: fmt.Sprintf("there is no Mesh: exactly one named %q is needed", meshName)})
	}
	p.uniqueNames()
	p.uniqueAnchors()
	p.uniqueAddresses()
	p.uniquePlaces()
	p.nodesExist()
	p.virtualAddresses()
}

// unreadable reports whether objects may be missing only because a file of them
// could not be read, which has been told already.
func (p *parser) unreadable() bool {
	return slices.ContainsFunc(p.problems, func(problem Problem) bool { return problem.Object == "" })
}

func (p *parser) uniqueNames() {
	seen := map[string]place{}
	claim := func(at place) {
		if first, taken := seen[at.object]; taken {
			p.add(at.problem("metadata.name", "is also that of %s", first))
			return
		}
		seen[at.object] = at
	}
	for _, o := range p.meshes {
		claim(o.place)
	}
	for _, o := range p.bundles {
		claim(o.place)
	}
	for _, o := range p.nodes {
		claim(o.place)
	}
	for _, o := range p.workloads {
		claim(o.place)
	}
	for _, o := range p.services {
		claim(o.place)
	}
}

// uniqueAnchors keeps trust domains apart: an anchor in two bundles could vouch
// for the identities of both.
func (p *parser) uniqueAnchors() {
	seen := map[[sha256.Size]byte]place{}
	for _, o := range p.bundles {
		td, err := id.ParseTrustDomain(o.object.Metadata.Name)
		if err != nil {
			continue
		}
		bundle, err := snapshot.ParseBundle(td, []byte(o.object.Spec.Anchors))
		if err != nil {
			continue
		}
		for _, anchor := range bundle.Anchors() {
			key := sha256.Sum256(anchor.RawSubjectPublicKeyInfo)
			if first, taken := seen[key]; taken && first != o.place {
				p.add(o.problem("spec.anchors", "key of %s is also an anchor of %s, which would mix two trust domains", anchor.Subject, first))
				continue
			}
			seen[key] = o.place
		}
	}
}

// uniqueAddresses lets workloads share an address only by disjoint ports.
func (p *parser) uniqueAddresses() {
	type claim struct {
		place
		ports []uint16
	}
	claims := map[string][]claim{}
	for _, o := range p.workloads {
		for _, addr := range o.object.Spec.Addresses {
			for _, other := range claims[addr] {
				if other.place == o.place {
					continue // named twice by one object: told already
				}
				if port, both := shared(other.ports, o.object.Spec.Ports); both {
					p.add(o.problem("spec.addresses", "%q: %s is also that of %s", addr, port, other.place))
				}
			}
			claims[addr] = append(claims[addr], claim{o.place, o.object.Spec.Ports})
		}
	}
}

// shared names a port that two lists have in common; an empty list is all ports.
func shared(a, b []uint16) (string, bool) {
	if len(a) == 0 && len(b) == 0 {
		return "every port", true
	}
	if len(a) == 0 {
		a, b = b, a
	}
	for _, port := range a {
		if len(b) == 0 || slices.Contains(b, port) {
			return fmt.Sprintf("port %d", port), true
		}
	}
	return "", false
}

// uniquePlaces keeps workloads of one machine apart by where they are found:
// what a process sends must be of one workload. A cgroup contains those below it.
func (p *parser) uniquePlaces() {
	type spot struct{ node, key, value string }
	taken := map[spot]place{}
	var grouped []placed[mesh.Workload]
	for _, o := range p.workloads {
		s := o.object.Spec
		for _, at := range [...]spot{{s.Node, "spec.netns", s.NetNS}, {s.Node, "spec.user", s.User}} {
			if first, exists := taken[at]; exists && at.value != "" {
				p.add(o.problem(at.key, "%q: is also that of %s", at.value, first))
			}
			taken[at] = o.place
		}
		if s.Cgroup == "" {
			continue
		}
		for _, other := range grouped {
			if t := other.object.Spec; s.Node == t.Node && (within(s.Cgroup, t.Cgroup) || within(t.Cgroup, s.Cgroup)) {
				p.add(o.problem("spec.cgroup", "%q: overlaps %q of %s", s.Cgroup, t.Cgroup, other.place))
			}
		}
		grouped = append(grouped, o)
	}
}

// within reports whether cgroup a is b or below it.
func within(a, b string) bool { return a == b || strings.HasPrefix(a, b+"/") }

// nodesExist checks references to nodes, where there are any Node objects.
func (p *parser) nodesExist() {
	var names []string
	for _, o := range p.nodes {
		names = append(names, o.object.Metadata.Name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, o := range p.workloads {
		if node := o.object.Spec.Node; node != "" && len(names) > 0 && !slices.Contains(names, node) {
			p.add(o.problem("spec.node", "%q: must be one of the nodes %s", node, strings.Join(names, ", ")))
		}
	}
}

// virtualAddresses keeps the addresses of services free of real machines, and
// each of their ports with one service.
func (p *parser) virtualAddresses() {
	real := map[string]place{}
	for _, o := range p.nodes {
		claimAll(real, o.place, o.object.Spec.Addresses)
	}
	for _, o := range p.workloads {
		claimAll(real, o.place, o.object.Spec.Addresses)
	}
	taken := map[netip.AddrPort]place{}
	for _, o := range p.services {
		for _, s := range o.object.Spec.Addresses {
			if owner, exists := real[s]; exists {
				p.add(o.problem("spec.addresses", "%q: must be virtual, but is that of %s", s, owner))
			}
			p.claimPorts(taken, o, s)
		}
	}
}

func (p *parser) claimPorts(taken map[netip.AddrPort]place, o placed[mesh.Service], s string) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return // told already
	}
	for _, port := range o.object.Spec.Ports {
		at := netip.AddrPortFrom(addr, port.Port)
		if first, exists := taken[at]; exists && first != o.place {
			p.add(o.problem("spec.addresses", "%q: port %d is also that of %s", s, port.Port, first))
			continue
		}
		taken[at] = o.place
	}
}

func claimAll(owners map[string]place, at place, addresses []string) {
	for _, addr := range addresses {
		owners[addr] = at
	}
}
