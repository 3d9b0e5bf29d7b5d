package feed

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

type certificate = x509.Certificate

// script is a control plane that sends what a test tells it to. It speaks the
// protocol; that it can also break it is why it is not the real one.
type script struct {
	issuer  platform.Issuer
	bundle  *snapshot.Bundle
	issue   func(*controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) // instead of a good answer
	send    chan *controlv1.Snapshot
	reports chan *controlv1.ReportRequest
	address string
}

func newScript(t *testing.T) *script {
	t.Helper()
	anchor := must(ca.NewAnchor(domain, time.Now()))
	issuer := must(ca.NewIssuer(domain, anchor, time.Now()))
	s := &script{
		issuer:  platform.Issuer{Chain: []*x509.Certificate{issuer.Cert}, Key: issuer.Key},
		bundle:  must(snapshot.NewBundle(domain, []*x509.Certificate{anchor.Cert})),
		send:    make(chan *controlv1.Snapshot, 16),
		reports: make(chan *controlv1.ReportRequest, 1024),
	}
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewIdentityServiceHandler(s))
	mux.Handle(controlv1connect.NewDiscoveryServiceHandler(s))
	leaf := must(ca.SelfIssue(s.issuer, s.bundle, time.Hour, time.Now()))
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols), TLSConfig: mtls.Config{
		Leaf: leaf, Bundles: map[id.TrustDomain]*snapshot.Bundle{domain: s.bundle},
		PeerCert: mtls.PeerCertOptional, Protocols: []string{"h2"},
	}.TLS()}
	server.Protocols.SetHTTP2(true)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	s.address = l.Addr().String()
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.ServeTLS(l, "", "") }()
	t.Cleanup(func() { server.Close(); <-ended })
	return s
}

func (s *script) Certify(_ context.Context, req *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
	if s.issue != nil {
		return s.issue(req)
	}
	return s.certify(req.Csr, time.Hour)
}

func (s *script) certify(csr []byte, lifetime time.Duration) (*controlv1.CertifyResponse, error) {
	leaf, err := ca.Issue(ca.Request{
		Identity: must(id.Parse("spiffe://demo.local/ns/shop/sa/web")), CSR: csr, Lifetime: lifetime, Now: time.Now(),
	}, s.issuer, s.bundle)
	return &controlv1.CertifyResponse{Chain: leaf.Chain, Workload: "shop/web"}, err
}

func (s *script) Watch(ctx context.Context, _ *controlv1.WatchRequest, stream *connect.ServerStream[controlv1.WatchResponse]) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case next := <-s.send:
			if err := stream.Send(&controlv1.WatchResponse{Snapshot: next}); err != nil {
				return err
			}
		}
	}
}

func (s *script) Report(_ context.Context, req *controlv1.ReportRequest) (*controlv1.ReportResponse, error) {
	s.reports <- req
	return &controlv1.ReportResponse{}, nil
}

// good is a well-formed snapshot.
func (s *script) good(version string) *controlv1.Snapshot {
	msg := goodSnapshot(s.bundle.PEM())
	msg.Version = version
	return msg
}

// logs keeps what was logged, to be looked at while it still grows.
type logs struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	wrote chan struct{}
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.wrote)
	l.wrote = make(chan struct{})
	return l.buf.Write(b)
}

// await waits until words have been logged.
func (l *logs) await(t *testing.T, words string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		text, wrote := l.buf.String(), l.wrote
		l.mu.Unlock()
		if strings.Contains(text, words) {
			return
		}
		select {
		case <-wrote:
		case <-deadline:
			t.Fatalf("not logged within %s: %q; but:\n%s", patience, words, text)
		}
	}
}

// runFeed runs a feed of the script until the test ends.
func runFeed(t *testing.T, s *script, change ...func(*Config)) (*Feed, *snapshot.Store, *logs) {
	t.Helper()
	told := &logs{wrote: make(chan struct{})}
	cfg := Config{
		Control: "https://" + s.address, TrustDomain: domain, Anchors: s.bundle, Store: snapshot.NewStore(),
		Token: func() (string, error) { return "token", nil },
		Log:   slog.New(slog.NewTextHandler(told, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&cfg)
	}
	f := must(New(cfg))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return f, cfg.Store, told
}

func awaitVersion(t *testing.T, store *snapshot.Store, version string) *snapshot.Snapshot {
	t.Helper()
	deadline := time.After(patience)
	for {
		changed := store.Changed()
		if s := store.Load(); s.Version == version {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no snapshot %s within %s", version, patience)
		}
	}
}

func TestAMalformedSnapshotLeavesTheLastGoodOne(t *testing.T) {
	s := newScript(t)
	_, store, told := runFeed(t, s)
	s.send <- s.good("v1")
	first := awaitVersion(t, store, "v1")
	bad := s.good("v2")
	bad.Endpoints[1].Identity = "nonsense"
	s.send <- bad
	told.await(t, "malformed snapshot")
	if store.Load() != first {
		t.Error("the malformed snapshot, or part of it, is in force")
	}
	s.send <- s.good("v3")
	awaitVersion(t, store, "v3")
}

func TestNothingIsPublishedOfAMalformedFirstSnapshot(t *testing.T) {
	s := newScript(t)
	f, store, told := runFeed(t, s)
	s.send <- &controlv1.Snapshot{Version: "v0"}
	told.await(t, "malformed snapshot")
	select {
	case <-f.Ready():
		t.Error("ready")
	default:
	}
	if store.Load().Leaf != nil {
		t.Error("published")
	}
	s.send <- s.good("v1")
	awaitVersion(t, store, "v1")
	<-f.Ready()
}

func TestTheSameSnapshotTwiceIsPublishedOnce(t *testing.T) {
	s := newScript(t)
	_, store, _ := runFeed(t, s)
	s.send <- s.good("v1")
	first := awaitVersion(t, store, "v1")
	s.send <- s.good("v1")
	s.send <- s.good("v2")
	awaitVersion(t, store, "v2")
	if first.Version != "v1" {
		t.Error("a snapshot was changed after it was published")
	}
}

func TestAReportFollowsEachSnapshotAtOnce(t *testing.T) {
	s := newScript(t)
	edges := make([]*controlv1.Edge, maxEdges+1)
	for n := range edges {
		edges[n] = &controlv1.Edge{Peer: "10.0.0.1", Seal: "mtls"}
	}
	_, store, _ := runFeed(t, s, func(c *Config) {
		c.Version = "1.2.3"
		c.Edges = func() []*controlv1.Edge { return edges }
	})
	instance := ""
	for _, version := range []string{"v1", "v2", "v3"} {
		s.send <- s.good(version)
		held := awaitVersion(t, store, version)
		deadline := time.After(reportEvery / 2) // before the next would be due anyway
		for reported := ""; reported != version; {
			select {
			case r := <-s.reports:
				reported = r.SnapshotVersion
				if instance == "" {
					instance = r.Instance
				}
				if r.Instance != instance || r.Workload != "shop/web" || r.ProxyVersion != "1.2.3" || len(r.Edges) != maxEdges ||
					r.LeafSerial != serial(held.Leaf.Leaf) || r.LeafNotAfter != held.Leaf.Leaf.NotAfter.Unix() ||
					r.BundleVersions["demo.local"] != s.bundle.Version() {
					t.Errorf("report of %s, %d edges: %v", version, len(r.Edges), r.BundleVersions)
				}
			case <-deadline:
				t.Fatalf("no report of %s", version)
			}
		}
	}
}

func TestACertificateIsUsedOnlyIfPeersWouldAcceptIt(t *testing.T) {
	other := newScript(t)
	for name, tt := range map[string]struct {
		issue func(s *script, req *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error)
		want  string
	}{
		"no chain": {func(*script, *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
			return &controlv1.CertifyResponse{}, nil
		}, "chain is empty"},
		"garbage": {func(*script, *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
			return &controlv1.CertifyResponse{Chain: [][]byte{{1, 2, 3}}}, nil
		}, "number 1 of the chain"},
		"another's key": {func(s *script, _ *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
			leaf, err := ca.SelfIssue(s.issuer, s.bundle, time.Hour, time.Now())
			return &controlv1.CertifyResponse{Chain: leaf.Certificate}, err
		}, "for another key"},
		"another's anchor": {func(_ *script, req *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
			return other.certify(req.Csr, time.Hour)
		}, "chains to no trusted anchor"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t)
			s.issue = func(req *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) { return tt.issue(s, req) }
			s.send <- s.good("v1")
			_, store, told := runFeed(t, s)
			told.await(t, tt.want)
			if store.Load().Leaf != nil {
				t.Error("it is in use")
			}
		})
	}
}

func tooLate(*controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
	err := connect.NewError(connect.CodeUnauthenticated, &ca.Refusal{Code: ca.CodeTokenExpired, Message: "too late"})
	err.AddDetail(must(connect.NewErrorDetail(&controlv1.Refusal{Code: "token_expired", Message: "too late"})))
	return nil, err
}

func TestARefusalIsLoggedWithItsCode(t *testing.T) {
	s := newScript(t)
	s.issue = tooLate
	_, _, told := runFeed(t, s)
	told.await(t, "code=token_expired")
}

func TestWhoHasOneTokenGivesUpWhenItIsRefusedAndNothingElseIsLeft(t *testing.T) {
	s := newScript(t)
	s.issue = tooLate
	f, _, _ := runFeed(t, s)
	cfg := f.cfg
	cfg.OneToken, cfg.Store = true, snapshot.NewStore()
	ended := make(chan error, 1)
	go func() { ended <- must(New(cfg)).Run(t.Context()) }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "the only join token is refused") {
			t.Errorf("gave up with %v", err)
		}
	case <-time.After(patience):
		t.Fatalf("still trying after %s", patience)
	}
	issued := func(by *script) held {
		leaf := must(ca.SelfIssue(by.issuer, by.bundle, time.Hour, time.Now()))
		return held{leaf: leaf, chain: append([]*x509.Certificate{leaf.Leaf}, by.issuer.Chain...)}
	}
	refused := issued(s)
	refused.refused = true
	for name, h := range map[string]struct {
		held held
		want bool
	}{
		"a good leaf":            {issued(s), false},
		"one that was refused":   {refused, true},
		"one nobody will accept": {issued(newScript(t)), true},
	} {
		alone := must(New(cfg))
		alone.held = h.held
		_, err := tooLate(nil)
		if got := alone.hopeless(err); got != h.want {
			t.Errorf("with %s: gives up %v", name, got)
		}
	}
}

func TestControlPlanesAreNamedInTwoWays(t *testing.T) {
	for address, want := range map[string]string{
		"unix:///run/control.sock": "https://control",
		"https://10.0.0.1:15012":   "https://10.0.0.1:15012",
		"https://[fd00::1]:15012/": "https://[fd00::1]:15012",
		"https://control:15012":    "https://control:15012",
	} {
		if at, err := parseEndpoint(address); err != nil || at.url != want {
			t.Errorf("%s: %q, %v; want %q", address, at.url, err, want)
		}
	}
	for _, address := range []string{
		"", "control:15012", "http://a:1", "https://a", "https://:1", "https://a:1/x", "https://u@a:1",
		"https://a:1?x", "unix://", "unix:///", "unix://host/path", "unix:relative", "tcp://a:1",
	} {
		if _, err := parseEndpoint(address); err == nil || !strings.Contains(err.Error(), "must be unix:///path or https://host:port") {
			t.Errorf("%q: error %v", address, err)
		}
	}
}

func TestAConfigurationIsRefusedWithEveryProblem(t *testing.T) {
	_, err := New(Config{})
	for _, want := range []string{"control plane", "trust domain is empty", "no trust anchors", "no source of join tokens", "no store", "no logger"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}
