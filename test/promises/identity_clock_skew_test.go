package promises

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"testing"
	"time"
)

// Clocks that are 20 s apart, either way, do no harm; a certificate that is
// further off is refused by both sides.
//
// What a clock ahead of ours makes is a certificate that begins in our future: 20 s
// of that are allowed. What a clock behind ours sees of our certificates is the
// same, and they are dated back by as much. No allowance is made at a
// certificate's end: it is renewed long before.
//
// Broken twin: the same certificates, further off.
func TestClocksMayBeTwentySecondsApart(t *testing.T) {
	m := newMesh(t)
	forger := m.add(t, 1, "forger", stranger)
	m.start(t)
	d := m.domain(t)
	serve(t, m.Receiver, appPort, echo)
	m.expectAt(t, forger)

	const margin = 5 * time.Second // for the time the test takes
	for _, c := range []struct {
		name       string
		begin, end time.Duration // from now
		reason     string
		detail     string
	}{
		{"begins 15 s from now", 20*time.Second - margin, time.Hour, "", ""},
		{"begins 25 s from now", 20*time.Second + margin, time.Hour, "untrusted_certificate", "not valid before"},
		{"ended 5 s ago", -time.Hour, -margin, "untrusted_certificate", "expired at"},
		{"ends 15 s from now", -time.Hour, 20*time.Second - margin, "", ""},
	} {
		leaf := func() *tls.Certificate {
			return d.Leaf(identityOf(d, forger), func(cert *x509.Certificate) {
				cert.NotBefore, cert.NotAfter = time.Now().Add(c.begin), time.Now().Add(c.end)
			})
		}
		want := forgery{reason: c.reason, detail: c.detail}
		t.Run("of a client: "+c.name, func(t *testing.T) {
			from := m.mark()
			m.wantRefused(t, from, "inbound", want, knock(t, forger, at(m.Receiver, appPort), leaf()))
		})
		t.Run("of a server: "+c.name, func(t *testing.T) {
			from := m.mark()
			port := servePeerAnywhere(t, forger, leaf())
			m.wantRefused(t, from, "outbound", want, tryEcho(t, m.Sender, forger, port))
		})
	}
	t.Run("what is issued is dated back", func(t *testing.T) {
		for _, v := range m.validities(t) {
			issued := m.waitLog(t, 0, "its issue", func(e entry) bool {
				return e.text("msg") == "certificate issued" && e.text("serial") == v.Serial
			})
			at, err := time.Parse(time.RFC3339Nano, issued.text("time"))
			must(t, err)
			if back := at.Sub(v.NotBefore); back < 20*time.Second || back > 22*time.Second {
				t.Errorf("certificate of %s begins %s before it was issued, want 20 s", v.Workload, back)
			}
		}
	})
}

// validity is when a certificate is valid, by `sealmesh identity -o json`.
type validity struct {
	Workload, Serial, IssuerSerial string
	NotBefore, NotAfter            time.Time
}

func (m *mesh) validities(tb testing.TB) []validity {
	tb.Helper()
	out, err := m.sealmesh(tb.Context(), "identity", "-o", "json")
	must(tb, err)
	var list []validity
	must(tb, json.Unmarshal([]byte(out), &list))
	return list
}

// serialOf is the serial number of a workload's certificate now.
func (m *mesh) serialOf(tb testing.TB, workload string) string {
	tb.Helper()
	for _, v := range m.validities(tb) {
		if v.Workload == namespace+"/"+workload {
			return v.Serial
		}
	}
	return ""
}
