package redirect

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/sock"
)

// Users of these tests: two workloads and a bystander.
const (
	web, db, bystander = 1001, 1002, 1003
)

func webOnly() Config {
	return host(Workload{Name: "shop/web", Selector: ByUID(web), Phase: Redirect, Ports: []uint16{8080}})
}

// The rules that know a workload's packet though its socket has no owner.
const portRule = "tcp sport 8080 meta mark set 0x3e815ea3"

var recallRules = map[string]string{
	"ipv4": "meta mark set ip saddr . tcp sport . ip daddr . tcp dport map @flows4 accept",
	"ipv6": "meta mark set ip6 saddr . tcp sport . ip6 daddr . tcp dport map @flows6",
}

func TestOnlyTheUsersOwnTrafficIsRedirected(t *testing.T) {
	app, peer := lab(t)
	remote := peer.listen(0, ":2929")
	webProxy, dbProxy := app.proxy(16001), app.proxy(16011)
	app.apply(host(
		Workload{Name: "shop/web", Selector: ByUID(web), Phase: Redirect, Ports: []uint16{8080}},
		Workload{Name: "shop/db", Selector: ByUID(db), Phase: Redirect, Ports: []uint16{5432}},
	))
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			for uid, proxy := range map[int]server{web: webProxy, db: dbProxy} {
				conn, err := app.dial(uid, join(at.peer, 2929))
				if err != nil {
					t.Fatalf("uid %d: %v", uid, err)
				}
				taken := proxy.accept()
				mustBe(t, taken, join(at.peer, 2929), at.app)
				exchange(t, conn, taken)
			}
			conn, err := app.dial(bystander, join(at.peer, 2929))
			if err != nil {
				t.Fatalf("bystander: %v", err)
			}
			exchange(t, conn, remote.accept())
		})
	}
}

func TestOnlyTheWorkloadsPortsAreRedirected(t *testing.T) {
	app, peer := lab(t)
	app.listen(web, ":8080")
	other := app.listen(bystander, ":8081")
	proxy := app.proxy(16002)
	app.apply(webOnly())
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			conn, err := peer.dial(0, join(at.app, 8080))
			if err != nil {
				t.Fatal(err)
			}
			taken := proxy.accept()
			mustBe(t, taken, join(at.app, 8080), at.peer)
			exchange(t, conn, taken)
			if conn, err = peer.dial(0, join(at.app, 8081)); err != nil {
				t.Fatalf("bystander: %v", err)
			}
			exchange(t, conn, other.accept())
		})
	}
}

func TestHostWithoutProxyPassesNothingOfTheWorkload(t *testing.T) {
	app, peer := lab(t)
	app.listen(web, ":8080")
	peer.listen(0, ":8080")
	watch := peer.watch()
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.apply(webOnly())
			if _, err := app.dial(web, join(at.peer, 8080)); err == nil {
				t.Error("connected outward")
			}
			if _, err := peer.dial(0, join(at.app, 8080)); err == nil {
				t.Error("connected inward")
			}
			if leaked := watch.came(app); len(leaked) > 0 {
				t.Errorf("on the wire: %q", leaked)
			}
			app.remove() // the twin
			if _, err := app.dial(web, join(at.peer, 8080)); err != nil {
				t.Errorf("outward without rules: %v", err)
			}
			if _, err := peer.dial(0, join(at.app, 8080)); err != nil {
				t.Errorf("inward without rules: %v", err)
			}
			watch.came(app)
		})
	}
}

// A connection that waits to be accepted has no user: what it answers is known
// by its port.
func TestConnectionsNotYetAcceptedAnswerTheProxy(t *testing.T) {
	app, peer := lab(t)
	local := app.listen(web, ":8080")
	watch := peer.watch()
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.apply(webOnly())
			conn := app.callApp(at.peer, join(at.app, 8080))
			if _, err := conn.Write([]byte("test")); err != nil {
				t.Fatal(err)
			}
			awaitAcked(t, conn)
			exchange(t, conn, skip(t, local.accept(), 4))
			if leaked := watch.came(app); len(leaked) > 0 {
				t.Errorf("on the wire: %q", leaked)
			}

			app.applyWithout(webOnly(), portRule, recallRules[name])
			conn = app.callApp(at.peer, join(at.app, 8080))
			if _, err := conn.Write([]byte("test")); err != nil {
				t.Fatal(err)
			}
			local.accept()
			if seen := protocols(watch.came(app)); seen != "tcp" {
				t.Error("without the rules nothing leaked: the test proves nothing")
			}
			abort(conn)
		})
	}
}

// skip reads n bytes away.
func skip(t *testing.T, c *net.TCPConn, n int64) *net.TCPConn {
	t.Helper()
	if _, err := io.CopyN(io.Discard, c, n); err != nil {
		t.Fatal(err)
	}
	return c
}

// awaitAcked returns when the other end has acknowledged all that was written.
func awaitAcked(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; {
		var info *unix.TCPInfo
		if cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
			t.Fatal(errors.Join(cerr, err))
		}
		if info.Unacked == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d segments were not acknowledged", info.Unacked)
		}
	}
}

// What the kernel answers for a port that is closed has no user either.
func TestTheProxyIsToldThatAPortIsClosed(t *testing.T) {
	app, peer := lab(t)
	watch := peer.watch()
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			call := func() (err error) {
				app.do(func() error {
					_, err = sock.Dialer{Timeout: patience}.App(t.Context(), netip.MustParseAddr(at.peer), netip.MustParseAddrPort(join(at.app, 8080)))
					return nil
				})
				return err
			}
			app.apply(webOnly())
			if err := call(); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("got %v, want connection refused", err)
			}
			if leaked := watch.came(app); len(leaked) > 0 {
				t.Errorf("on the wire: %q", leaked)
			}
			app.applyWithout(webOnly(), portRule)
			if err := call(); errors.Is(err, unix.ECONNREFUSED) || len(watch.came(app)) == 0 {
				t.Errorf("without the rule: %v: the test proves nothing", err)
			}
		})
	}
}

// A socket that is closed with data unsent has no user: its connection is
// remembered.
func TestDataOfClosedSocketsReachesTheProxy(t *testing.T) {
	app, peer := lab(t)
	proxy := app.proxy(16001)
	watch := peer.watch()
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	// fill dials as the workload, writes all of payload into the socket's buffer,
	// closes the socket, and returns what the proxy holds.
	fill := func(to string) *net.TCPConn {
		conn, err := app.dial(web, to, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*len(payload))
		})
		if err != nil {
			t.Fatal(err)
		}
		taken := proxy.accept()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(payload); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		return taken
	}
	small := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10) }
	raw, err := proxy.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = small(int(fd)) }); cerr != nil || err != nil {
		t.Fatal(errors.Join(cerr, err))
	}
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			app.apply(webOnly())
			taken := fill(join(at.peer, 2929))
			app.apply(webOnly()) // what is remembered outlives this
			taken.SetDeadline(time.Now().Add(10 * time.Second))
			if got, err := io.ReadAll(taken); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, len(payload))
			}
			if leaked := watch.came(app); len(leaked) > 0 {
				t.Errorf("on the wire: %q", leaked)
			}

			app.applyWithout(webOnly(), recallRules[name])
			taken = fill(join(at.peer, 2929))
			taken.SetDeadline(time.Now().Add(patience))
			_, _ = io.ReadAll(taken)
			if seen := protocols(watch.came(app)); seen != "tcp" {
				t.Error("without the rule nothing leaked: the test proves nothing")
			}
		})
	}
}

func TestHostGuardHoldsOneWorkloadOnly(t *testing.T) {
	app, peer := lab(t)
	app.listen(web, ":8080")
	peer.listen(0, ":8080")
	remote := peer.listen(0, ":2929")
	in := app.datagrams(":8080")
	dbProxy := app.proxy(16011)
	config := host(
		Workload{Name: "shop/web", Selector: ByUID(web), Phase: Guard, Ports: []uint16{8080}},
		Workload{Name: "shop/db", Selector: ByUID(db), Phase: Redirect},
	)
	watch := peer.watch()
	app.everything(web, peer4, peer6) // the twin
	peer.everything(0, app4, app6)
	if seen := protocols(watch.came(app)); seen != "tcp udp" {
		t.Fatalf("without guard, seen on the wire: %q", seen)
	}
	in()

	app.apply(config)
	app.everything(web, peer4, peer6)
	peer.everything(0, app4, app6)
	if seen := watch.came(app); len(seen) > 0 {
		t.Errorf("on the wire: %q", seen)
	}
	if n := in(); n > 0 {
		t.Errorf("%d datagrams came in", n)
	}
	conn, err := app.dial(db, join(peer4, 2929))
	if err != nil {
		t.Fatalf("the other workload: %v", err)
	}
	exchange(t, conn, dbProxy.accept())
	if conn, err = app.dial(bystander, join(peer4, 2929)); err != nil {
		t.Fatalf("bystander: %v", err)
	}
	exchange(t, conn, remote.accept())
}

func TestOnlyTheCgroupsOwnTrafficIsRedirected(t *testing.T) {
	app, peer := lab(t)
	mount, err := cgroupMount()
	if err != nil {
		t.Skip(err)
	}
	name := app.name + "-cgroup"
	path := filepath.Join(mount, name)
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Skipf("cannot make a cgroup: %v", err)
	}
	t.Cleanup(func() { os.Remove(path) })
	selector, err := ByCgroup(name)
	if err != nil {
		t.Fatal(err)
	}
	peer.listen(0, ":2929")
	proxy := app.proxy(16001)
	app.apply(host(Workload{Name: "shop/web", Selector: selector, Phase: Redirect, Ports: []uint16{8080}}))
	for name, at := range pairs {
		t.Run(name, func(t *testing.T) {
			if got := app.ncInCgroup(path, at.peer, "2929", func() {
				taken := proxy.accept()
				mustBe(t, taken, join(at.peer, 2929), at.app)
				io.WriteString(taken, "sealed")
				taken.CloseWrite()
			}); got != "sealed" {
				t.Errorf("nc in the cgroup read %q", got)
			}
			conn, err := app.dial(0, join(at.peer, 2929))
			if err != nil {
				t.Fatalf("bystander: %v", err)
			}
			conn.Close()
		})
	}
}

// ncInCgroup runs nc as a member of a cgroup and returns what it reads.
func (n ns) ncInCgroup(cgroup, host, port string, meanwhile func()) string {
	n.t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		n.t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("ip", "netns", "exec", n.name, "nc", "-d", host, port)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	meanwhile()
	if err := cmd.Wait(); err != nil {
		n.t.Fatalf("nc: %v", err)
	}
	return out.String()
}
