package promises

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/sealmesh/sealmesh/test/lab"
)

// Under outbound strict a destination of which no identity is known gets nothing,
// not even a SYN: the program gets a RST, the log says why.
//
//	sender ─▶ proxy ─✗          unknown    outsider, no object at all
//	                ─✗          known      neighbour, seal: Disabled
//	          ▲ tcpdump on the sender's own link
//
// Broken twin: the same under permissive, which says it in clear.
func TestOutboundStrictRefusesUnknown(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 2, "outsider", stranger)
	neighbour := m.add(t, 2, "neighbour", unsealed)
	m.start(t)
	destinations := []struct {
		name   string
		to     *lab.Workload
		reason string
	}{
		{"unknown", outsider, "unknown_destination"},
		{"outside the mesh", neighbour, "unsealed_destination"},
	}
	for _, d := range destinations {
		serve(t, d.to, appPort, echo)
		for _, to := range []netip.AddrPort{at(d.to, appPort), at6(d.to, appPort)} {
			t.Run(fmt.Sprintf("strict, %s, %s", d.name, to), func(t *testing.T) {
				link := recordOn(t, m.Sender.Host, "host "+to.Addr().String()+" and not arp")
				from := m.mark()
				_, err := attempt(t, m.Sender, to, "nobody may read this")
				wantReset(t, "sender", err)
				m.waitLog(t, from, "the reason", has("msg", "connection", "level", "WARN", "direction", "outbound",
					"server", to.String(), "reason", d.reason))
				if seen := link.stop(t); seen.packets > 0 {
					t.Errorf("%d packets went to or came from %s: %v", seen.packets, to, seen.tshark(t, "frame", "ip", "_ws.col.info"))
				}
			})
		}
	}
	m.setModes(t, strict, permissive)
	for _, d := range destinations {
		for _, to := range []netip.AddrPort{at(d.to, appPort), at6(d.to, appPort)} {
			t.Run(fmt.Sprintf("permissive, %s, %s", d.name, to), func(t *testing.T) {
				link := recordOn(t, m.Sender.Host, "host "+to.Addr().String())
				c := dial(t, m.Sender, to)
				say(t, c, "anybody may read this")
				hear(t, c, "anybody may read this")
				if !link.stop(t).shows(t, "anybody may read this") {
					t.Error("the twin does not show what was said: the experiment proves nothing")
				}
			})
		}
	}
}

// A destination that is no host at all is refused as fast: nobody is asked.
func TestOutboundStrictRefusesNowhere(t *testing.T) {
	m := startMesh(t)
	for _, to := range []string{"192.0.2.1:80", "[2001:db8::1]:80", net.JoinHostPort(m.Nodes[1].Addr4.String(), "22")} {
		_, err := attempt(t, m.Sender, netip.MustParseAddrPort(to), "is anybody there?")
		wantReset(t, to, err)
	}
}
