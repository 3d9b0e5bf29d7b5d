package feed

import (
	"errors"
	"fmt"
	"net/netip"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// convert reads a snapshot for a proxy of a trust domain, without the leaf and
// identity that the proxy adds. It is strict: whatever is malformed, ambiguous or
// missing is an error that names it, and the whole message is refused, since half
// a snapshot could say that a sealed workload is not.
func convert(msg *controlv1.Snapshot, own id.TrustDomain) (*snapshot.Snapshot, error) {
	if msg == nil {
		return nil, errors.New("snapshot: message holds none")
	}
	if msg.Version == "" {
		return nil, errors.New("snapshot: has no version")
	}
	s := &snapshot.Snapshot{
		Version:       msg.Version,
		KeyLog:        msg.KeyLog,
		Bundles:       make(map[id.TrustDomain]*snapshot.Bundle, len(msg.Bundles)),
		Endpoints:     make(map[netip.Addr]snapshot.Endpoint, len(msg.Endpoints)),
		PortEndpoints: map[netip.AddrPort]snapshot.Endpoint{},
		Services:      make(map[netip.AddrPort]snapshot.Service, len(msg.Services)),
		Identities:    make(map[id.Identity]bool, len(msg.Identities)),
	}
	var err error
	if s.Inbound, err = convertMode(msg.Inbound); err != nil {
		return nil, fmt.Errorf("snapshot: inbound %v", err)
	}
	if s.Outbound, err = convertMode(msg.Outbound); err != nil {
		return nil, fmt.Errorf("snapshot: outbound %v", err)
	}
	if err := addBundles(s, msg.Bundles, own); err != nil {
		return nil, fmt.Errorf("snapshot: %v", err)
	}
	if err := addIdentities(s, msg.Identities, own); err != nil {
		return nil, fmt.Errorf("snapshot: %v", err)
	}
	for _, e := range msg.Endpoints {
		if err := addEndpoint(s, e); err != nil {
			return nil, fmt.Errorf("snapshot: endpoint %q: %v", e.GetWorkload(), err)
		}
	}
	for _, v := range msg.Services {
		if err := addService(s, v); err != nil {
			return nil, fmt.Errorf("snapshot: service %q: %v", v.GetName(), err)
		}
	}
	return s, nil
}

func convertMode(m controlv1.Mode) (policy.Mode, error) {
	switch m {
	case controlv1.Mode_MODE_STRICT:
		return policy.Strict, nil
	case controlv1.Mode_MODE_PERMISSIVE:
		return policy.Permissive, nil
	}
	return policy.Strict, fmt.Errorf("mode %v: must be strict or permissive", m)
}

func addBundles(s *snapshot.Snapshot, bundles []*controlv1.Bundle, own id.TrustDomain) error {
	for _, b := range bundles {
		td, err := id.ParseTrustDomain(b.GetTrustDomain())
		if err != nil {
			return err
		}
		if s.Bundles[td] != nil {
			return fmt.Errorf("trust domain %s has two bundles", td.Name())
		}
		if s.Bundles[td], err = snapshot.ParseBundle(td, b.AnchorsPem); err != nil {
			return err
		}
	}
	if s.Bundles[own] == nil {
		return fmt.Errorf("no trust bundle for the own trust domain %s", own.Name())
	}
	return nil
}

func addIdentities(s *snapshot.Snapshot, identities []string, own id.TrustDomain) error {
	for _, text := range identities {
		i, err := id.Parse(text)
		if err != nil {
			return err
		}
		if i.TrustDomain() != own {
			return fmt.Errorf("identity %s: must be of the own trust domain %s", i, own.Name())
		}
		s.Identities[i] = true
	}
	return nil
}

// addEndpoint lists a workload by its addresses, or by address and port if only
// some ports are its own.
func addEndpoint(s *snapshot.Snapshot, msg *controlv1.Endpoint) error {
	e := snapshot.Endpoint{Workload: msg.GetWorkload()}
	if e.Workload == "" {
		return errors.New("has no name")
	}
	if msg.Identity != "" {
		var err error
		if e.Identity, err = id.Parse(msg.Identity); err != nil {
			return err
		}
	}
	for _, text := range msg.Addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("address %q: must be an IP address", text)
		}
		addr = addr.Unmap()
		if len(msg.Ports) == 0 {
			if other, taken := s.Endpoints[addr]; taken {
				return fmt.Errorf("address %s is that of %s too", addr, other.Workload)
			}
			s.Endpoints[addr] = e
		}
		for _, port := range msg.Ports {
			if port == 0 || port > 65535 {
				return fmt.Errorf("port %d: must be 1 to 65535", port)
			}
			at := netip.AddrPortFrom(addr, uint16(port))
			if other, taken := s.PortEndpoints[at]; taken {
				return fmt.Errorf("address %s is that of %s too", at, other.Workload)
			}
			s.PortEndpoints[at] = e
		}
	}
	return nil
}

func addService(s *snapshot.Snapshot, msg *controlv1.Service) error {
	service := snapshot.Service{Name: msg.GetName()}
	if service.Name == "" {
		return errors.New("has no name")
	}
	if len(msg.Targets) == 0 || len(msg.Addresses) == 0 {
		return errors.New("must have addresses and targets")
	}
	for _, text := range msg.Targets {
		target, err := parseAddrPort(text)
		if err != nil {
			return err
		}
		service.Targets = append(service.Targets, target)
	}
	for _, text := range msg.Addresses {
		at, err := parseAddrPort(text)
		if err != nil {
			return err
		}
		for _, target := range service.Targets {
			if target.Addr().Is4() != at.Addr().Is4() {
				return fmt.Errorf("target %s is of another family than address %s", target, at)
			}
		}
		if other, taken := s.Services[at]; taken {
			return fmt.Errorf("address %s is that of %s too", at, other.Name)
		}
		s.Services[at] = service
	}
	return nil
}

func parseAddrPort(text string) (netip.AddrPort, error) {
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("address %q: must be ip:port", text)
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}
