package control_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// rude is a client without the feed's good manners.
type rude struct {
	identity  controlv1connect.IdentityServiceClient
	discovery controlv1connect.DiscoveryServiceClient
}

// newRude makes a client that shows leaf, if there is one, over a dialled connection.
func newRude(t *testing.T, dial func(context.Context) (net.Conn, error), anchors *snapshot.Bundle, leaf *tls.Certificate, now func() time.Time) rude {
	t.Helper()
	client := newClient(t, dial, anchors, leaf, now)
	return rude{
		identity:  controlv1connect.NewIdentityServiceClient(client, "https://control", connect.WithGRPC()),
		discovery: controlv1connect.NewDiscoveryServiceClient(client, "https://control", connect.WithGRPC()),
	}
}

// newClient is one connection as HTTP sees it.
func newClient(t *testing.T, dial func(context.Context) (net.Conn, error), anchors *snapshot.Bundle, leaf *tls.Certificate, now func() time.Time) *http.Client {
	t.Helper()
	secure := mtls.Config{
		Leaf:      leaf,
		Bundles:   map[id.TrustDomain]*snapshot.Bundle{domain: anchors},
		Authorize: mtls.Expect(ca.ControlIdentity(domain)),
		Protocols: []string{"h2"},
		Now:       now,
	}.TLS()
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return tls.Client(raw, secure), nil
		},
	}
	transport.Protocols.SetHTTP2(true)
	conn, err := transport.NewClientConn(context.Background(), "https", "control:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &http.Client{Transport: conn}
}

func (w *world) rude(leaf *tls.Certificate) rude {
	return newRude(w.t, w.dial, w.anchors(), leaf, nil)
}

// admits reports whether a leaf gets through the handshake. In TLS 1.3 a client
// learns so with the first record that the server sends after its own.
func (w *world) admits(leaf *tls.Certificate) bool {
	w.t.Helper()
	raw, err := w.dial(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, mtls.Config{
		Leaf: leaf, Bundles: map[id.TrustDomain]*snapshot.Bundle{domain: w.anchors()}, Protocols: []string{"h2"},
	}.TLS())
	_, err = conn.Read(make([]byte, 1)) // of the SETTINGS frame
	if err != nil && !strings.Contains(err.Error(), "bad certificate") {
		w.t.Fatal(err)
	}
	return err == nil
}

func (w *world) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", w.socket)
}

// tcp dials an address.
func tcp(address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	}
}

// newTLSListener shakes hands with whoever comes, and says no more.
func newTLSListener(cfg mtls.Config) (net.Listener, error) {
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg.TLS())
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	return l, nil
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func csr(t *testing.T, template *x509.CertificateRequest, key any) []byte {
	t.Helper()
	return must(x509.CreateCertificateRequest(rand.Reader, template, key))
}

// join gets a leaf for a workload by hand.
func (w *world) join(workload string) *tls.Certificate {
	w.t.Helper()
	key := newKey(w.t)
	resp, err := w.rude(nil).identity.Certify(context.Background(), &controlv1.CertifyRequest{
		Csr: csr(w.t, &x509.CertificateRequest{}, key), JoinToken: w.token(workload),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: resp.Chain, PrivateKey: key, Leaf: must(x509.ParseCertificate(resp.Chain[0]))}
}

// code is the refusal's code that an error carries as its detail.
func code(err error) ca.Code {
	var e *connect.Error
	if !errors.As(err, &e) {
		return ""
	}
	for _, d := range e.Details() {
		if v, err := d.Value(); err == nil {
			if r, ok := v.(*controlv1.Refusal); ok {
				return ca.Code(r.Code)
			}
		}
	}
	return ""
}

func TestAProxyJoinsAndLearnsTheMesh(t *testing.T) {
	w := newWorld(t)
	s := w.proxy("web").ready()
	if s.Identity != identity("web") {
		t.Errorf("identity %s, want %s", s.Identity, identity("web"))
	}
	if _, err := mtls.Verify([]*x509.Certificate{s.Leaf.Leaf, must(x509.ParseCertificate(s.Leaf.Certificate[1]))}, s.Bundles, time.Now()); err != nil {
		t.Errorf("leaf: %v", err)
	}
	if s.Inbound != policy.Strict || s.Outbound != policy.Strict {
		t.Errorf("modes %v, %v, want strict both", s.Inbound, s.Outbound)
	}
	if !s.Admits(identity("curl")) || s.Admits(identity("legacy")) || s.Admits(identity("stranger")) {
		t.Errorf("live identities %v, want curl and web", s.Identities)
	}
	if len(s.Endpoints) != 3 {
		t.Errorf("%d endpoints, want 3", len(s.Endpoints))
	}
	if s.Version == "" || s.Bundle(domain).Version() != w.anchors().Version() {
		t.Error("version or bundle is missing")
	}
}

func TestAProxyOnAnotherMachineJoinsOverTCP(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.cfg.Listen = freeAddress(t)
	w.start()
	p := w.proxy("web", func(c *feed.Config) { c.Control = "https://" + w.cfg.Listen })
	if s := p.ready(); s.Identity != identity("web") {
		t.Errorf("identity %s", s.Identity)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	defer l.Close()
	return l.Addr().String()
}

func TestNamesInARequestAreIgnored(t *testing.T) {
	w := newWorld(t)
	key := newKey(t)
	resp, err := w.rude(nil).identity.Certify(context.Background(), &controlv1.CertifyRequest{
		Csr: csr(t, &x509.CertificateRequest{
			Subject:  pkix.Name{CommonName: "web"},
			DNSNames: []string{"web.shop.demo.local"},
			URIs:     []*url.URL{identity("web").URL()},
		}, key),
		JoinToken: w.token("curl"),
		Workload:  "shop/web",
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := must(x509.ParseCertificate(resp.Chain[0]))
	got, err := id.FromCertificate(leaf)
	if err != nil || got != identity("curl") || len(leaf.DNSNames) != 0 || resp.Workload != "shop/curl" {
		t.Errorf("identity %s (%v), names %v, workload %s; want those of curl alone", got, err, leaf.DNSNames, resp.Workload)
	}
}

func TestEachRefusalHasItsCode(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	good := csr(t, &x509.CertificateRequest{}, newKey(t))
	used := w.token("curl")
	if _, err := w.rude(nil).identity.Certify(ctx, &controlv1.CertifyRequest{Csr: good, JoinToken: used}); err != nil {
		t.Fatal(err)
	}
	objects := must(dir.Open(w.dir, dir.Config{Log: w.logs.logger()}))
	late, token := attest.NewToken("shop", "web", time.Second, time.Now().Add(-time.Minute))
	if err := objects.AddToken(ctx, token); err != nil {
		t.Fatal(err)
	}
	unsealed, token := attest.NewToken("shop", "legacy", time.Hour, time.Now())
	if err := objects.AddToken(ctx, token); err != nil {
		t.Fatal(err)
	}
	gone, token := attest.NewToken("shop", "nobody", time.Hour, time.Now())
	if err := objects.AddToken(ctx, token); err != nil {
		t.Fatal(err)
	}
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	web := w.join("web")
	tests := []struct {
		name   string
		leaf   *tls.Certificate
		req    *controlv1.CertifyRequest
		code   ca.Code
		status connect.Code
	}{
		{"token used twice", nil, &controlv1.CertifyRequest{Csr: good, JoinToken: used}, ca.CodeTokenUnknown, connect.CodeUnauthenticated},
		{"token never made", nil, &controlv1.CertifyRequest{Csr: good, JoinToken: "smj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, ca.CodeTokenUnknown, connect.CodeUnauthenticated},
		{"not a token", nil, &controlv1.CertifyRequest{Csr: good, JoinToken: "x"}, ca.CodeTokenMalformed, connect.CodeUnauthenticated},
		{"token too late", nil, &controlv1.CertifyRequest{Csr: good, JoinToken: late}, ca.CodeTokenExpired, connect.CodeUnauthenticated},
		{"workload not sealed", nil, &controlv1.CertifyRequest{Csr: good, JoinToken: unsealed}, ca.CodeWorkloadUnsealed, connect.CodePermissionDenied},
		{"workload gone", nil, &controlv1.CertifyRequest{Csr: good, JoinToken: gone}, ca.CodeWorkloadGone, connect.CodePermissionDenied},
		{"no proof", nil, &controlv1.CertifyRequest{Csr: good}, ca.CodeProofMissing, connect.CodeUnauthenticated},
		{"no request", nil, &controlv1.CertifyRequest{Csr: []byte("x"), JoinToken: w.token("web")}, ca.CodeBadCSR, connect.CodeInvalidArgument},
		{"RSA key", nil, &controlv1.CertifyRequest{Csr: csr(t, &x509.CertificateRequest{}, rsaKey), JoinToken: w.token("web")}, ca.CodeBadKey, connect.CodeInvalidArgument},
		{"another's workload", web, &controlv1.CertifyRequest{Csr: good, Workload: "shop/curl"}, ca.CodeWorkloadMismatch, connect.CodePermissionDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.rude(tt.leaf).identity.Certify(ctx, tt.req)
			if got := code(err); got != tt.code || connect.CodeOf(err) != tt.status {
				t.Errorf("refused with %q and %v (%v), want %q and %v", got, connect.CodeOf(err), err, tt.code, tt.status)
			}
			w.logs.await(t, "certificate refused", "code="+string(tt.code))
		})
	}
}

func TestARequestThatCannotBeMetLeavesItsTokenUnused(t *testing.T) {
	w := newWorld(t)
	token := w.token("web")
	bad := &controlv1.CertifyRequest{Csr: []byte("x"), JoinToken: token}
	if _, err := w.rude(nil).identity.Certify(context.Background(), bad); code(err) != ca.CodeBadCSR {
		t.Fatalf("error %v, want %s", err, ca.CodeBadCSR)
	}
	good := &controlv1.CertifyRequest{Csr: csr(t, &x509.CertificateRequest{}, newKey(t)), JoinToken: token}
	if _, err := w.rude(nil).identity.Certify(context.Background(), good); err != nil {
		t.Errorf("the token was used up by the request before: %v", err)
	}
}

func TestOfManyCallersWithOneTokenOneGetsIn(t *testing.T) {
	w := newWorld(t)
	token := w.token("web")
	const callers = 16
	results := make(chan error, callers)
	for range callers {
		client, req := w.rude(nil), csr(t, &x509.CertificateRequest{}, newKey(t))
		go func() {
			_, err := client.identity.Certify(context.Background(), &controlv1.CertifyRequest{Csr: req, JoinToken: token})
			results <- err
		}()
	}
	admitted := 0
	for range callers {
		if err := <-results; err == nil {
			admitted++
		} else if code(err) != ca.CodeTokenUnknown {
			t.Errorf("refused with %v, want %s", err, ca.CodeTokenUnknown)
		}
	}
	if admitted != 1 {
		t.Errorf("%d callers got in, want 1", admitted)
	}
}

func TestEachCertificateIsOneLineInTheLog(t *testing.T) {
	w := newWorld(t)
	leaf := w.join("web")
	w.logs.await(t, "certificate issued", "workload=shop/web", "proof=token", ca.SerialHex(leaf.Leaf), identity("web").String())
	if n := w.logs.count("certificate issued"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
}

func TestConfigurationsThatCannotWorkAreRefusedWithEveryProblem(t *testing.T) {
	_, err := control.New(control.Config{Listen: "nonsense", Metrics: "192.0.2.1:1", SocketGroup: -1})
	for _, want := range []string{"no platform", "no logger", `listen address "nonsense"`, `metrics address "192.0.2.1:1"`, "socket group -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %q", err, want)
		}
	}
}
