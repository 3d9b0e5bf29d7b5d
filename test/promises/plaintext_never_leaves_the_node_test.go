package promises

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// What one workload says to another never leaves the node in clear: neither by
// IPv4 nor by IPv6.
//
//	 node n1                         node n2
//	┌────────────────┐              ┌────────────────────┐
//	│ sender: nc ─────── eth0 ───────▶ receiver: nc -l    │
//	└────────────────┘    ▲         └────────────────────┘
//	                   tcpdump, both nodes; tshark judges
//
// Broken twin: before `sealmesh up`, the same programs with the same words.
func TestPlaintextNeverLeavesTheNode(t *testing.T) {
	needs(t, "nc")
	m := newMesh(t)
	families := []struct {
		name string
		to   netip.Addr
	}{{"IPv4", m.Receiver.Addr4}, {"IPv6", m.Receiver.Addr6}}
	for _, f := range families {
		t.Run("unsealed "+f.name, func(t *testing.T) {
			for node, seen := range m.netcat(t, f.to, "not-yet-a-secret") {
				if !seen.shows(t, "not-yet-a-secret") {
					t.Errorf("node %d: the twin does not show what was sent: the experiment proves nothing", node+1)
				}
			}
		})
	}
	m.start(t)
	for _, f := range families {
		t.Run("sealed "+f.name, func(t *testing.T) {
			for _, seen := range m.netcat(t, f.to, "a-secret-by-"+f.name) {
				seen.wantSealed(t, m.Receiver, appPort, "a-secret-by-"+f.name)
			}
		})
	}
}

// netcat sends text from one nc to another, checks that it arrived, and returns
// what was on the uplinks of both nodes.
func (m *mesh) netcat(t *testing.T, to netip.Addr, text string) []*wire {
	t.Helper()
	captures := []*capture{m.record(t, 1, "tcp"), m.record(t, 2, "tcp")}
	port := strconv.Itoa(appPort)
	server := m.Receiver.Command(t.Context(), "nc", "-l", "-N", "-p", port)
	if to.Is6() {
		server = m.Receiver.Command(t.Context(), "nc", "-6", "-l", "-N", "-p", port)
	}
	var heard, complaint strings.Builder
	server.Stdout, server.Stderr = &heard, &complaint
	must(t, server.Start())
	awaitListener(t, m.Receiver, appPort)
	client := m.Sender.Command(t.Context(), "nc", "-N", to.String(), port)
	client.Stdin = strings.NewReader(text)
	if out, err := client.CombinedOutput(); err != nil {
		t.Fatalf("nc: %v: %s", err, out)
	}
	if err := server.Wait(); err != nil {
		t.Fatalf("nc -l: %v: %s", err, complaint.String())
	}
	if heard.String() != text {
		t.Fatalf("receiver heard %q, sent was %q", heard.String(), text)
	}
	var seen []*wire
	for _, c := range captures {
		seen = append(seen, c.stop(t))
	}
	return seen
}
