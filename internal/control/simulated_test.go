package control_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// simulation is a control plane and a proxy on a network without sockets, in a
// synctest bubble: hours pass in a moment.
type simulation struct {
	t        *testing.T
	platform *memory
	network  *switchboard
	logs     *logs
	server   *control.Server // newest
	stop     func()          // it
}

// switchboard leads the proxy to the control plane that runs, if any does.
type switchboard struct {
	mu  sync.Mutex
	now *pipes
}

func (s *switchboard) dial(ctx context.Context) (net.Conn, error) {
	s.mu.Lock()
	now := s.now
	s.mu.Unlock()
	return now.dial(ctx)
}

func newSimulation(t *testing.T, lifetime time.Duration) *simulation {
	t.Helper()
	sim := &simulation{t: t, platform: newMemory(t, time.Now(), lifetime), network: &switchboard{}, logs: &logs{}}
	sim.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("control plane logged:\n%s", sim.logs)
		}
	})
	return sim
}

func (sim *simulation) start() {
	sim.t.Helper()
	network := newPipes()
	sim.network.mu.Lock()
	sim.network.now = network
	sim.network.mu.Unlock()
	server, err := control.New(control.Config{Platform: sim.platform, Listeners: []net.Listener{network}, Log: sim.logs.logger()})
	if err != nil {
		sim.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	<-server.Ready()
	sim.server = server
	sim.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			sim.t.Errorf("control plane: %v", err)
		}
	}
}

func (sim *simulation) proxy() *proxy {
	return startProxy(sim.t, feed.Config{
		Control:     "unix:///simulated",
		Dial:        sim.network.dial,
		TrustDomain: domain,
		Anchors:     sim.platform.bundle(),
		Token:       once(sim.platform.token(time.Now())),
	})
}

// held is a leaf that a store held, and when it came.
type held struct {
	serial              string
	came                time.Time
	notBefore, notAfter time.Time
}

// follow returns the leaves that a store holds, one after the other, within a time.
func follow(store *snapshot.Store, until time.Duration) (leaves []held) {
	end := time.NewTimer(until)
	defer end.Stop()
	for {
		changed := store.Changed()
		if leaf := store.Load().Leaf; leaf != nil {
			serial := ca.SerialHex(leaf.Leaf)
			if len(leaves) == 0 || leaves[len(leaves)-1].serial != serial {
				leaves = append(leaves, held{serial, time.Now(), leaf.Leaf.NotBefore, leaf.Leaf.NotAfter})
			}
		}
		select {
		case <-changed:
		case <-end.C:
			return leaves
		}
	}
}

func TestLeavesAreRenewedAtHalfToSeventyPercentOfTheirLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = 30 * time.Minute
		sim := newSimulation(t, lifetime)
		defer func() { sim.stop() }()
		p := sim.proxy()
		defer p.stop()
		leaves := follow(p.store, 6*time.Hour)
		if len(leaves) < 17 {
			t.Fatalf("%d leaves in 6 h, want one per 70 %% of 30 minutes at least", len(leaves))
		}
		early, late := time.Hour, time.Duration(0)
		for n := 1; n < len(leaves); n++ {
			before, after := leaves[n-1], leaves[n]
			if !after.came.Before(before.notAfter) {
				t.Errorf("leaf %d came when the one before had ended", n)
			}
			age, whole := after.came.Sub(before.notBefore), before.notAfter.Sub(before.notBefore)
			if age < whole/2 || age > whole*7/10+2*time.Second { // dates of certificates are whole seconds
				t.Errorf("leaf %d was renewed after %s of %s", n-1, age, whole)
			}
			early, late = min(early, age), max(late, age)
		}
		if late-early < time.Minute {
			t.Errorf("renewals came at %s to %s: no jitter", early, late)
		}
		t.Logf("%d leaves, renewed at %s to %s of %s", len(leaves), early, late, lifetime+mtls.Skew)
	})
}

func TestTheOldLeafServesWhileTheControlPlaneIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, 30*time.Minute)
		p := sim.proxy()
		defer p.stop()
		first := p.ready()
		sim.stop()
		away := first.Leaf.Leaf.NotAfter.Add(-time.Minute)
		if leaves := follow(p.store, time.Until(away)); len(leaves) != 1 {
			t.Fatalf("%d leaves while the control plane is away", len(leaves))
		}
		if s := p.store.Load(); s.Version != first.Version || s.Leaf != first.Leaf {
			t.Error("the last snapshot did not stay")
		}
		if n := p.logs.count("not renewed, the present one serves on"); n < 8 || n > 40 {
			t.Errorf("%d tries in 10 to 15 minutes, want one per minute at most after the first few", n)
		}
		sim.start()
		defer func() { sim.stop() }()
		if leaves := follow(p.store, time.Minute); len(leaves) != 2 {
			t.Errorf("not renewed within a minute of its return: %v", leaves)
		}
	})
}

func TestAnExpiredLeafIsReplacedOnlyByANewToken(t *testing.T) {
	for _, hasToken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			sim := newSimulation(t, 30*time.Minute)
			tokens := make(chan string, 1)
			tokens <- sim.platform.token(time.Now())
			p := startProxy(t, feed.Config{
				Control: "unix:///simulated", Dial: sim.network.dial, TrustDomain: domain, Anchors: sim.platform.bundle(),
				Token: func() (string, error) {
					select {
					case token := <-tokens:
						return token, nil
					default:
						return "", nil
					}
				},
			})
			defer p.stop()
			p.ready()
			sim.stop()
			follow(p.store, time.Hour)
			sim.start()
			defer func() { sim.stop() }()
			if hasToken {
				tokens <- sim.platform.token(time.Now())
			}
			leaves := follow(p.store, 5*time.Minute)
			if rejoined := len(leaves) == 2; rejoined != hasToken {
				t.Errorf("token %v: %d leaves", hasToken, len(leaves))
			}
			if p.logs.count("certificate has expired", "no join token") == 0 {
				t.Error("the log does not say what is wrong")
			}
		})
	}
}

func TestATokenIsNotSpentOnAControlPlaneThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, 30*time.Minute)
		sim.stop()
		token := sim.platform.token(time.Now())
		p := startProxy(t, feed.Config{
			Control: "unix:///simulated", Dial: sim.network.dial, TrustDomain: domain, Anchors: sim.platform.bundle(),
			Token: func() (string, error) { return token, nil },
		})
		defer p.stop()
		<-time.After(5 * time.Minute)
		sim.start()
		defer func() { sim.stop() }()
		<-time.After(time.Minute + time.Second)
		select {
		case <-p.feed.Ready():
		default:
			t.Error("not joined a minute after the control plane came")
		}
	})
}

func TestAServersOwnLeafIsRenewedBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, 30*time.Minute)
		defer func() { sim.stop() }()
		<-time.After(24 * time.Hour)
		p := sim.proxy()
		defer p.stop()
		p.ready()
		if n := sim.logs.count("own certificate made"); n < 48 || n > 100 {
			t.Errorf("%d leaves in a day, want one per 15 minutes", n)
		}
	})
}

// freezing is a connection that can stop to carry anything, as one does whose
// other end has lost its power.
type freezing struct {
	net.Conn
	frozen, closed chan struct{}
	once           sync.Once
}

func (f *freezing) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	select {
	case <-f.frozen:
		<-f.closed // nothing is heard any more
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (f *freezing) Write(b []byte) (int, error) {
	select {
	case <-f.frozen:
		return len(b), nil // nobody hears it
	default:
		return f.Conn.Write(b)
	}
}

func (f *freezing) Close() error {
	f.once.Do(func() { close(f.closed) })
	return f.Conn.Close()
}

// rude makes a client with a leaf of web, whose connections freeze with frozen.
func (sim *simulation) rude(frozen chan struct{}) rude {
	dial := func(ctx context.Context) (net.Conn, error) {
		conn, err := sim.network.dial(ctx)
		return &freezing{Conn: conn, frozen: frozen, closed: make(chan struct{})}, err
	}
	joining := newRude(sim.t, dial, sim.platform.bundle(), nil, nil)
	key := newKey(sim.t)
	resp, err := joining.identity.Certify(context.Background(), &controlv1.CertifyRequest{
		Csr: csr(sim.t, &x509.CertificateRequest{}, key), JoinToken: sim.platform.token(time.Now()),
	})
	if err != nil {
		sim.t.Fatal(err)
	}
	leaf := &tls.Certificate{Certificate: resp.Chain, PrivateKey: key, Leaf: must(x509.ParseCertificate(resp.Chain[0]))}
	return newRude(sim.t, dial, sim.platform.bundle(), leaf, nil)
}

func TestDeadPeersVanishAndQuietOnesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, 24*time.Hour)
		defer func() { sim.stop() }()
		frozen := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := sim.rude(frozen).discovery.Watch(ctx, &controlv1.WatchRequest{Instance: "a"})
		if err != nil || !stream.Receive() {
			t.Fatal(err, stream.Err())
		}
		<-time.After(time.Hour) // nothing happens in the mesh
		if n := sim.server.Connected(); n != 1 {
			t.Fatalf("%d connected after a quiet hour, want 1", n)
		}
		close(frozen)
		<-time.After(45 * time.Second)
		if n := sim.server.Connected(); n != 0 {
			t.Errorf("%d connected 45 s after the peer died, want 0", n)
		}
	})
}

func TestAStreamEndsWithItsLeaf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, 30*time.Minute)
		defer func() { sim.stop() }()
		client := sim.rude(make(chan struct{}))
		stream, err := client.discovery.Watch(t.Context(), &controlv1.WatchRequest{Instance: "a"})
		if err != nil || !stream.Receive() {
			t.Fatal(err, stream.Err())
		}
		began := time.Now()
		for stream.Receive() {
		}
		if lasted := time.Since(began); lasted < 29*time.Minute || lasted > 31*time.Minute || code(stream.Err()) != ca.CodeCertificateUntrusted {
			t.Errorf("ended after %s with %v, want with the leaf's 30 minutes", lasted, stream.Err())
		}
		<-time.After(time.Second)
		if _, err := client.discovery.Report(t.Context(), &controlv1.ReportRequest{Instance: "a"}); code(err) != ca.CodeCertificateUntrusted {
			t.Errorf("report on the same connection: %v, want %s", err, ca.CodeCertificateUntrusted)
		}
	})
}

func TestWhoDoesNotFinishTheHandshakeIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, time.Hour)
		defer func() { sim.stop() }()
		conn, err := sim.network.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatal(err)
		}
		if lasted := time.Since(began); lasted > 6*time.Second {
			t.Errorf("a silent connection was held for %s", lasted)
		}
	})
}

func TestTooManyCertifyAtOnceAreToldToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := newSimulation(t, time.Hour)
		defer func() { sim.stop() }()
		release := make(chan struct{})
		sim.platform.hold(release)
		const callers = 80 // 64 are at work at a time
		results := make(chan error, callers)
		for range callers {
			client := newRude(t, sim.network.dial, sim.platform.bundle(), nil, nil)
			req := &controlv1.CertifyRequest{Csr: csr(t, &x509.CertificateRequest{}, newKey(t)), JoinToken: sim.platform.token(time.Now())}
			go func() {
				_, err := client.identity.Certify(context.Background(), req)
				results <- err
			}()
		}
		<-time.After(3 * time.Second)
		close(release)
		issued, overloaded := 0, 0
		for range callers {
			switch err := <-results; {
			case err == nil:
				issued++
			case code(err) == ca.CodeOverloaded:
				overloaded++
			default:
				t.Error(err)
			}
		}
		if issued != 64 || overloaded != 16 {
			t.Errorf("%d issued, %d refused; want 64 and 16", issued, overloaded)
		}
	})
}
