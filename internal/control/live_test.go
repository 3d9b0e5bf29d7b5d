package control_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/push"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

func TestAChangeOfTheMeshReachesRunningProxies(t *testing.T) {
	w := newWorld(t)
	p := w.proxy("web")
	p.ready()
	w.write("db.yaml", workloadYAML("db", "10.1.2.2", ""))
	p.await("the new workload", func(s *snapshot.Snapshot) bool { return s.Admits(identity("db")) })
	w.write("mesh.yaml", `apiVersion: sealmesh.io/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: demo.local, mtls: {inbound: Permissive, outbound: Strict}}
`)
	p.await("the new mode", func(s *snapshot.Snapshot) bool { return s.Inbound == policy.Permissive && s.Outbound == policy.Strict })
}

func TestRemovingAWorkloadRevokesIt(t *testing.T) {
	w := newWorld(t)
	web, curl := w.proxy("web"), w.proxy("curl")
	web.ready()
	curl.ready()
	stream, err := w.rude(web.store.Load().Leaf).discovery.Watch(context.Background(), &controlv1.WatchRequest{Instance: "a"})
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}
	w.remove("web.yaml")

	curl.await("web gone", func(s *snapshot.Snapshot) bool { return !s.Admits(identity("web")) })
	for stream.Receive() { // a last snapshot may be on its way
	}
	if err := stream.Err(); code(err) != ca.CodeIdentityRevoked || connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("the running stream ended with %v, want %s", err, ca.CodeIdentityRevoked)
	}
	revoked := w.rude(web.store.Load().Leaf)
	_, err = revoked.identity.Certify(context.Background(), &controlv1.CertifyRequest{Csr: csr(t, &x509.CertificateRequest{}, newKey(t))})
	if code(err) != ca.CodeIdentityRevoked {
		t.Errorf("renewal: %v, want %s", err, ca.CodeIdentityRevoked)
	}
	stream, err = revoked.discovery.Watch(context.Background(), &controlv1.WatchRequest{Instance: "a"})
	if err == nil && stream.Receive() {
		t.Error("a revoked workload watches")
	}
	web.logs.await(t, "control plane lost", "permission_denied")

	// The broken twin: whoever was not removed goes on.
	w.write("db.yaml", workloadYAML("db", "10.1.2.2", ""))
	curl.await("the next change", func(s *snapshot.Snapshot) bool { return s.Admits(identity("db")) })
	if web.store.Load().Admits(identity("db")) {
		t.Error("the revoked workload was told of the next change")
	}
}

func TestUnsealingAWorkloadRevokesIt(t *testing.T) {
	w := newWorld(t)
	web, curl := w.proxy("web"), w.proxy("curl")
	leaf := web.ready().Leaf
	curl.ready()
	w.write("web.yaml", workloadYAML("web", "10.1.1.2", ", seal: Disabled"))
	curl.await("web unsealed", func(s *snapshot.Snapshot) bool {
		e, known := s.Endpoint(netip.MustParseAddrPort("10.1.1.2:80"))
		return known && !e.Sealed() && !s.Admits(identity("web"))
	})
	_, err := w.rude(leaf).identity.Certify(context.Background(), &controlv1.CertifyRequest{Csr: csr(t, &x509.CertificateRequest{}, newKey(t))})
	if code(err) != ca.CodeWorkloadUnsealed {
		t.Errorf("renewal: %v, want %s", err, ca.CodeWorkloadUnsealed)
	}
}

func TestTrustAnchorsAreRotatedWithoutALostProxy(t *testing.T) {
	w := newWorld(t)
	p := w.proxy("web")
	first := p.ready()
	old := w.anchors().Anchors()[0]
	anchor := must(ca.NewAnchor(domain, time.Now()))
	issuer := must(ca.NewIssuer(domain, anchor, time.Now()))

	w.setAnchors(old, anchor.Cert) // prepare
	both := p.await("both anchors", func(s *snapshot.Snapshot) bool { return len(s.Bundle(domain).Anchors()) == 2 })
	if both.Leaf != first.Leaf {
		t.Error("a new anchor alone made the proxy renew")
	}
	w.setIssuer(issuer) // activate
	renewed := p.await("a leaf of the new issuer", func(s *snapshot.Snapshot) bool {
		return s.Leaf.Leaf.CheckSignatureFrom(issuer.Cert) == nil
	})
	w.setAnchors(anchor.Cert) // retire
	last := p.await("the new anchor alone", func(s *snapshot.Snapshot) bool { return len(s.Bundle(domain).Anchors()) == 1 })
	if last.Leaf != renewed.Leaf {
		t.Error("retiring the old anchor made the proxy renew once more")
	}
	w.write("db.yaml", workloadYAML("db", "10.1.2.2", ""))
	p.await("changes after the rotation", func(s *snapshot.Snapshot) bool { return s.Admits(identity("db")) })
	if n := p.logs.count("control plane lost"); n > 0 {
		t.Errorf("the control plane was lost %d times", n)
	}
	// The broken twin: what the retired anchor vouches for is nothing any more.
	if w.admits(first.Leaf) {
		t.Error("a leaf under the retired anchor was let in")
	}
	w.logs.await(t, "TLS handshake error", "chains to no trusted anchor")
	w.proxy("curl").ready() // and a newcomer gets in with the new anchor
}

func TestALeafWhoseAnchorIsRetiredEndsItsStreamAndNeedsAToken(t *testing.T) {
	w := newWorld(t)
	tokens := make(chan string, 1)
	tokens <- w.token("web")
	p := w.proxy("web", func(c *feed.Config) {
		c.Token = func() (string, error) {
			select {
			case token := <-tokens:
				return token, nil
			default:
				return "", nil
			}
		}
	})
	first := p.ready()
	anchor := must(ca.NewAnchor(domain, time.Now()))
	both := []*x509.Certificate{w.anchors().Anchors()[0], anchor.Cert}
	w.setAnchors(both...)
	p.await("both anchors", func(s *snapshot.Snapshot) bool { return len(s.Bundle(domain).Anchors()) == 2 })
	// Nobody waits for the proxies: issuer and anchor change in one step.
	w.setIssuer(must(ca.NewIssuer(domain, anchor, time.Now())))
	w.setAnchors(anchor.Cert)
	eventually(t, "the proxy has lost the control plane or got a leaf in time", func() bool {
		return p.logs.count("control plane lost") > 0 || p.store.Load().Leaf != first.Leaf
	})
	eventually(t, "the control plane proves itself by the new anchor", func() bool {
		resp, err := w.admin().CreateJoinToken(context.Background(), &controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "web"})
		if err == nil {
			tokens <- resp.Token
		}
		return err == nil
	})
	s := p.await("a leaf under the new anchor", func(s *snapshot.Snapshot) bool {
		return len(s.Bundle(domain).Anchors()) == 1 && s.Leaf != first.Leaf
	})
	if _, err := mtls.Verify([]*x509.Certificate{s.Leaf.Leaf, must(x509.ParseCertificate(s.Leaf.Certificate[1]))}, s.Bundles, time.Now()); err != nil {
		t.Errorf("new leaf: %v", err)
	}
}

func TestProxiesOutliveARestartOfTheControlPlane(t *testing.T) {
	w := newWorld(t)
	p := w.proxy("web")
	first := p.ready()
	w.stop()
	p.logs.await(t, "control plane lost")
	if s := p.store.Load(); s.Version != first.Version || s.Leaf != first.Leaf {
		t.Error("the last snapshot did not stay")
	}
	w.write("db.yaml", workloadYAML("db", "10.1.2.2", ""))
	w.start()
	s := p.await("what changed meanwhile", func(s *snapshot.Snapshot) bool { return s.Admits(identity("db")) })
	if s.Leaf != first.Leaf {
		t.Error("the restart made the proxy renew")
	}
	eventually(t, "the new control plane lists the proxy it did not certify", func() bool {
		resp, err := w.admin().ListIdentities(context.Background(), &controlv1.ListIdentitiesRequest{})
		return err == nil && len(resp.Identities) == 1 && resp.Identities[0].Connected &&
			resp.Identities[0].Serial == ca.SerialHex(first.Leaf.Leaf) && resp.Identities[0].SnapshotVersion == s.Version
	})
}

func TestWorkloadsThatShareAnIdentityAreToldApart(t *testing.T) {
	w := newWorld(t)
	w.write("web.yaml", workloadYAML("web", "10.1.1.2", ""))
	w.write("web-2.yaml", workloadYAML("web-2", "10.1.1.3", ", serviceAccount: web"))
	var token string
	eventually(t, "web-2 may join", func() bool {
		resp, err := w.admin().CreateJoinToken(context.Background(), &controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "web-2"})
		token = resp.GetToken()
		return err == nil
	})
	one := w.proxy("web")
	two := w.proxy("web", func(c *feed.Config) { c.Token = once(token) })
	one.ready()
	if s := two.ready(); s.Identity != identity("web") {
		t.Errorf("identity %s", s.Identity)
	}
	eventually(t, "both are listed, each by its name", func() bool {
		resp, err := w.admin().ListIdentities(context.Background(), &controlv1.ListIdentitiesRequest{})
		return err == nil && len(resp.Identities) == 2 && resp.Identities[0].Workload == "shop/web" &&
			resp.Identities[1].Workload == "shop/web-2" && resp.Identities[0].Connected && resp.Identities[1].Connected
	})
}

func TestClocksApartByLessThanTheSkewDoNotMatter(t *testing.T) {
	for _, offset := range []time.Duration{-15 * time.Second, 15 * time.Second, -10 * time.Minute, 48 * time.Hour} {
		t.Run(offset.String(), func(t *testing.T) {
			w := newWorld(t)
			p := w.proxy("web", func(c *feed.Config) { c.Now = func() time.Time { return time.Now().Add(offset) } })
			if offset.Abs() <= mtls.Skew {
				p.ready()
				return
			}
			p.logs.await(t, "not joined yet", "certificate")
			if p.store.Load().Leaf != nil {
				t.Error("a leaf outside its validity is in use")
			}
		})
	}
}

func TestASlowReaderGetsOnlyTheNewest(t *testing.T) {
	m := newMemory(t, time.Now(), time.Hour)
	l := must(net.Listen("tcp", "127.0.0.1:0"))
	stop := run(t, control.Config{Platform: m, Listeners: []net.Listener{l}, Log: (&logs{}).logger()})
	defer stop()
	dial := tcp(l.Addr().String())
	key := newKey(t)
	resp, err := newRude(t, dial, m.bundle(), nil, nil).identity.Certify(context.Background(), &controlv1.CertifyRequest{
		Csr: csr(t, &x509.CertificateRequest{}, key), JoinToken: m.token(time.Now()),
	})
	if err != nil {
		t.Fatal(err)
	}
	leaf := &tls.Certificate{Certificate: resp.Chain, PrivateKey: key, Leaf: must(x509.ParseCertificate(resp.Chain[0]))}
	slow, err := newRude(t, dial, m.bundle(), leaf, nil).discovery.Watch(context.Background(), &controlv1.WatchRequest{Instance: "slow"})
	if err != nil || !slow.Receive() {
		t.Fatal(err, slow.Err())
	}

	// Snapshots of a megabyte each, while the reader reads nothing of them.
	const changes = 30
	m.set(func(s *platform.State) { s.Workloads = append(s.Workloads[:1:1], crowd(8000)...) })
	for n := range changes {
		m.set(func(s *platform.State) {
			s.Workloads = append([]mesh.Workload(nil), s.Workloads...)
			s.Workloads[1].Metadata.Name = fmt.Sprintf("change-%d", n)
		})
	}
	want := must(push.Compile(m.state)).Snapshot.Version
	got, last := 0, ""
	for last != want && slow.Receive() {
		got++
		last = slow.Msg().Snapshot.Version
	}
	if last != want {
		t.Fatalf("the newest snapshot did not come: %v", slow.Err())
	}
	if got > changes/2 {
		t.Errorf("%d snapshots were kept for a reader that slept through %d changes", got, changes)
	}
	t.Logf("%d of %d snapshots were sent", got, changes)
}

// crowd is many workloads.
func crowd(n int) []mesh.Workload {
	out := make([]mesh.Workload, n)
	addr := netip.MustParseAddr("10.8.0.1")
	for i := range out {
		name := fmt.Sprintf("w-%d", i)
		out[i] = mesh.Workload{Spec: mesh.WorkloadSpec{ServiceAccount: name, Addresses: []string{addr.String()}, Seal: platform.SealEnabled}}
		out[i].Metadata = mesh.Metadata{Name: name, Namespace: "shop"}
		addr = addr.Next()
	}
	return out
}

func TestDiscoveryNeedsALiveCertificate(t *testing.T) {
	w := newWorld(t)
	nobody := w.rude(nil)
	stream, err := nobody.discovery.Watch(context.Background(), &controlv1.WatchRequest{Instance: "a"})
	if err == nil {
		stream.Receive()
		err = stream.Err()
	}
	if code(err) != ca.CodeProofMissing {
		t.Errorf("watch: %v, want %s", err, ca.CodeProofMissing)
	}
	if _, err := nobody.discovery.Report(context.Background(), &controlv1.ReportRequest{Instance: "a"}); code(err) != ca.CodeProofMissing {
		t.Errorf("report: %v, want %s", err, ca.CodeProofMissing)
	}
}

func TestALeafOfAnotherMeshIsRefused(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	leaf := other.join("web") // the same name in the same trust domain, by another anchor
	if w.admits(leaf) || !other.admits(leaf) {
		t.Error("want it let in where it is from, and nowhere else")
	}
	w.logs.await(t, "TLS handshake error", "chains to no trusted anchor")
}

func TestReportsAreBounded(t *testing.T) {
	w := newWorld(t)
	client := w.rude(w.join("web"))
	report := func(req *controlv1.ReportRequest) connect.Code {
		_, err := client.discovery.Report(context.Background(), req)
		if err == nil {
			return 0
		}
		return connect.CodeOf(err)
	}
	if got := report(&controlv1.ReportRequest{Instance: "a"}); got != connect.CodeFailedPrecondition {
		t.Errorf("without a Watch: %v", got)
	}
	stream, err := client.discovery.Watch(t.Context(), &controlv1.WatchRequest{Instance: "a"})
	if err != nil || !stream.Receive() {
		t.Fatal(err, stream.Err())
	}
	if got := report(&controlv1.ReportRequest{Instance: "a"}); got != 0 {
		t.Errorf("with a Watch: %v", got)
	}
	long := string(make([]byte, 65))
	many := map[string]string{}
	for n := range 65 {
		many[fmt.Sprint(n)] = "v"
	}
	for name, req := range map[string]*controlv1.ReportRequest{
		"long version":  {Instance: "a", SnapshotVersion: long},
		"long instance": {Instance: long},
		"many bundles":  {Instance: "a", BundleVersions: many},
	} {
		if got := report(req); got != connect.CodeInvalidArgument {
			t.Errorf("%s: %v, want invalid_argument", name, got)
		}
	}
	huge := &controlv1.ReportRequest{Instance: "a", Edges: []*controlv1.Edge{{LastRefusal: string(make([]byte, 3<<20))}}}
	if got := report(huge); got != connect.CodeResourceExhausted {
		t.Errorf("3 MiB: %v, want resource_exhausted", got)
	}
}
