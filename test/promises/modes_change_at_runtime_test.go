package promises

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// conversation is a connection that lasts: each turn goes there and back.
type conversation struct{ *net.TCPConn }

func converse(tb testing.TB, from, to *lab.Workload) conversation {
	tb.Helper()
	c := conversation{dial(tb, from, at(to, appPort))}
	c.goesOn(tb, "at its beginning")
	return c
}

func (c conversation) goesOn(tb testing.TB, when string) {
	tb.Helper()
	if err := c.turn(); err != nil {
		tb.Errorf("%s -> %s, %s: %v", c.LocalAddr(), c.RemoteAddr(), when, err)
	}
}

func (c conversation) turn() error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("turn")); err != nil {
		return err
	}
	n, err := c.Read(make([]byte, 4))
	if err == nil && n != 4 {
		err = errors.New("heard a part")
	}
	return err
}

// isCut fails unless the connection is reset within a time, without anything being
// said on it.
func (c conversation) isCut(tb testing.TB, within time.Duration) {
	tb.Helper()
	must(tb, c.SetReadDeadline(time.Now().Add(within)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		tb.Errorf("%s -> %s is not reset within %s (%v)", c.LocalAddr(), c.RemoteAddr(), within, err)
	}
}

// The modes change while connections last: those that no longer pass are cut, each
// with a line in the log that says why, and only those.
//
//	stranger ── plaintext ──▶ receiver     inbound
//	sender   ── plaintext ──▶ stranger     outbound
//	sender   ── sealed ─────▶ receiver
//
// Broken twin: before the change, and after it is taken back, all three pass.
func TestModesChangeAtRuntime(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 2, "outsider", stranger)
	m.objects.mesh.Spec.MTLS.Inbound, m.objects.mesh.Spec.MTLS.Outbound = permissive, permissive
	m.write(t)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	serve(t, outsider, appPort, echo)
	in, out, sealed := converse(t, outsider, m.Receiver), converse(t, m.Sender, outsider), converse(t, m.Sender, m.Receiver)

	from := m.mark()
	m.setModes(t, strict, permissive)
	in.isCut(t, patience)
	m.waitLog(t, from, "why it was cut", has("msg", "connection", "direction", "inbound", "seal", "plaintext", "reason", "plaintext"))
	out.goesOn(t, "when inbound became strict")
	sealed.goesOn(t, "when inbound became strict")
	if err := tryEcho(t, outsider, m.Receiver, appPort); err == nil {
		t.Error("new plaintext comes in under strict")
	}

	from = m.mark()
	m.setModes(t, strict, strict)
	out.isCut(t, patience)
	m.waitLog(t, from, "why it was cut", has("msg", "connection", "direction", "outbound", "seal", "plaintext", "reason", "unknown_destination"))
	sealed.goesOn(t, "when outbound became strict")
	if err := tryEcho(t, m.Sender, outsider, appPort); err == nil {
		t.Error("new plaintext goes out under strict")
	}

	m.setModes(t, permissive, permissive)
	sealed.goesOn(t, "when all was permitted again")
	in, out = converse(t, outsider, m.Receiver), converse(t, m.Sender, outsider)

	t.Run("a peer becomes sealed", func(t *testing.T) {
		from := m.mark()
		m.expectAt(t, outsider)
		in.isCut(t, patience)
		out.isCut(t, patience)
		for _, direction := range []string{"inbound", "outbound"} {
			m.waitLog(t, from, "why it was cut", has("msg", "connection", "direction", direction, "reason", "expected_seal"))
		}
		sealed.goesOn(t, "when a peer became sealed")
	})
}
