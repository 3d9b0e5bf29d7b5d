package promises

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
)

// A proxy that is started by hand, on another machine than the control plane, joins
// with a token. The token is good for one workload, once, and for a time; the proxy
// that gets nothing for its token says which of it was the matter.
//
//	guest: sealmesh-proxy --control https://… --token-file … ── TCP ──▶ sealmesh up --listen
//
// Positive control: the first use of a good token, after which the guest is sealed
// to like any other.
func TestJoinTokens(t *testing.T) {
	m := newMesh(t)
	guest := m.add(t, 1, "guest", stranger)
	address := freeAddress(t)
	m.start(t, "--listen", address)
	m.expectAt(t, guest)
	control := m.reachable(t, address)
	token := m.joinToken(t, "guest")

	t.Run("joins once, as the workload it was made for", func(t *testing.T) {
		_, said := m.startProxy(t, guest, control, token)
		ready := parse(said.await(t, 0, "ready", func(line string) bool { return has("msg", "ready")(parse(line)) }))
		if want := "spiffe://" + trustDomain + "/ns/demo/sa/guest"; ready.text("local") != want {
			t.Errorf("it is %s, the token was for %s", ready.text("local"), want)
		}
		redirectByHand(t, guest, control)
		serve(t, guest, appPort, echo)
		seen := m.record(t, 1, "tcp port 2929")
		eventually(t, "the guest's application", func() bool { return tryEcho(t, m.Receiver, guest, appPort) == nil })
		seen.stop(t).wantSealed(t, guest, appPort, "exchange")
		if m.serialOf(t, "guest") == "" {
			t.Error("sealmesh identity does not list it")
		}
	})
	for _, c := range []struct{ name, token, code string }{
		{"used before", token, "token_unknown"},
		{"never made", "smj_" + strings.Repeat("A", 43), "token_unknown"},
		{"something else", "hello", "token_malformed"},
		{"too late", m.tokenThatEnded(t, "guest"), "token_expired"},
		{"of a workload that is gone", m.tokenOfNobody(t), "workload_gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			proxy, said := m.startProxy(t, guest, control, c.token)
			defer func() { _ = proxy.Process.Kill() }()
			line := said.await(t, 0, "refusal", func(line string) bool { return has("msg", "not joined yet")(parse(line)) })
			if got := parse(line).text("code"); got != c.code {
				t.Errorf("it says code %q, want %q: %s", got, c.code, line)
			}
			m.waitLog(t, 0, "audit", has("msg", "certificate refused", "code", c.code))
		})
	}
}

// joinToken makes a token as an operator does.
func (m *mesh) joinToken(tb testing.TB, workload string) string {
	tb.Helper()
	out, err := m.sealmesh(tb.Context(), "join-token", namespace+"/"+workload)
	must(tb, err)
	return strings.TrimSpace(out)
}

// tokenThatEnded is a token that nobody has used in time.
func (m *mesh) tokenThatEnded(tb testing.TB, workload string) string {
	tb.Helper()
	objects, err := dir.Open(m.dir, dir.Config{Log: slog.New(slog.DiscardHandler)})
	must(tb, err)
	secret, kept := attest.NewToken(namespace, workload, time.Minute, time.Now().Add(-time.Hour))
	must(tb, objects.AddToken(tb.Context(), kept))
	return secret
}

// tokenOfNobody is a token whose workload was removed before it was used.
func (m *mesh) tokenOfNobody(tb testing.TB) string {
	tb.Helper()
	late := m.add(tb, 1, "late", stranger)
	m.expectAt(tb, late)
	token := m.joinToken(tb, "late")
	m.change(tb, func(o *objects) { o.removeWorkload(late) })
	return token
}
