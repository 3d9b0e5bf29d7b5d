// Package snapshot is the immutable state one proxy judges a connection by: who
// it is, whom it trusts, where the others are, and the mode in force.
//
// A Snapshot never changes once it is in a Store. Readers take it once per
// connection with Store.Load and judge by that one to the end; a writer makes a
// new one and publishes it with Store.Publish. There is one writer (the feed).
package snapshot

import (
	"crypto/tls"
	"net/netip"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
)

// Snapshot is what one proxy knows at one moment. Its maps and pointers must
// not be changed after Publish.
type Snapshot struct {
	// Version is the control plane's name for the state below, for reports.
	Version string
	// Identity is who the workload is.
	Identity id.Identity
	// Leaf proves Identity: leaf certificate, issuer chain and key, with
	// Leaf.Leaf parsed. Nil until the first certificate was issued.
	Leaf *tls.Certificate
	// Bundles are the trust anchors by trust domain. A peer is verified with the
	// bundle of its own trust domain and no other.
	Bundles map[id.TrustDomain]*Bundle
	// Inbound and Outbound are the modes in force.
	Inbound, Outbound policy.Mode
	// Endpoints are the workloads by address. A workload that shares its address
	// with others (a process on a host) is listed under its ports instead.
	Endpoints map[netip.Addr]Endpoint
	// PortEndpoints are the workloads that own only some ports of an address;
	// they are looked up first.
	PortEndpoints map[netip.AddrPort]Endpoint
	// Services are virtual addresses and the endpoints that stand behind them.
	Services map[netip.AddrPort]Service
	// Identities are all live identities of the own trust domain. A peer of that
	// domain whose identity is not among them has been revoked.
	Identities map[id.Identity]bool
	// KeyLog allows the session secrets of lanes to be kept, and to be told to
	// whoever runs the mesh.
	KeyLog bool
}

// Endpoint is one workload as its peers see it.
type Endpoint struct {
	// Workload is its name, "namespace/name", for logs.
	Workload string
	// Identity is whom a client must find there; zero if the workload is known
	// to be outside the mesh.
	Identity id.Identity
}

// Sealed reports whether the endpoint bears an identity and must be sealed to.
func (e Endpoint) Sealed() bool { return !e.Identity.IsZero() }

// Service is a virtual address and what stands behind it.
type Service struct {
	// Name is "namespace/name", for logs.
	Name string
	// Targets are the addresses to choose from; never empty.
	Targets []netip.AddrPort
}

// Endpoint finds who is at an address and port.
func (s *Snapshot) Endpoint(addr netip.AddrPort) (Endpoint, bool) {
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if e, ok := s.PortEndpoints[addr]; ok {
		return e, true
	}
	e, ok := s.Endpoints[addr.Addr()]
	return e, ok
}

// Bundle is the bundle of a trust domain, or nil.
func (s *Snapshot) Bundle(td id.TrustDomain) *Bundle { return s.Bundles[td] }

// Admits reports whether an identity whose certificate verified is still live:
// identities of other trust domains are judged by their certificate alone.
func (s *Snapshot) Admits(peer id.Identity) bool {
	return peer.TrustDomain() != s.Identity.TrustDomain() || s.Identities[peer]
}
