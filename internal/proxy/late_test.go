package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
	"github.com/sealmesh/sealmesh/test/pki"
)

// A decision takes time to carry out: a dial, a handshake. The snapshot that comes
// meanwhile is swept before there is anything to judge; what comes about later is
// judged all the same.

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newProxy(t *testing.T, now *snapshot.Snapshot) *Proxy {
	t.Helper()
	store := snapshot.NewStore()
	store.Publish(now)
	p, err := New(Config{
		Snapshots: store, Outbound: listenTCP(t), Inbound: listenTCP(t), Drain: time.Second,
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()), MaxConnections: 100,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlaintextDecidedBeforeStrictIsCut(t *testing.T) {
	for mode, want := range map[policy.Mode]bool{policy.Strict: true, policy.Permissive: false} {
		p := newProxy(t, known(mode, mode))
		to := netip.AddrPortFrom(oldAddr, 80)
		if _, r := decideOutbound(known(policy.Permissive, policy.Permissive), to, first); r != nil {
			t.Fatal(r)
		}
		cut := false
		c := &connection{direction: Outbound, server: to}
		p.carry(c, &carriage{
			seal:  SealPlaintext,
			judge: func(s *snapshot.Snapshot) *policy.Refusal { return decideUnsealed(s, to) },
			cut:   func() { cut = true },
		})
		if cut != want {
			t.Errorf("outbound has become %s meanwhile: cut %v", mode, cut)
		}
	}
}

func TestLaneOfAPeerRevokedDuringItsHandshakeIsEnded(t *testing.T) {
	domain := pki.New(t, "demo.local")
	leaf := domain.Leaf(web)
	state := func(identities ...id.Identity) *snapshot.Snapshot {
		s := &snapshot.Snapshot{Identity: web, Leaf: leaf, Bundles: pki.Bundles(domain), Identities: map[id.Identity]bool{}}
		for _, i := range identities {
			s.Identities[i] = true
		}
		return s
	}
	for _, c := range []struct {
		name  string
		later *snapshot.Snapshot
		want  policy.Reason
	}{
		{"revoked", state(web), policy.ReasonRevoked},
		{"still there", state(web, curl), policy.ReasonNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newProxy(t, c.later)
			client, err := net.Dial("tcp", p.Inbound.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			go func() {
				config := mtls.Config{Leaf: domain.Leaf(curl), Bundles: pki.Bundles(domain), Protocols: []string{mtls.ALPN}}
				_, _ = lane.Client(context.Background(), client.(*net.TCPConn), config.TLS())
			}()
			server, err := p.Inbound.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			l, err := p.acceptLane(t.Context(), state(web, curl), &connection{direction: Inbound}, server, callerSealed)
			if err != nil {
				t.Fatal(err)
			}
			defer p.closeLink(l)
			got := policy.ReasonNone
			if r := l.ended.Load(); r != nil {
				got = r.Reason
			}
			if got != c.want {
				t.Errorf("the lane was ended for %q, want %q", got, c.want)
			}
		})
	}
}
