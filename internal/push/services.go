package push

import (
	"fmt"
	"net/netip"
	"slices"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
)

// services lists what stands behind each virtual address: one entry per service
// port and address family, so that any target of an entry is right for any of its
// addresses. An entry without targets is left out: its address then is a
// destination nobody is known at, and is treated as such.
func (v *View) services() error {
	for _, s := range v.State.Services {
		virtual, err := addresses(s.Spec.Addresses)
		if err != nil {
			return fmt.Errorf("service %s: %v", qualified(s.Metadata), err)
		}
		if len(virtual) == 0 {
			continue
		}
		for _, port := range s.Spec.Ports {
			for _, is4 := range []bool{true, false} {
				entry := &controlv1.Service{
					Name:      qualified(s.Metadata),
					Addresses: atPort(virtual, is4, port.Port),
					Targets:   v.targets(s, port, is4),
				}
				if len(entry.Addresses) > 0 && len(entry.Targets) > 0 {
					v.Snapshot.Services = append(v.Snapshot.Services, entry)
				}
			}
		}
	}
	return nil
}

// targets are the addresses of one family at which the workloads that a service
// selects own its target port.
func (v *View) targets(s mesh.Service, port mesh.ServicePort, is4 bool) []string {
	target := port.TargetPort
	if target == 0 {
		target = port.Port
	}
	var out []string
	for _, w := range v.State.Workloads {
		if w.Metadata.Namespace != s.Metadata.Namespace || !selects(s.Spec.Selector, w.Metadata.Labels) {
			continue
		}
		addrs, _ := addresses(w.Spec.Addresses) // read by a step before
		if owned := v.ports(w.Spec, addrs); len(owned) == 0 || slices.Contains(owned, uint32(target)) {
			out = append(out, atPort(addrs, is4, target)...)
		}
	}
	return out
}

// selects reports whether labels hold all that the selector demands. An empty
// selector selects nothing.
func selects(selector, labels map[string]string) bool {
	for key, want := range selector {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return len(selector) > 0
}

func atPort(addrs []netip.Addr, is4 bool, port uint16) []string {
	var out []string
	for _, a := range addrs {
		if a.Is4() == is4 {
			out = append(out, netip.AddrPortFrom(a, port).String())
		}
	}
	return out
}
