package redirect

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// send sends one datagram: network is udp, ip4:icmp or ip6:ipv6-icmp.
func (n ns) send(uid int, network, to string, payload []byte) {
	n.t.Helper()
	n.doAs(uid, func() error {
		conn, err := net.Dial(network, to)
		if err != nil {
			return err
		}
		defer conn.Close()
		// Dropped on the way out is an error of the call (EPERM): as good as sent.
		_, _ = conn.Write(payload)
		return nil
	})
}

// Echo requests; the kernel fills in the checksum of the second.
var (
	echo4 = []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}
	echo6 = []byte{128, 0, 0, 0, 0, 1, 0, 1}
)

// everything tries TCP, UDP and ICMP from one side to the other, for a user.
func (n ns) everything(uid int, v4, v6 string) {
	n.t.Helper()
	for _, to := range []string{v4, v6} {
		if conn, err := n.dial(uid, join(to, 8080)); err == nil {
			abort(conn)
		}
		n.send(uid, "udp", join(to, 8080), []byte("test"))
	}
}

func (n ns) pings(v4, v6 string) {
	n.t.Helper()
	n.send(0, "ip4:icmp", v4, echo4)
	n.send(0, "ip6:ipv6-icmp", v6, echo6)
}

// protocols are the first words of what was seen on the wire.
func protocols(packets []string) string {
	var seen []string
	for _, p := range packets {
		seen = append(seen, strings.Fields(p)[0])
	}
	slices.Sort(seen)
	return strings.Join(slices.Compact(seen), " ")
}

// datagrams opens a UDP socket and returns how many datagrams it has received.
func (n ns) datagrams(address string) func() int {
	n.t.Helper()
	var conn net.PacketConn
	n.do(func() (err error) {
		conn, err = net.ListenPacket("udp", address)
		return err
	})
	n.t.Cleanup(func() { conn.Close() })
	return func() (count int) {
		for {
			conn.SetReadDeadline(time.Now().Add(patience))
			if _, _, err := conn.ReadFrom(make([]byte, 64)); err != nil {
				return count
			}
			count++
		}
	}
}

func TestGuardDropsEverythingBothWays(t *testing.T) {
	app, peer := lab(t)
	app.listen(0, ":8080")
	peer.listen(0, ":8080")
	in, out := app.datagrams(":8080"), peer.datagrams(":8080")
	watch := peer.watch()
	try := func() {
		app.everything(0, peer4, peer6)
		app.pings(peer4, peer6)
		peer.everything(0, app4, app6)
		peer.pings(app4, app6)
	}

	try() // the twin: all of it passes
	if seen := protocols(watch.came(app)); seen != "icmp tcp udp" {
		t.Fatalf("without guard, seen on the wire: %q", seen)
	}
	if i, o := in(), out(); i != 2 || o != 2 {
		t.Fatalf("without guard, %d datagrams came in and %d went out, want 2 and 2", i, o)
	}

	app.apply(whole(Guard))
	try()
	if seen := watch.came(app); len(seen) > 0 {
		t.Errorf("on the wire: %q", seen)
	}
	if i, o := in(), out(); i != 0 || o != 0 {
		t.Errorf("%d datagrams came in and %d went out", i, o)
	}
}

func TestGuardLetsOnlyTheProxyReachTheControlPlane(t *testing.T) {
	app, peer := lab(t)
	control := peer.listen(0, ":15012")
	peer.listen(0, ":15013")
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			config := whole(Guard)
			config.Control = netip.MustParseAddrPort(join(at.peer, 15012))
			app.apply(config)
			for _, n := range []ns{app, peer} { // neighbours must be found anew
				n.ip("neigh", "flush", "dev", "eth0")
			}
			conn, err := app.dial(0, join(at.peer, 15012), withMark(ports.Mark))
			if err != nil {
				t.Fatalf("the proxy does not reach the control plane: %v", err)
			}
			exchange(t, conn, control.accept())
			if _, err := app.dial(0, join(at.peer, 15012)); err == nil {
				t.Error("the workload passes too")
			}
			if _, err := app.dial(0, join(at.peer, 15013), withMark(ports.Mark)); err == nil {
				t.Error("the proxy passes to another port")
			}
			app.apply(whole(Guard))
			if _, err := app.dial(0, join(at.peer, 15012), withMark(ports.Mark)); err == nil {
				t.Error("passes though no control plane is given") // the twin
			}
		})
	}
}
