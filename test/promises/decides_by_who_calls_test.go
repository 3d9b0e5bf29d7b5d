package promises

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/test/lab"
)

// A proxy decides by who is calling, never by waiting for what they say.
//
//	 node n1                                  node n2
//	┌─────────────────────────────┐         ┌──────────────────────────┐
//	│ sender    sealed              ────────▶ receiver, which          │
//	│ neighbour known, not sealed   ────────▶   speaks first at 2929   │
//	│ outsider  not known           ────────▶   listens first at 2930  │
//	│    └──────────────────────────────────▶ bystander, the same      │
//	└─────────────────────────────┘         │   without any proxy      │
//	                                        └──────────────────────────┘
//
// What is measured is compared with the same between outsider and bystander, in
// the same run.
func TestDecidesByWhoCalls(t *testing.T) {
	const speaks, listens = appPort, appPort + 1
	m := newMesh(t)
	outsider := m.add(t, 1, "outsider", stranger)
	neighbour := m.add(t, 1, "neighbour", unsealed)
	bystander := m.add(t, 2, "bystander", stranger)
	m.objects.mesh.Spec.MTLS.Inbound = permissive
	m.write(t)
	m.start(t)
	for _, w := range []*lab.Workload{m.Receiver, bystander} {
		serve(t, w, speaks, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, "220 ready\r\n")
			echo(c)
		})
		serve(t, w, listens, echo)
	}
	hearsBanner := func(from, to *lab.Workload) func() {
		return func() { hear(t, dial(t, from, at(to, speaks)), "220 ready\r\n") }
	}
	hearsAnswer := func(from, to *lab.Workload) func() {
		return func() {
			c := dial(t, from, at(to, listens))
			say(t, c, "hello")
			hear(t, c, "hello")
		}
	}
	banner, answer := median(hearsBanner(outsider, bystander)), median(hearsAnswer(outsider, bystander))

	// An unknown caller may still turn out to seal: it alone is waited for.
	const wait, noise = 100 * time.Millisecond, 50 * time.Millisecond
	for _, tc := range []struct {
		name          string
		took          time.Duration
		least, atMost time.Duration
	}{
		{"sealed, the server speaks first", median(hearsBanner(m.Sender, m.Receiver)), 0, banner + noise},
		{"sealed, the client speaks first", median(hearsAnswer(m.Sender, m.Receiver)), 0, answer + noise},
		{"known not to seal, the server speaks first", median(hearsBanner(neighbour, m.Receiver)), 0, banner + noise},
		{"known not to seal, the client speaks first", median(hearsAnswer(neighbour, m.Receiver)), 0, answer + noise},
		{"unknown, the server speaks first", median(hearsBanner(outsider, m.Receiver)), wait, banner + wait + noise},
		{"unknown, the client speaks first", median(hearsAnswer(outsider, m.Receiver)), 0, answer + noise},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Logf("%v", tc.took)
			if tc.took < tc.least || tc.took > tc.atMost {
				t.Errorf("took %v, must be %v to %v (without Sealmesh %v and %v)", tc.took, tc.least, tc.atMost, banner, answer)
			}
		})
	}
}

// median of how long something takes.
func median(f func()) time.Duration {
	times := make([]time.Duration, 15)
	for i := range times {
		start := time.Now()
		f()
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// A workload known to be sealed that is heard in clear has lost its proxy, or is
// not who it seems to be: it is refused even where strangers are let in.
//
//	sender, past its proxy ── in clear ──▶ ✗ receiver (permissive)
//
// Broken twin: an outsider that says the same.
func TestSealedCallerIsNotHeardInClear(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 1, "outsider", stranger)
	m.objects.mesh.Spec.MTLS.Inbound = permissive
	m.write(t)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	for _, to := range []netip.AddrPort{at(m.Receiver, appPort), at6(m.Receiver, appPort)} {
		heard, err := greetUnsealed(t, outsider, to)
		if err != nil || heard != "hello" {
			t.Fatalf("twin: %q (%v), expected an answer", heard, err)
		}
		from := m.mark()
		heard, err = greetUnsealed(t, m.Sender, to)
		if heard != "" {
			t.Errorf("%s answered %q to a sealed workload that spoke in clear", to, heard)
		}
		wantReset(t, "sender", err)
		m.waitLog(t, from, "the reason", has("direction", "inbound", "reason", "expected_seal", "server", to.String()))
	}
}

// greetUnsealed says hello past the redirection of a workload, with the mark that
// only proxies have, and returns the answer.
func greetUnsealed(t *testing.T, from *lab.Workload, to netip.AddrPort) (heard string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, ports.Mark)
		})
		if err != nil {
			return err
		}
		return failed
	}}
	var c net.Conn
	must(t, from.Do(func() (err error) {
		c, err = d.DialContext(ctx, "tcp", to.String())
		return err
	}))
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	say(t, c, "hello")
	_ = c.(*net.TCPConn).CloseWrite() // it may have been reset already
	all, err := io.ReadAll(c)
	return string(all), err
}
