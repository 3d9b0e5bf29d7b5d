package proxy

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

func mustID(s string) id.Identity {
	i, err := id.Parse(s)
	if err != nil {
		panic(err)
	}
	return i
}

var (
	curl    = mustID("spiffe://demo.local/ns/shop/sa/curl")
	web     = mustID("spiffe://demo.local/ns/shop/sa/web")
	gone    = mustID("spiffe://demo.local/ns/shop/sa/gone")
	foreign = mustID("spiffe://other.example/ns/shop/sa/web")

	webAddr    = netip.MustParseAddr("10.0.0.2")
	oldAddr    = netip.MustParseAddr("10.0.0.9")
	hostAddr   = netip.MustParseAddr("10.0.0.7")
	virtual    = netip.MustParseAddrPort("10.96.0.1:80")
	strangerIP = netip.MustParseAddr("192.0.2.1")
)

func known(outbound, inbound policy.Mode) *snapshot.Snapshot {
	return &snapshot.Snapshot{
		Identity: curl, Leaf: &tls.Certificate{},
		Outbound: outbound, Inbound: inbound,
		Endpoints: map[netip.Addr]snapshot.Endpoint{
			webAddr: {Workload: "shop/web", Identity: web},
			oldAddr: {Workload: "shop/old"},
		},
		PortEndpoints: map[netip.AddrPort]snapshot.Endpoint{
			netip.AddrPortFrom(hostAddr, 5432): {Workload: "shop/db", Identity: web},
		},
		Services:   map[netip.AddrPort]snapshot.Service{virtual: {Name: "shop/web", Targets: []netip.AddrPort{netip.AddrPortFrom(webAddr, 8080)}}},
		Identities: map[id.Identity]bool{curl: true, web: true},
	}
}

func first(targets []netip.AddrPort) netip.AddrPort { return targets[0] }

func TestOutboundDecisions(t *testing.T) {
	at := netip.AddrPortFrom
	for _, c := range []struct {
		name   string
		mode   policy.Mode
		to     netip.AddrPort
		sealed id.Identity
		goes   netip.AddrPort
		reason policy.Reason
	}{
		{"a sealed workload, strict", policy.Strict, at(webAddr, 80), web, at(webAddr, 80), ""},
		{"a sealed workload, permissive", policy.Permissive, at(webAddr, 80), web, at(webAddr, 80), ""},
		{"a service", policy.Strict, virtual, web, at(webAddr, 8080), ""},
		{"a port of a host workload", policy.Strict, at(hostAddr, 5432), web, at(hostAddr, 5432), ""},
		{"another port of that host, strict", policy.Strict, at(hostAddr, 22), id.Identity{}, netip.AddrPort{}, policy.ReasonUnknownDestination},
		{"unknown, strict", policy.Strict, at(strangerIP, 80), id.Identity{}, netip.AddrPort{}, policy.ReasonUnknownDestination},
		{"unknown, permissive", policy.Permissive, at(strangerIP, 80), id.Identity{}, at(strangerIP, 80), ""},
		{"outside the mesh, strict", policy.Strict, at(oldAddr, 80), id.Identity{}, netip.AddrPort{}, policy.ReasonUnsealedDestination},
		{"outside the mesh, permissive", policy.Permissive, at(oldAddr, 80), id.Identity{}, at(oldAddr, 80), ""},
	} {
		got, refusal := decideOutbound(known(c.mode, policy.Strict), c.to, first)
		if got.to != c.goes || got.identity != c.sealed || reasonOf(refusal) != c.reason {
			t.Errorf("%s: goes to %v as %v, refusal %v", c.name, got.to, got.identity, refusal)
		}
	}
}

func TestNothingIsSentInClearForLackOfACertificate(t *testing.T) {
	s := known(policy.Permissive, policy.Permissive)
	s.Leaf = nil
	if _, refusal := decideOutbound(s, netip.AddrPortFrom(webAddr, 80), first); reasonOf(refusal) != policy.ReasonNotReady {
		t.Errorf("refusal is %v", refusal)
	}
}

func TestTheEmptySnapshotRefusesEverything(t *testing.T) {
	s := snapshot.NewStore().Load()
	if _, refusal := decideOutbound(s, netip.AddrPortFrom(webAddr, 80), first); refusal == nil {
		t.Error("outbound passes")
	}
	if decidePlaintext(s, callerUnknown, netip.AddrPortFrom(strangerIP, 999)) == nil {
		t.Error("inbound plaintext passes")
	}
	if decidePeer(s, web) == nil && s.Identity.TrustDomain() == web.TrustDomain() {
		t.Error("a peer is admitted")
	}
}

func TestInboundDecisions(t *testing.T) {
	strict, permissive := known(policy.Strict, policy.Strict), known(policy.Strict, policy.Permissive)
	for client, want := range map[netip.Addr]caller{webAddr: callerSealed, oldAddr: callerUnsealed, strangerIP: callerUnknown, hostAddr: callerUnknown} {
		if got := decideCaller(strict, client); got != want {
			t.Errorf("%v is caller %d, must be %d", client, got, want)
		}
	}
	at := netip.AddrPortFrom(strangerIP, 999)
	for _, c := range []struct {
		s    *snapshot.Snapshot
		who  caller
		want policy.Reason
	}{
		{strict, callerUnknown, policy.ReasonPlaintext},
		{strict, callerUnsealed, policy.ReasonPlaintext},
		{strict, callerSealed, policy.ReasonExpectedSeal},
		{permissive, callerUnknown, ""},
		{permissive, callerUnsealed, ""},
		{permissive, callerSealed, policy.ReasonExpectedSeal},
	} {
		if got := reasonOf(decidePlaintext(c.s, c.who, at)); got != c.want {
			t.Errorf("plaintext from caller %d under %v: %q, must be %q", c.who, c.s.Inbound, got, c.want)
		}
	}
}

func TestStreamDecisions(t *testing.T) {
	s := known(policy.Strict, policy.Strict)
	own := netip.AddrPortFrom(webAddr, 80)
	for _, c := range []struct {
		peer id.Identity
		dst  netip.AddrPort
		want policy.Reason
	}{
		{web, own, ""},
		{gone, own, policy.ReasonRevoked},
		{foreign, own, ""}, // its certificate verified against its own domain's bundle
		{web, netip.MustParseAddrPort("127.0.0.1:15090"), policy.ReasonWrongDestination},
		{web, netip.AddrPortFrom(webAddr, 81), policy.ReasonWrongDestination},
	} {
		if got := reasonOf(decideStream(s, c.peer, own, c.dst)); got != c.want {
			t.Errorf("%v to %v: %q, must be %q", c.peer, c.dst, got, c.want)
		}
	}
}

func reasonOf(r *policy.Refusal) policy.Reason {
	if r == nil {
		return ""
	}
	return r.Reason
}
