package redirect

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// families of the lab: the peer's and the workload's address.
var pairs = map[string]struct{ peer, app string }{
	"ipv4": {peer4, app4},
	"ipv6": {peer6, app6},
}

func TestOutboundReachesTheProxyWithItsDestination(t *testing.T) {
	app, peer := lab(t)
	remote := peer.listen(0, ":2929")
	proxy := app.proxy(ports.Outbound)
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.remove()
			conn, err := app.dial(0, join(at.peer, 2929))
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, conn, remote.accept()) // the twin: no rules, no proxy

			app.apply(whole(Redirect))
			if conn, err = app.dial(0, join(at.peer, 2929)); err != nil {
				t.Fatal(err)
			}
			taken := proxy.accept()
			mustBe(t, taken, join(at.peer, 2929), at.app)
			exchange(t, conn, taken)
		})
	}
}

func TestInboundReachesTheProxyWithItsDestination(t *testing.T) {
	app, peer := lab(t)
	local := app.listen(0, ":8080")
	proxy := app.proxy(ports.Inbound)
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.remove()
			conn, err := peer.dial(0, join(at.app, 8080))
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, conn, local.accept()) // the twin

			app.apply(whole(Redirect))
			if conn, err = peer.dial(0, join(at.app, 8080)); err != nil {
				t.Fatal(err)
			}
			taken := proxy.accept()
			mustBe(t, taken, join(at.app, 8080), at.peer)
			exchange(t, conn, taken)
		})
	}
}

func TestApplicationSeesItsClientsAddress(t *testing.T) {
	app, peer := lab(t)
	local := app.listen(0, ":8080")
	app.proxy(ports.Outbound)
	app.apply(whole(Redirect))
	watch := peer.watch()
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			conn := app.callApp(at.peer, join(at.app, 8080))
			taken := local.accept()
			mustBe(t, taken, join(at.app, 8080), at.peer)
			exchange(t, conn, taken)
		})
	}
	if leaked := watch.came(app); len(leaked) > 0 {
		t.Errorf("on the wire: %q", leaked)
	}
}

// callApp connects to the application in a client's name, as the inbound proxy does.
func (n ns) callApp(client, to string) *net.TCPConn {
	n.t.Helper()
	var conn *net.TCPConn
	n.do(func() (err error) {
		conn, err = sock.Dialer{Timeout: 5 * time.Second}.App(context.Background(), netip.MustParseAddr(client), netip.MustParseAddrPort(to))
		if err == nil && sock.AddrPort(conn.LocalAddr()).Addr().String() != client {
			n.t.Error("the client's address was not kept")
		}
		return err
	})
	n.t.Cleanup(func() { abort(conn) })
	return conn
}

func TestApplicationDoesNotInheritTheProxysMark(t *testing.T) {
	const rule = `iif "lo" meta mark 0x00005ea1 meta mark set 0x00000000 return`
	app, peer := lab(t)
	local := app.listen(0, ":8080")
	app.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_fwmark_accept", []byte("1"), 0o644) })
	watch := peer.watch()

	app.apply(whole(Redirect))
	exchange(t, app.callApp(peer4, join(app4, 8080)), local.accept())
	if leaked := watch.came(app); len(leaked) > 0 {
		t.Errorf("on the wire: %q", leaked)
	}

	// The twin: the application answers under the proxy's mark, past the proxy.
	app.applyWithout(whole(Redirect), rule)
	app.do(func() error {
		_, err := sock.Dialer{Timeout: patience}.App(context.Background(), netip.MustParseAddr(peer4), netip.MustParseAddrPort(join(app4, 8080)))
		if err == nil {
			t.Error("the application answered the proxy even without the rule")
		}
		return nil
	})
	if len(watch.came(app)) == 0 {
		t.Error("nothing leaked without the rule: the test proves nothing")
	}
}

func TestTheProxysOwnMarkPasses(t *testing.T) {
	app, peer := lab(t)
	remote := peer.listen(0, ":2929")
	app.apply(whole(Redirect))
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			conn, err := app.dial(0, join(at.peer, 2929), withMark(ports.Mark))
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, conn, remote.accept())
			if _, err := app.dial(0, join(at.peer, 2929), withMark(ports.Mark+1)); err == nil {
				t.Error("another mark passes too")
			}
		})
	}
}

func TestOwnAddressesAndLoopbackPassUntouched(t *testing.T) {
	app, _ := lab(t)
	local := app.listen(0, ":8080")
	app.proxy(ports.Outbound)
	app.proxy(ports.Inbound)
	for _, phase := range []Phase{Guard, Redirect} {
		app.apply(whole(phase))
		for _, to := range []string{"127.0.0.1", "::1", app4, app6} {
			conn, err := app.dial(0, join(to, 8080))
			if err != nil {
				t.Fatalf("%s, %s: %v", phase, to, err)
			}
			exchange(t, conn, local.accept())
		}
	}
}

func TestWithoutProxyNothingLeaves(t *testing.T) {
	const rule = `iif "lo" meta mark & 0x0000ffff == 0x00005ea3 drop`
	app, peer := lab(t)
	peer.listen(0, ":2929")
	app.listen(0, ":2929") // the same port as the remote's
	watch := peer.watch()
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.apply(whole(Redirect))
			if conn, err := app.dial(0, join(at.peer, 2929)); err == nil {
				t.Errorf("connected to %s", conn.RemoteAddr())
			}
			// The twin: over IPv6 the workload finds itself where it called the
			// remote. Over IPv4 a plain listener cannot answer for a foreign address.
			app.applyWithout(whole(Redirect), rule)
			if _, err := app.dial(0, join(at.peer, 2929)); err != nil && name == "ipv6" {
				t.Errorf("without the rule: %v: the test proves nothing", err)
			}
		})
	}
	if leaked := watch.came(app); len(leaked) > 0 {
		t.Errorf("on the wire: %q", leaked)
	}
}

func TestWithoutProxyNothingComesIn(t *testing.T) {
	app, peer := lab(t)
	local := app.listen(0, ":8080")
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.remove()
			if _, err := peer.dial(0, join(at.app, 8080)); err != nil {
				t.Fatal(err) // the twin
			}
			local.accept()
			app.apply(whole(Redirect))
			if _, err := peer.dial(0, join(at.app, 8080)); err == nil {
				t.Error("connected in plaintext")
			}
		})
	}
}

func TestNothingMarkedLeavesByAnotherDevice(t *testing.T) {
	const rule = `oif != "lo" meta mark & 0x0000ffff == 0x00005ea3 drop`
	app, peer := lab(t)
	remote := peer.listen(0, ":2929")
	app.proxy(ports.Outbound)
	linkLocal := peer.linkLocal()
	watch := peer.watch()
	for _, c := range []struct {
		name    string
		to      string
		options []option
		before  func()
	}{
		{name: "a socket bound to a device", to: join(peer4, 2929), options: []option{withDevice("eth0")}},
		{name: "the same over IPv6", to: join(peer6, 2929), options: []option{withDevice("eth0")}},
		{name: "a link-local address", to: join(linkLocal+"%eth0", 2929)},
		{name: "the ip rule is gone", to: join(peer4, 2929), before: func() { app.ip("rule", "del", "priority", "24225") }},
		{name: "the route is gone", to: join(peer6, 2929), before: func() { app.ip("-6", "route", "flush", "table", "24225") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, broken := range []bool{false, true} {
				if broken {
					app.applyWithout(whole(Redirect), rule)
				} else {
					app.apply(whole(Redirect))
				}
				if c.before != nil {
					c.before()
				}
				_, err := app.dial(0, c.to, c.options...)
				leaked := watch.came(app)
				switch {
				case !broken && (err == nil || len(leaked) > 0):
					t.Errorf("passed: %v, on the wire %q", err, leaked)
				case broken && err != nil:
					t.Errorf("without the rule: %v: the test proves nothing", err)
				case broken:
					remote.accept()
				}
			}
		})
	}
}

// linkLocal is the link-local address of eth0.
func (n ns) linkLocal() (address string) {
	n.t.Helper()
	n.do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := eth0.Addrs()
		for _, a := range addrs {
			if ip := a.(*net.IPNet).IP; ip.IsLinkLocalUnicast() {
				address = ip.String()
			}
		}
		return err
	})
	if address == "" {
		n.t.Fatal("eth0 has no link-local address")
	}
	return address
}

func TestNobodyReachesTheTransparentListenersThemselves(t *testing.T) {
	app, peer := lab(t)
	listeners := map[int]server{ports.Outbound: app.proxy(ports.Outbound), ports.Inbound: app.proxy(ports.Inbound)}
	for port, listener := range listeners {
		app.remove()
		for _, from := range []ns{app, peer} {
			if _, err := from.dial(0, join(app4, port)); err != nil {
				t.Fatal(err) // the twin
			}
			listener.accept()
		}
		app.apply(whole(Redirect))
		for _, from := range []ns{app, peer} {
			if _, err := from.dial(0, join(app4, port)); err == nil {
				t.Errorf("%s reaches port %d", from.name, port)
			}
		}
	}
}

func TestSkipPortsPass(t *testing.T) {
	config := whole(Redirect)
	config.Workloads[0].SkipPorts = []uint16{2222}
	app, peer := lab(t)
	remote, local := peer.listen(0, ":2222"), app.listen(0, ":2222")
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.apply(whole(Redirect)) // the twin
			if _, err := app.dial(0, join(at.peer, 2222)); err == nil {
				t.Error("out: passes even if not skipped")
			}
			if _, err := peer.dial(0, join(at.app, 2222)); err == nil {
				t.Error("in: passes even if not skipped")
			}
			app.apply(config)
			out, err := app.dial(0, join(at.peer, 2222))
			if err != nil {
				t.Fatalf("out: %v", err)
			}
			exchange(t, out, remote.accept())
			in, err := peer.dial(0, join(at.app, 2222))
			if err != nil {
				t.Fatalf("in: %v", err)
			}
			exchange(t, in, local.accept())
		})
	}
}

func TestConnectionsThatBeginAtASkippedPortDoNotPass(t *testing.T) {
	config := whole(Redirect)
	config.Workloads[0].SkipPorts = []uint16{2223}
	app, peer := lab(t)
	remote := peer.listen(0, ":2929")
	app.proxy(ports.Outbound)
	dial := func() (err error) {
		app.do(func() error {
			d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(app4), Port: 2223}, Control: control([]option{withReset})}
			var conn net.Conn
			if conn, err = d.Dial("tcp", join(peer4, 2929)); err == nil {
				conn.Close()
			}
			return nil
		})
		return err
	}
	if err := dial(); err != nil {
		t.Fatal(err) // the twin
	}
	remote.accept()
	app.apply(config)
	if dial() == nil {
		t.Error("connected")
	}
	remote.SetDeadline(time.Now())
	if _, err := remote.Accept(); err == nil {
		t.Error("the remote was reached")
	}
}

func TestProbesReachTheAdminPort(t *testing.T) {
	app, peer := lab(t)
	// Opened without a mark, as another implementation might.
	admin := app.listen(0, join("", ports.Admin))
	app.apply(whole(Redirect))
	conn, err := peer.dial(0, join(app4, ports.Admin))
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, conn, admin.accept())
}

func TestConnectionsOutliveApplyingAgain(t *testing.T) {
	app, _ := lab(t)
	proxy := app.proxy(ports.Outbound)
	app.apply(whole(Redirect))
	conn, err := app.dial(0, join(peer4, 2929))
	if err != nil {
		t.Fatal(err)
	}
	taken := proxy.accept()
	for range 3 {
		exchange(t, conn, taken)
		app.apply(whole(Redirect))
	}
	exchange(t, conn, taken)
}
