package promises

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/test/pki"
)

// Removing a workload takes its identity away, whoever holds a certificate of it:
// what is open ends within two seconds, nothing new begins, and there is no
// renewal.
//
//	ghost (has a good certificate) ── lane ──▶ proxy of receiver
//	sender ── lane ──▶ ghost
//	ghost ── renew ──▶ control plane
//
// Broken twin: the same certificate, before and after the workload is there.
func TestARemovedWorkloadIsRevoked(t *testing.T) {
	m := newMesh(t)
	ghost := m.add(t, 1, "ghost", stranger)
	address := freeAddress(t)
	m.start(t, "--listen", address)
	serve(t, m.Receiver, appPort, echo)
	m.expectAt(t, ghost)
	d := m.domain(t)
	leaf := d.Leaf(identityOf(d, ghost))
	servePeer(t, ghost, appPort, leaf)

	lane, err := dialPeer(t, ghost, at(m.Receiver, appPort), careless(leaf))
	must(t, err)
	must(t, errors.Join(lane.open(at(m.Receiver, appPort)), lane.data("hello")))
	if kind, _, text, err := lane.read(); kind != frameData || string(text) != "hello" {
		t.Fatalf("frame %d %q, %v", kind, text, err)
	}
	toGhost, bystander := converse(t, m.Sender, ghost), converse(t, m.Sender, m.Receiver)
	if err := renew(t, d, address, leaf); err != nil {
		t.Fatalf("renewal before: %v", err)
	}

	from := m.mark()
	m.objects.removeWorkload(ghost)
	m.write(t)
	const promised = 2 * time.Second
	must(t, lane.SetReadDeadline(time.Now().Add(promised)))
	if _, _, _, err := lane.read(); err == nil || isTimeout(err) {
		t.Errorf("the lane of a removed workload is open after %s (%v)", promised, err)
	}
	toGhost.isCut(t, promised)
	m.waitLog(t, from, "why", has("msg", "connection", "direction", "inbound", "reason", "revoked_identity"))
	m.waitLog(t, from, "why", has("msg", "connection", "direction", "outbound", "reason", "wrong_identity"))
	bystander.goesOn(t, "when another workload was removed")

	from = m.mark()
	err = knock(t, ghost, at(m.Receiver, appPort), leaf)
	m.wantRefused(t, from, "inbound", forgery{reason: "revoked_identity", detail: "no workload bears"}, err)
	if code := refusalCode(renew(t, d, address, leaf)); code != "identity_revoked" {
		t.Errorf("renewal is refused with %q", code)
	}

	m.expectAt(t, ghost)
	if err := knock(t, ghost, at(m.Receiver, appPort), leaf); err != nil {
		t.Errorf("when it is there again: %v", err)
	}
	t.Run("seal: Disabled", func(t *testing.T) {
		from := m.mark()
		m.change(t, func(o *objects) { o.workload(ghost).Spec.Seal = "Disabled" })
		_ = knock(t, ghost, at(m.Receiver, appPort), leaf)
		m.waitLog(t, from, "refusal", has("msg", "connection", "direction", "inbound", "reason", "plaintext"))
		if code := refusalCode(renew(t, d, address, leaf)); code != "identity_revoked" && code != "workload_unsealed" {
			t.Errorf("renewal is refused with %q", code)
		}
	})
	t.Run("one that is sealed here", func(t *testing.T) {
		m.objects.removeWorkload(m.Sender)
		m.write(t)
		bystander.isCut(t, promised)
	})
}

func isTimeout(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}

// freeAddress is a TCP address of the machine itself that nobody listens on.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	defer l.Close()
	return l.Addr().String()
}

// renew asks the control plane for a certificate, as the bearer of a leaf.
func renew(tb testing.TB, d *pki.Domain, address string, leaf *tls.Certificate) error {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(tb, err)
	transport := &http.Transport{
		TLSClientConfig: mtls.Config{Leaf: leaf, Bundles: pki.Bundles(d), Protocols: []string{"h2"}}.TLS(),
		Protocols:       new(http.Protocols),
	}
	transport.Protocols.SetHTTP2(true)
	defer transport.CloseIdleConnections()
	client := controlv1connect.NewIdentityServiceClient(&http.Client{Transport: transport}, "https://"+address, connect.WithGRPC())
	_, err = client.Certify(tb.Context(), &controlv1.CertifyRequest{Csr: csr})
	return err
}

// refusalCode is the code that a refusal of the control plane carries, "" if it is
// none.
func refusalCode(err error) string {
	var from *connect.Error
	if !errors.As(err, &from) {
		return ""
	}
	for _, detail := range from.Details() {
		if value, err := detail.Value(); err == nil {
			if r, ok := value.(*controlv1.Refusal); ok {
				return r.Code
			}
		}
	}
	return ""
}
