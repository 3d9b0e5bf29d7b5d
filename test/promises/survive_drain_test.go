package promises

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// A proxy that is told to end lets connections end on their own until its deadline,
// takes none meanwhile, and cuts what is left. Whoever connects then waits for the
// next proxy.
//
//	SIGTERM ──── 2 s ────▶ deadline
//	short ───── ends ╳     in order, to its last byte
//	new ─────────────────── waits ────────▶ served
//	long ────────────────╳ reset
func TestDrain(t *testing.T) {
	m := startMesh(t) // which drains for 2 s
	const deadline = 2 * time.Second
	serve(t, m.Receiver, appPort, echo)
	short, long := converse(t, m.Sender, m.Receiver), converse(t, m.Sender, m.Receiver)
	proxy := m.proxyOf(t, m.Receiver)
	told, from := m.stdout.count(), m.mark()

	began := time.Now()
	must(t, proxy.Signal(syscall.SIGTERM))
	m.waitLog(t, from, "drain", has("msg", "draining: nothing new is taken"))
	waiting := make(chan error, 1)
	go func() { waiting <- tryEcho(t, m.Sender, m.Receiver, appPort) }()
	short.goesOn(t, "during the drain")
	must(t, short.CloseWrite())
	if n, err := short.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that ends during the drain ends with %v", err)
	}
	long.goesOn(t, "during the drain")
	select {
	case err := <-waiting:
		t.Errorf("a new connection does not wait: %v", err)
	default:
	}
	long.isCut(t, patience)
	if after := time.Since(began); after < deadline || after > deadline+2*time.Second {
		t.Errorf("cut %s after SIGTERM, the deadline is %s", after, deadline)
	}
	m.waitLog(t, from, "why", has("msg", "connection", "direction", "inbound", "reason", "draining"))
	m.waitLog(t, from, "that the deadline has come", has("msg", "drain deadline reached: ending what is left", "count", "1"))
	if err := <-waiting; err != nil {
		t.Errorf("the connection that waited: %v", err)
	}
	m.awaitSealed(t, "demo/receiver", told)
	eventually(t, "end of the old proxy", func() bool { return !runs(proxy.Pid) })
}
