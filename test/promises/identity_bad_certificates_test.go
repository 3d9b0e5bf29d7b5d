package promises

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/test/lab"
	"github.com/sealmesh/sealmesh/test/pki"
)

// forgery is a certificate, as it would be shown in place of an identity's own,
// and what the proxy that is shown it says.
type forgery struct {
	name   string
	leaf   func(*pki.Domain, id.Identity) *tls.Certificate
	reason string // of the refusal, "" if it is good
	detail string // a part of its explanation
}

// forgeries are certificates that no workload may be believed by, and a good one.
func forgeries(tb testing.TB) []forgery {
	other := pki.New(tb, "other.test")
	const untrusted = "untrusted_certificate"
	bent := func(bend func(*x509.Certificate)) func(*pki.Domain, id.Identity) *tls.Certificate {
		return func(d *pki.Domain, who id.Identity) *tls.Certificate { return d.Leaf(who, bend) }
	}
	return []forgery{
		{"good", bent(func(*x509.Certificate) {}), "", ""},
		{"expired", bent(pki.Expired), untrusted, "expired at"},
		{"not yet valid", bent(pki.NotYet), untrusted, "not valid before"},
		{"of another trust domain", func(_ *pki.Domain, who id.Identity) *tls.Certificate {
			return other.Leaf(other.ID(who.Namespace(), who.ServiceAccount()))
		}, untrusted, "other.test is not trusted here"},
		{"of another trust domain by our issuer", func(d *pki.Domain, who id.Identity) *tls.Certificate {
			return d.Leaf(other.ID(who.Namespace(), who.ServiceAccount()))
		}, untrusted, "other.test is not trusted here"},
		{"our name by the issuer of another", func(_ *pki.Domain, who id.Identity) *tls.Certificate {
			return other.Leaf(who)
		}, untrusted, "chains to no trusted anchor"},
		{"self-signed", func(_ *pki.Domain, who id.Identity) *tls.Certificate { return selfSigned(tb, who) }, untrusted, "chains to no trusted anchor"},
		{"that of an authority", bent(func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
		}), untrusted, "CA certificate"},
		{"without a name", bent(func(c *x509.Certificate) { c.URIs = nil }), untrusted, "URI"},
		{"with two names", bent(func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) }), untrusted, "URI"},
		{"with a DNS name only", bent(func(c *x509.Certificate) {
			c.URIs, c.DNSNames = nil, []string{"sender." + namespace + "." + trustDomain}
		}), untrusted, "URI"},
		{"of the issuer, with no leaf below", func(d *pki.Domain, _ id.Identity) *tls.Certificate {
			return &tls.Certificate{Certificate: [][]byte{d.Issuer.Cert.Raw}, PrivateKey: d.Issuer.Key}
		}, untrusted, ""},
	}
}

func selfSigned(tb testing.TB, who id.Identity) *tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{who.URL()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A certificate that is expired, not valid yet, of another trust domain, of
// another name, self-signed, an authority's, or missing is refused on both sides,
// and the proxy that refuses says why.
//
//	forger ── forged, ALPN sealmesh/1 ──▶ proxy of receiver
//	sender ── proxy of sender ──▶ forged: forger, where the mesh expects a workload
//
// Positive control: the good one among the forgeries. Broken twin: a server that
// verifies nothing takes every one of them, so that it is not their TLS that was
// refused.
func TestBadCertificatesAreRefused(t *testing.T) {
	m := newMesh(t)
	forger := m.add(t, 1, "forger", stranger)
	m.start(t)
	d := m.domain(t)
	serve(t, m.Receiver, appPort, echo)
	m.expectAt(t, forger)

	for _, f := range forgeries(t) {
		t.Run("from a client: "+f.name, func(t *testing.T) {
			from := m.mark()
			err := knock(t, forger, at(m.Receiver, appPort), f.leaf(d, identityOf(d, forger)))
			m.wantRefused(t, from, "inbound", f, err)
		})
		t.Run("from a server: "+f.name, func(t *testing.T) {
			from := m.mark()
			port := servePeerAnywhere(t, forger, f.leaf(d, identityOf(d, forger)))
			m.wantRefused(t, from, "outbound", f, tryEcho(t, m.Sender, forger, port))
		})
	}
	t.Run("from a client: of an identity that nobody bears", func(t *testing.T) {
		from := m.mark()
		err := knock(t, forger, at(m.Receiver, appPort), d.Leaf(d.ID(namespace, "nobody")))
		m.wantRefused(t, from, "inbound", forgery{reason: "revoked_identity", detail: "no workload bears"}, err)
	})
	t.Run("from a server: of another workload", func(t *testing.T) {
		from := m.mark()
		port := servePeerAnywhere(t, forger, d.Leaf(identityOf(d, m.Receiver)))
		m.wantRefused(t, from, "outbound", forgery{reason: "wrong_identity", detail: "expected spiffe://"}, tryEcho(t, m.Sender, forger, port))
	})
	t.Run("from a client: none", func(t *testing.T) {
		from := m.mark()
		err := knock(t, forger, at(m.Receiver, appPort), nil)
		m.wantRefused(t, from, "inbound", forgery{reason: "handshake_failed", detail: "certificate"}, err)
	})
	t.Run("from a server: none", func(t *testing.T) {
		from := m.mark()
		port := uint16(3999)
		serve(t, forger, port, echo) // speaks no TLS at all
		m.wantRefused(t, from, "outbound", forgery{reason: "handshake_failed", detail: "tls: "}, tryEcho(t, m.Sender, forger, port))
	})
	t.Run("twin: where nothing is verified all pass", func(t *testing.T) {
		for _, f := range forgeries(t) {
			port := servePeerAnywhere(t, forger, d.Leaf(identityOf(d, forger)))
			if err := knock(t, forger, at(forger, port), f.leaf(d, identityOf(d, forger))); err != nil {
				t.Errorf("%s: %v: it is not for what it says that it was refused", f.name, err)
			}
		}
	})
}

// wantRefused fails unless an attempt came to what is expected of a forgery, and
// the proxy said why.
func (m *mesh) wantRefused(t *testing.T, from int, direction string, f forgery, err error) {
	t.Helper()
	if f.reason == "" {
		if err != nil {
			t.Errorf("the good certificate is refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Error("it passes")
	}
	refused := m.waitLog(t, from, "a refused connection", func(e entry) bool {
		return e.text("msg") == "connection" && e.text("direction") == direction && e.text("reason") != ""
	})
	if refused.text("reason") != f.reason || !strings.Contains(refused.text("detail"), f.detail) {
		t.Errorf("refused for %s: %s; want %s: …%s…", refused.text("reason"), refused.text("detail"), f.reason, f.detail)
	}
}

// servePeerAnywhere is servePeer at a port of its own.
func servePeerAnywhere(tb testing.TB, w *lab.Workload, leaf *tls.Certificate) uint16 {
	tb.Helper()
	probe, err := w.Listen("tcp", ":0")
	must(tb, err)
	port := uint16(probe.Addr().(*net.TCPAddr).Port)
	must(tb, probe.Close())
	servePeer(tb, w, port, leaf)
	return port
}

// tryEcho has an application of one workload say something to another's echo.
// The error says how it did not come back.
func tryEcho(tb testing.TB, from, to *lab.Workload, port uint16) error {
	tb.Helper()
	conn, err := tryDial(tb.Context(), from, at(to, port))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "exchange"); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, len("exchange")))
	return err
}
