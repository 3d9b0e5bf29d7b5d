package control_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

var update = flag.Bool("update", false, "write what the tests see to the golden files")

func TestIdentitiesAreListedWithWhoSignedThem(t *testing.T) {
	w := newWorld(t)
	p := w.proxy("web")
	s := p.ready()
	var got *controlv1.IssuedIdentity
	eventually(t, "web is listed with its report", func() bool {
		resp, err := w.admin().ListIdentities(context.Background(), &controlv1.ListIdentitiesRequest{})
		if err != nil || len(resp.Identities) != 1 {
			return false
		}
		got = resp.Identities[0]
		return got.Connected && got.SnapshotVersion == s.Version
	})
	leaf := s.Leaf.Leaf
	if got.Workload != "shop/web" || got.Identity != identity("web").String() || got.Serial != ca.SerialHex(leaf) ||
		got.NotBefore != leaf.NotBefore.Unix() || got.NotAfter != leaf.NotAfter.Unix() ||
		got.Issuer != leaf.Issuer.String() || len(got.IssuerSerial) != 32 || got.BundleVersions["demo.local"] != s.Bundle(domain).Version() {
		t.Errorf("listed as %v", got)
	}
	p.stop()
	eventually(t, "web is listed as gone", func() bool {
		resp, err := w.admin().ListIdentities(context.Background(), &controlv1.ListIdentitiesRequest{})
		return err == nil && len(resp.Identities) == 1 && !resp.Identities[0].Connected
	})
}

func TestEdgesAreListedWithTheWorkloadsTheyLeadTo(t *testing.T) {
	w := newWorld(t)
	p := w.proxy("curl", func(c *feed.Config) {
		c.Edges = func() []*controlv1.Edge {
			return []*controlv1.Edge{
				{Direction: controlv1.Edge_DIRECTION_OUTBOUND, Peer: identity("web").String(), Port: 80, Seal: "mtls", Connections: 3, BytesSent: 10, BytesReceived: 20, Open: 1},
				{Direction: controlv1.Edge_DIRECTION_OUTBOUND, Peer: "10.1.1.9", Port: 81, Seal: "plaintext", Refused: 2, LastRefusal: "unsealed_destination"},
			}
		}
	})
	p.ready()
	var edges []*controlv1.WorkloadEdge
	eventually(t, "two edges are listed", func() bool {
		resp, err := w.admin().ListEdges(context.Background(), &controlv1.ListEdgesRequest{})
		edges = resp.GetEdges()
		return err == nil && len(edges) == 2
	})
	for n, peer := range []string{"shop/legacy", "shop/web"} {
		if e := edges[n]; e.Workload != "shop/curl" || e.Identity != identity("curl").String() || e.PeerWorkload != peer {
			t.Errorf("edge %d: %v, want one of shop/curl to %s", n, e, peer)
		}
	}
	if e := edges[1].Edge; e.Connections != 3 || e.BytesSent != 10 || e.BytesReceived != 20 || e.Open != 1 {
		t.Errorf("figures %v", e)
	}
}

func TestJoinTokensAreMadeOnlyForSealedWorkloadsThatExist(t *testing.T) {
	w := newWorld(t)
	resp, err := w.admin().CreateJoinToken(context.Background(), &controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "web", Lifetime: 60})
	if err != nil {
		t.Fatal(err)
	}
	left := time.Until(time.Unix(resp.Expires, 0))
	if left < 50*time.Second || left > time.Minute || resp.Identity != identity("web").String() || resp.TrustDomain != "demo.local" ||
		!bytes.Equal(resp.AnchorsPem, w.anchors().PEM()) {
		t.Errorf("token for %s, %s, %s", resp.Identity, resp.TrustDomain, left)
	}
	for _, tt := range []struct {
		req  *controlv1.CreateJoinTokenRequest
		want connect.Code
	}{
		{&controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "nobody"}, connect.CodeNotFound},
		{&controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "legacy"}, connect.CodeFailedPrecondition},
		{&controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "web", Lifetime: -1}, connect.CodeInvalidArgument},
		{&controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "web", Lifetime: 1 << 40}, connect.CodeInvalidArgument},
	} {
		if _, err := w.admin().CreateJoinToken(context.Background(), tt.req); connect.CodeOf(err) != tt.want {
			t.Errorf("%v: %v, want %v", tt.req, err, tt.want)
		}
	}
}

func TestAdminIsNotServedOverTCP(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.cfg.Listen = freeAddress(t)
	w.start()
	client := newClient(t, tcp(w.cfg.Listen), w.anchors(), nil, nil)
	admin := controlv1connect.NewAdminServiceClient(client, "https://control", connect.WithGRPC())
	if _, err := admin.ListIdentities(context.Background(), &controlv1.ListIdentitiesRequest{}); connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("answered %v, want unimplemented", err)
	}
}

// asOther is set for the test binary that runs as another user.
const asOther = "SEALMESH_TEST_SOCKET"

// TestAdminIsForTheOwnerAlone runs itself again as a user that may use the socket:
// proxies may, and none of them may make a token for another workload.
func TestAdminIsForTheOwnerAlone(t *testing.T) {
	if socket := os.Getenv(asOther); socket != "" {
		askAsOther(t, socket)
		return
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root, to run as another user")
		}
		t.Skip("needs root, to run as another user")
	}
	const other = 24225
	w := newWorld(t)
	w.stop()
	w.cfg.SocketGroup = other
	w.start()
	anchors := filepath.Join(w.dir, "anchors.pem")
	w.write("anchors.pem", string(w.anchors().PEM()))
	exe := filepath.Join(w.dir, "test")
	if err := os.Link(must(os.Executable()), exe); err != nil { // where another user can reach it
		copyFile(t, must(os.Executable()), exe)
	}
	for path, mode := range map[string]os.FileMode{w.dir: 0o755, anchors: 0o644, exe: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		group uint32
		want  string
	}{
		"of the socket's group": {other, "permission_denied"},
		"of another group":      {other + 1, "connect: permission denied"},
	} {
		cmd := exec.Command(exe, "-test.run=^TestAdminIsForTheOwnerAlone$", "-test.v")
		cmd.Env = []string{asOther + "=" + w.socket}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: other, Gid: tt.group}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("a user %s got (%v):\n%s\nwant %q", name, err, out, tt.want)
		}
	}
	// The broken twin: root asks the same over the same socket.
	if _, err := w.admin().ListIdentities(context.Background(), &controlv1.ListIdentitiesRequest{}); err != nil {
		t.Error(err)
	}
}

func askAsOther(t *testing.T, socket string) {
	anchors := must(os.ReadFile(filepath.Join(filepath.Dir(socket), "anchors.pem")))
	service, hangUp := feed.Admin(socket, must(snapshot.ParseBundle(domain, anchors)))
	defer hangUp()
	_, err := service.CreateJoinToken(context.Background(), &controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: "web"})
	if err == nil {
		t.Fatal("got a join token")
	}
	fmt.Println(err)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.WriteFile(to, must(os.ReadFile(from)), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestASecondControlPlaneDoesNotTakeTheSocketAndADeadOneDoesNotKeepIt(t *testing.T) {
	w := newWorld(t)
	cfg := control.Config{Platform: newMemory(t, time.Now(), time.Hour), Socket: w.socket, Log: w.logs.logger()}
	second := must(control.New(cfg))
	if err := second.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "another control plane serves there") {
		t.Errorf("error %v", err)
	}
	w.proxy("web").ready() // the first one serves on

	w.stop()
	fd := must(syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0))
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: w.socket}); err != nil {
		t.Fatal(err)
	}
	syscall.Close(fd) // leaves the file, as a killed process does
	w.start()
	if info := must(os.Stat(w.socket)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket is %v, want 0600", info.Mode().Perm())
	}
}

func TestMetricNamesAreThoseOfTheGolden(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.cfg.Metrics = freeAddress(t)
	w.start()
	p := w.proxy("web")
	p.ready()
	_, _ = w.rude(nil).identity.Certify(context.Background(), &controlv1.CertifyRequest{Csr: []byte("x"), JoinToken: "x"})
	client := &http.Client{Timeout: patience}
	resp, err := client.Get("http://" + w.cfg.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := string(must(io.ReadAll(resp.Body)))
	var got strings.Builder
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "# HELP sealmesh_") || strings.HasPrefix(line, "# TYPE sealmesh_") {
			got.WriteString(line)
		}
	}
	golden := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(must(os.ReadFile(golden))); got.String() != want {
		t.Errorf("metrics:\n%s\nwant:\n%s", got.String(), want)
	}
	for _, line := range []string{
		`sealmesh_control_certificates_issued_total{proof="token"} 1`,
		`sealmesh_control_refusals_total{code="bad_csr"} 1`,
		`sealmesh_control_connected_proxies 1`,
		`sealmesh_control_snapshot_pushes_total 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

// TestAWorkloadCannotPassForTheControlPlane: a feed meets a server that shows a
// leaf of the same mesh, which is not the control plane's.
func TestAWorkloadCannotPassForTheControlPlane(t *testing.T) {
	w := newWorld(t)
	leaf := w.join("curl")
	l := must(newTLSListener(mtls.Config{
		Leaf: leaf, Bundles: map[id.TrustDomain]*snapshot.Bundle{domain: w.anchors()},
		PeerCert: mtls.PeerCertOptional, Protocols: []string{"h2"},
	}))
	defer l.Close()
	p := w.proxy("web", func(c *feed.Config) { c.Control = "https://" + l.Addr().String() })
	p.logs.await(t, "not joined yet", "wrong_identity")
	if p.store.Load().Leaf != nil {
		t.Error("joined at an impostor")
	}
}
