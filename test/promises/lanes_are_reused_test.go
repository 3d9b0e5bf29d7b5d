package promises

import (
	"io"
	"strconv"
	"testing"
)

// Metrics of the sender's proxy.
const (
	handshakesMade = `sealmesh_handshakes_total{direction="outbound",result="ok"}`
	lanesReused    = `sealmesh_lanes_reused_total`
	lanesIdle      = `sealmesh_lanes_idle`
)

// Connections one after another need one handshake: the lane of the first takes
// the others. What the proxies count and what tcpdump counts must agree.
//
//	sender ── 200 connections ──▶ proxy ══ one lane ══▶ receiver
//	                                    ▲ tcpdump: SYNs
//
// Broken twin: connections that are open together need one lane each.
func TestLanesAreReused(t *testing.T) {
	const connections = 200
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	t.Run("one after another", func(t *testing.T) {
		uplink := m.record(t, 1, "tcp port "+strconv.Itoa(appPort))
		for range connections {
			m.converseOnce(t)
		}
		got := metrics(t, m.Sender)
		if got[handshakesMade] != 1 || got[lanesReused] != connections-1 {
			t.Errorf("%v handshakes, %v lanes reused, for %d connections", got[handshakesMade], got[lanesReused], connections)
		}
		if n := len(uplink.stop(t).tshark(t, "tcp.flags.syn == 1 && tcp.flags.ack == 0", "frame.number")); n != 1 {
			t.Errorf("%d SYNs on the wire, expected 1", n)
		}
	})
	t.Run("at the same time", func(t *testing.T) {
		const together = 20
		uplink := m.record(t, 1, "tcp port "+strconv.Itoa(appPort))
		for range together {
			c := dial(t, m.Sender, at(m.Receiver, appPort))
			say(t, c, "!")
			hear(t, c, "!")
		}
		// One of them found the idle lane.
		if n := len(uplink.stop(t).tshark(t, "tcp.flags.syn == 1 && tcp.flags.ack == 0", "frame.number")); n != together-1 {
			t.Errorf("%d SYNs on the wire, expected %d", n, together-1)
		}
	})
}

// converseOnce is one whole connection from the sender, after which its lane is
// idle.
func (m *mesh) converseOnce(t *testing.T) {
	t.Helper()
	c := dial(t, m.Sender, at(m.Receiver, appPort))
	defer c.Close()
	say(t, c, "hello")
	must(t, c.CloseWrite())
	if all, err := io.ReadAll(c); err != nil || string(all) != "hello" {
		t.Fatalf("heard %q (%v)", all, err)
	}
	eventually(t, "an idle lane", func() bool { return metrics(t, m.Sender)[lanesIdle] > 0 })
}

// A lane is no right to be heard: each OPEN on it is authorized anew.
//
//	ghost ══ lane ══▶ proxy of receiver
//	      OPEN receiver:2929   ✓
//	      OPEN bystander:2929  ✗ not where the lane leads to
//	      OPEN receiver:2929   ✓ the lane is as good as before
//	      (ghost is removed)
//	      OPEN receiver:2929   ✗ revoked
func TestEachOpenIsAuthorizedAnew(t *testing.T) {
	m := newMesh(t)
	ghost := m.add(t, 1, "ghost", stranger)
	bystander := m.add(t, 2, "bystander", stranger)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	serve(t, bystander, appPort, echo)
	m.expectAt(t, ghost)
	d := m.domain(t)
	lane, err := dialPeer(t, ghost, at(m.Receiver, appPort), careless(d.Leaf(identityOf(d, ghost))))
	must(t, err)
	must(t, lane.talk(at(m.Receiver, appPort), "first"))

	from := m.mark()
	const refusedByPolicy = "stream reset with code 1"
	if err := lane.talk(at(bystander, appPort), "second"); err == nil || err.Error() != refusedByPolicy {
		t.Errorf("a stream to elsewhere: %v, expected %q", err, refusedByPolicy)
	}
	m.waitLog(t, from, "the reason", has("msg", "connection", "direction", "inbound", "reason", "wrong_destination"))
	must(t, lane.talk(at(m.Receiver, appPort), "third"))

	m.change(t, func(o *objects) { o.removeWorkload(ghost) })
	if err := lane.talk(at(m.Receiver, appPort), "fourth"); err == nil {
		t.Error("a revoked identity is heard on its old lane")
	}
}
