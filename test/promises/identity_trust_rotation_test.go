package promises

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/internal/proxy"
)

// The trust anchor is replaced while connections are made and others last, and
// not one of them fails. Afterwards the old one vouches for nobody.
//
//	prepare ──▶ activate ──▶ retire      sealmesh trust rotate, step by step
//	──short─connections───────────▶
//	──a few long ones──────▶ end
//
// Broken twin: the same three steps at once, which cuts what lasts.
func TestTrustAnchorIsReplacedWithoutAFailedConnection(t *testing.T) {
	m := startMesh(t)
	old := m.domain(t)
	serve(t, m.Receiver, appPort, echo)
	l := startLoad(t, m.Sender, at(m.Receiver, appPort), 4)
	var long []*net.TCPConn
	for range 4 {
		long = append(long, dial(t, m.Sender, at(m.Receiver, appPort)))
	}
	if said, err := m.sealmesh(t.Context(), "trust", "rotate", "--wait=false"); err == nil || !strings.Contains(said, "not before") {
		t.Errorf("trust rotate takes no time: %v\n%s", err, said)
	}
	said := m.rotateUntil(t, "activated:")
	if strings.Contains(said, "retired:") {
		t.Fatalf("trust rotate said:\n%s", said)
	}
	m.wantTrust(t, "an anchor that nobody signs under", "the one that signs")
	l.more(t, 100)
	for _, conn := range long {
		say(t, conn, "still here")
		hear(t, conn, "still here")
		must(t, conn.Close())
	}
	if said := m.rotateUntil(t, "done:"); !strings.Contains(said, "retired:") {
		t.Fatalf("trust rotate said:\n%s", said)
	}
	m.wantTrust(t, "the one that signs")
	l.more(t, 1000)
	l.wantNoneFailed(t, 1000)

	t.Run("the old anchor vouches for nobody", func(t *testing.T) {
		who := identityOf(old, m.Sender)
		forger := m.add(t, 1, "forger", stranger)
		from := m.mark()
		err := knock(t, forger, at(m.Receiver, appPort), old.Leaf(who))
		m.wantRefused(t, from, "inbound", forgery{reason: "untrusted_certificate", detail: "chains to no trusted anchor"}, err)
		if err := knock(t, forger, at(m.Receiver, appPort), m.domain(t).Leaf(who)); err != nil {
			t.Errorf("the new one does not: %v", err)
		}
	})
	t.Run("twin: all at once", func(t *testing.T) {
		conn := dial(t, m.Sender, at(m.Receiver, appPort))
		say(t, conn, "long")
		hear(t, conn, "long")
		objects, err := dir.Open(m.dir, dir.Config{Log: slog.New(slog.DiscardHandler)})
		must(t, err)
		for _, step := range []ca.Step{ca.StepPrepare, ca.StepActivate, ca.StepRetire} {
			must(t, objects.Rotate(step))
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection was not cut (%v): the experiment proves nothing", err)
		}
		// Proxies that nobody believes any more end, and begin anew with new trust.
		if err := tryEcho(t, m.Sender, m.Receiver, appPort); err != nil {
			eventually(t, "connections as before", func() bool { return tryEcho(t, m.Sender, m.Receiver, appPort) == nil })
		}
	})
}

// wantTrust fails unless `sealmesh trust show` lists as many anchors, the last of
// which signs, and both proxies go by them.
func (m *mesh) wantTrust(tb testing.TB, wanted ...string) {
	tb.Helper()
	var list []struct {
		Issuer         string
		Using, Lagging []string
	}
	eventually(tb, "both proxies with the trust that is shown", func() bool {
		out, err := m.sealmesh(tb.Context(), "trust", "show", "-o", "json")
		must(tb, err)
		must(tb, json.Unmarshal([]byte(out), &list))
		return len(list) == len(wanted) && len(list[0].Using) == 2 && len(list[0].Lagging) == 0
	})
	for i, a := range list {
		if signs := i == len(list)-1; (a.Issuer != "") != signs {
			tb.Errorf("%s: the issuer under it is %q", wanted[i], a.Issuer)
		}
	}
}

// rotateUntil runs `sealmesh trust rotate` until it has said something, and
// returns all that it said.
func (m *mesh) rotateUntil(tb testing.TB, wanted string) string {
	tb.Helper()
	said := ""
	eventually(tb, "trust rotate: "+wanted, func() bool {
		out, err := m.sealmesh(tb.Context(), "trust", "rotate", "--now", "--wait=false")
		if err != nil && !strings.Contains(out, "waiting to") {
			tb.Fatalf("trust rotate: %v", err)
		}
		said += out
		return strings.Contains(said, wanted)
	})
	return said
}

// Another issuer under the same anchor takes over while connections are made and
// others last, and not one of them fails.
func TestIssuerIsReplacedWithoutAFailedConnection(t *testing.T) {
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	l := startLoad(t, m.Sender, at(m.Receiver, appPort), 4)
	long := dial(t, m.Sender, at(m.Receiver, appPort))
	l.more(t, 200)

	issuer := m.replaceIssuer(t)
	eventually(t, "all certificates signed by the new issuer", func() bool {
		return !slices.ContainsFunc(m.validities(t), func(v validity) bool { return v.IssuerSerial != ca.SerialHex(issuer) })
	})
	l.more(t, 500)
	say(t, long, "still here")
	hear(t, long, "still here")
	l.wantNoneFailed(t, 700)

	// What is sealed from now on is so with the new certificates.
	lanes := connections(t, m.Receiver).Lanes
	newest := slices.MaxFunc(lanes, func(a, b proxy.LaneReport) int { return a.Opened.Compare(b.Opened) })
	if serial := m.serialOf(t, m.Sender.Name); newest.PeerSerial != serial {
		t.Errorf("the newest lane's client shows %s, its certificate is %s", newest.PeerSerial, serial)
	}
}

// replaceIssuer puts an issuer of a tool of somebody else's in place, under the
// mesh's own anchor.
func (m *mesh) replaceIssuer(tb testing.TB) *x509.Certificate {
	tb.Helper()
	own := filepath.Join(m.dir, ".sealmesh")
	pair, err := tls.LoadX509KeyPair(filepath.Join(own, "anchor.crt"), filepath.Join(own, "anchor.key"))
	must(tb, err)
	d := m.domain(tb)
	issuer, err := ca.NewIssuer(d.Name, ca.Authority{Cert: pair.Leaf, Key: pair.PrivateKey.(crypto.Signer)}, time.Now())
	must(tb, err)
	key, err := x509.MarshalPKCS8PrivateKey(issuer.Key)
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(own, "issuer.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	must(tb, os.WriteFile(filepath.Join(own, "issuer.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Cert.Raw}), 0o600))
	return issuer.Cert
}
