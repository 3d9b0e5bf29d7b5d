package proxy

import (
	"net/netip"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// route is where an outbound connection goes and how.
type route struct {
	to       netip.AddrPort
	identity id.Identity // whom to find there; zero: plaintext
	workload string      // "namespace/name", empty if unknown
}

func (r route) sealed() bool { return !r.identity.IsZero() }

// decideOutbound says where a connection meant for dst goes. pick chooses one of
// n endpoints of a service. Pure but for pick.
func decideOutbound(s *snapshot.Snapshot, dst netip.AddrPort, pick func([]netip.AddrPort) netip.AddrPort) (route, *policy.Refusal) {
	to := dst
	if service, ok := s.Services[dst]; ok {
		to = pick(service.Targets)
	}
	endpoint, known := s.Endpoint(to)
	way := route{to: to, identity: endpoint.Identity, workload: endpoint.Workload}
	switch {
	case known && endpoint.Sealed() && s.Leaf == nil:
		return route{}, refuse(policy.ReasonNotReady, to.String(), "this proxy has no certificate yet")
	case known && endpoint.Sealed():
		return way, nil
	}
	if r := decideUnsealed(s, to); r != nil {
		return route{}, r
	}
	return way, nil
}

// decideUnsealed says whether a destination may be reached in plaintext.
func decideUnsealed(s *snapshot.Snapshot, to netip.AddrPort) *policy.Refusal {
	endpoint, known := s.Endpoint(to)
	switch {
	case known && endpoint.Sealed():
		return refuse(policy.ReasonExpectedSeal, to.String(), endpoint.Workload+" is sealed and must be sealed to")
	case s.Outbound == policy.Permissive:
		return nil
	case known:
		return refuse(policy.ReasonUnsealedDestination, to.String(), endpoint.Workload+" is outside the mesh and outbound is strict")
	}
	return refuse(policy.ReasonUnknownDestination, to.String(), "no identity is known there and outbound is strict")
}

// caller is what is known of who connects, from its address alone.
type caller uint8

const (
	callerUnknown  caller = iota // may seal or not: it may speak first
	callerSealed                 // a sealed workload: must seal
	callerUnsealed               // known to be outside the mesh: cannot seal
)

func decideCaller(s *snapshot.Snapshot, client netip.Addr) caller {
	endpoint, known := s.Endpoints[client]
	switch {
	case !known:
		return callerUnknown
	case endpoint.Sealed():
		return callerSealed
	}
	return callerUnsealed
}

// decidePlaintext says whether a caller that does not seal may reach the workload.
func decidePlaintext(s *snapshot.Snapshot, who caller, client netip.AddrPort) *policy.Refusal {
	switch {
	case who == callerSealed:
		return refuse(policy.ReasonExpectedSeal, client.String(), "a sealed workload connected without sealing")
	case s.Inbound == policy.Permissive:
		return nil
	}
	return refuse(policy.ReasonPlaintext, client.String(), "it did not seal and inbound is strict")
}

// decidePeer says whether a verified identity is still admitted.
func decidePeer(s *snapshot.Snapshot, peer id.Identity) *policy.Refusal {
	if s.Admits(peer) {
		return nil
	}
	return refuse(policy.ReasonRevoked, peer.String(), "no workload bears this identity any more")
}

// decideStream says whether a peer may open a stream to dst on a lane that came
// to own. A sidecar carries nothing to any other address: the destination is the
// lane's own.
func decideStream(s *snapshot.Snapshot, peer id.Identity, own, dst netip.AddrPort) *policy.Refusal {
	if dst != own {
		return refuse(policy.ReasonWrongDestination, peer.String(), "asked for "+dst.String()+" on a lane to "+own.String())
	}
	return decidePeer(s, peer)
}

func refuse(reason policy.Reason, peer, detail string) *policy.Refusal {
	return &policy.Refusal{Reason: reason, Peer: peer, Detail: detail}
}
