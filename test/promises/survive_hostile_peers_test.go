package promises

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// handshakeTime is how long a proxy waits for a handshake, its turn included.
const handshakeTime = 10 * time.Second

// Two thousand connections from one address that begin a handshake and say no more
// take neither the memory of a proxy nor its time for others, and end.
//
//	forger ── half a ClientHello ──▶ proxy of receiver    × 2000
//	neighbour ── whole handshake ──▶                      served at once
//	sender ══ load ═════════════════▶                     served
//
// Positive control: the half becomes a whole, and is served.
func TestHalfOpenHandshakesTakeNothingFromOthers(t *testing.T) {
	t.Parallel() // most of it is waiting
	m := newMesh(t)
	forger, neighbour := m.add(t, 1, "forger", stranger), m.add(t, 1, "neighbour", stranger)
	m.start(t)
	d := m.domain(t)
	serve(t, m.Receiver, appPort, echo)
	m.expectAt(t, forger) // so that its certificate is as good as any
	pid := m.proxyOf(t, m.Receiver).Pid
	l := startLoad(t, m.Sender, at(m.Receiver, appPort), 2)
	l.more(t, 100)
	before := resident(t, pid)

	hello := clientHello(t)
	whole := dial(t, neighbour, at(m.Receiver, appPort))
	for _, half := range [][]byte{hello[:len(hello)/2], hello[len(hello)/2:]} {
		_, err := whole.Write(half)
		must(t, err)
	}
	if _, err := io.ReadFull(whole, make([]byte, 5)); err != nil {
		t.Fatalf("a whole hello in two parts is not answered: %v", err)
	}
	const flood = 2000
	began := time.Now()
	conns := dialMany(t, neighbour, at(m.Receiver, appPort), flood)
	for _, conn := range conns {
		_, err := conn.Write(hello[:len(hello)/2])
		must(t, err)
	}
	asked := time.Now()
	if err := knock(t, forger, at(m.Receiver, appPort), d.Leaf(identityOf(d, forger))); err != nil {
		t.Errorf("another address is not served: %v", err)
	}
	if took := time.Since(asked); took > handshakeTime/2 {
		t.Errorf("another address is served after %s", took)
	}
	l.more(t, 100)
	const each = 64 << 10
	if grown := resident(t, pid) - before; grown > flood*each {
		t.Errorf("resident memory has grown by %d KiB, %d KiB for each connection", grown>>10, grown/flood>>10)
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(began.Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("a half-open handshake lasts: %v", err)
		}
	}
	if took := time.Since(began); took < handshakeTime || took > 2*handshakeTime {
		t.Errorf("the last is ended after %s, their time is %s", took, handshakeTime)
	}
	l.wantNoneFailed(t, 200)
	if err := knock(t, forger, at(m.Receiver, appPort), d.Leaf(identityOf(d, forger))); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// dialMany is dial, many times at once.
func dialMany(tb testing.TB, from *lab.Workload, to netip.AddrPort, count int) (conns []net.Conn) {
	tb.Helper()
	must(tb, from.Do(func() error {
		for range count {
			conn, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", to.String())
			if err != nil {
				return err
			}
			conns = append(conns, conn)
		}
		return nil
	}))
	tb.Cleanup(func() {
		for _, conn := range conns {
			conn.Close()
		}
	})
	return conns
}

// clientHello is a ClientHello of a lane as it is on the wire.
func clientHello(tb testing.TB) []byte {
	tb.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() { _ = tls.Client(near, careless(nil)).Handshake() }()
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	must(tb, err)
	return b[:n]
}

var residentLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB$`)

// resident is how much memory a process holds, in bytes.
func resident(tb testing.TB, pid int) int {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(tb, err)
	found := residentLine.FindSubmatch(status)
	if found == nil {
		tb.Fatalf("no resident memory in %s", status)
	}
	kilobytes, err := strconv.Atoi(string(found[1]))
	must(tb, err)
	return kilobytes << 10
}

// Whatever a stranger sends instead of a handshake, and a peer with a good
// certificate instead of frames, ends its own connection and nothing else.
//
// Positive control: a bystander's connection goes on through all of it.
func TestGarbageEndsNothingButItself(t *testing.T) {
	m := newMesh(t)
	forger := m.add(t, 1, "forger", stranger)
	m.start(t)
	d := m.domain(t)
	serve(t, m.Receiver, appPort, echo)
	m.expectAt(t, forger)
	outsider := m.add(t, 2, "outsider", stranger)
	bystander := converse(t, m.Sender, m.Receiver)
	pid := m.proxyOf(t, m.Receiver).Pid

	random := make([]byte, 64<<10)
	_, _ = rand.Read(random)
	for name, garbage := range map[string][]byte{
		"random bytes":        random,
		"HTTP":                []byte("GET / HTTP/1.1\r\n\r\n"),
		"a record too long":   append([]byte{22, 3, 1, 0xff, 0xff}, random...),
		"an empty record":     {22, 3, 1, 0, 0},
		"an alert":            {21, 3, 3, 0, 2, 2, 40},
		"a hello of nothing":  append([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, random[:100]...),
		"a hello cut short":   clientHello(t)[:200],
		"a hello and garbage": append(clientHello(t), random...),
	} {
		t.Run("of a stranger: "+name, func(t *testing.T) {
			for _, from := range []*lab.Workload{outsider, forger} { // one unknown, one known to be sealed
				conn := dial(t, from, at(m.Receiver, appPort))
				_, _ = conn.Write(garbage)
				_ = conn.CloseWrite()
				if heard, err := io.ReadAll(conn); isTimeout(err) || bytes.Contains(heard, garbage) {
					t.Errorf("heard %d bytes, %v", len(heard), err)
				}
			}
			bystander.goesOn(t, "when a stranger sent "+name)
		})
	}
	for name, garbage := range map[string][]byte{
		"random bytes":            random,
		"an unknown frame":        {99, 0, 0, 0},
		"DATA before OPEN":        {frameData, 255, 0, 1, 'x'},
		"DATA of nothing":         {frameData, 255, 0, 0},
		"OPEN of another version": {frameOpen, 0, 0, 9, 9, 0, 4, 10, 77, 2, 11, 11, 113},
		"OPEN of the next stream": {frameOpen, 1, 0, 9, 1, 0, 4, 10, 77, 2, 11, 11, 113},
		"OPEN cut short":          {frameOpen, 0, 0, 9, 1, 0},
	} {
		t.Run("of a peer: "+name, func(t *testing.T) {
			p, err := dialPeer(t, forger, at(m.Receiver, appPort), careless(d.Leaf(identityOf(d, forger))))
			must(t, err)
			_, _ = p.Write(garbage)
			_ = p.CloseWrite()
			if heard, err := io.ReadAll(p); isTimeout(err) || len(heard) > 0 {
				t.Errorf("heard %d bytes, %v", len(heard), err)
			}
			bystander.goesOn(t, "when a peer sent "+name)
		})
	}
	if !runs(pid) || m.proxyOf(t, m.Receiver).Pid != pid {
		t.Error("the proxy has ended")
	}
}

// A peer with a good certificate reaches the workload whose address it has
// connected to, and nothing else through it: neither others nor the workload's
// loopback.
//
// Positive control: the same lane, to the workload itself.
func TestAPeerReachesNothingElseThroughAProxy(t *testing.T) {
	m := newMesh(t)
	forger := m.add(t, 1, "forger", stranger)
	victim := m.add(t, 2, "victim", stranger)
	m.start(t)
	d := m.domain(t)
	m.expectAt(t, forger)
	for _, w := range []*lab.Workload{m.Receiver, victim} {
		serve(t, w, appPort, echo)
	}
	serve(t, m.Receiver, appPort+1, echo)
	p, err := dialPeer(t, forger, at(m.Receiver, appPort), careless(d.Leaf(identityOf(d, forger))))
	must(t, err)
	for _, to := range []netip.AddrPort{
		at(victim, appPort),
		at(m.Receiver, appPort+1),
		at6(m.Receiver, appPort),
		netip.MustParseAddrPort("127.0.0.1:2929"),
		netip.MustParseAddrPort("127.0.0.1:15090"),
		netip.MustParseAddrPort("0.0.0.0:2929"),
	} {
		from := m.mark()
		if err := p.talk(to, "knock"); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("to %s: %v", to, err)
		}
		m.waitLog(t, from, "refusal", has("msg", "connection", "direction", "inbound", "server", to.String(), "reason", "wrong_destination"))
	}
	if err := p.talk(at(m.Receiver, appPort), "knock"); err != nil {
		t.Errorf("to the workload itself: %v", err)
	}
}
