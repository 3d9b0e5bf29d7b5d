package redirect

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/sock"
)

// patience is how long a connection is tried that must not come about.
const patience = 300 * time.Millisecond

// option sets something on a socket before it is used.
type option func(fd int) error

func withMark(m int) option {
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, m) }
}

func withDevice(name string) option {
	return func(fd int) error { return unix.BindToDevice(fd, name) }
}

// withReset ends a connection at once when it is closed, leaving its port free.
func withReset(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func control(options []option) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			for _, o := range options {
				err = errors.Join(err, o(int(fd)))
			}
		})
		return errors.Join(cerr, err)
	}
}

// doAs is do as another user; only the thread changes.
func (n ns) doAs(uid int, fn func() error) {
	n.t.Helper()
	n.do(func() error {
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			return errno
		}
		return fn()
	})
}

// server is a listener of a test; at is its address.
type server struct {
	*net.TCPListener
	t *testing.T
}

// listen opens a plain listener as a user.
func (n ns) listen(uid int, address string, options ...option) server {
	n.t.Helper()
	s := server{t: n.t}
	n.doAs(uid, func() error {
		lc := net.ListenConfig{Control: control(options)}
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(context.Background(), "tcp", address)
		if err == nil {
			s.TCPListener = l.(*net.TCPListener)
			n.t.Cleanup(func() { l.Close() })
		}
		return err
	})
	return s
}

// proxy opens a transparent listener as the proxy does.
func (n ns) proxy(port uint16) server {
	n.t.Helper()
	s := server{t: n.t}
	n.do(func() (err error) {
		s.TCPListener, err = sock.Listen(context.Background(), port)
		return err
	})
	n.t.Cleanup(func() { s.Close() })
	return s
}

// dial connects as a user, trying for a while.
func (n ns) dial(uid int, to string, options ...option) (conn *net.TCPConn, err error) {
	n.t.Helper()
	n.doAs(uid, func() error {
		d := net.Dialer{Timeout: patience, Control: control(options)}
		var c net.Conn
		if c, err = d.Dial("tcp", to); err == nil {
			conn = c.(*net.TCPConn)
			n.t.Cleanup(func() { abort(conn) })
		}
		return nil
	})
	return conn, err
}

// accept takes one connection, and fails the test if none comes.
func (s server) accept() *net.TCPConn {
	s.t.Helper()
	s.SetDeadline(time.Now().Add(5 * time.Second))
	c, err := s.AcceptTCP()
	if err != nil {
		s.t.Fatalf("listener %s: %v", s.Addr(), err)
	}
	s.t.Cleanup(func() { abort(c) })
	return c
}

// abort ends a connection at once, so that it sends nothing into later tests.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// mustBe checks where an accepted connection was meant to go and whence it came.
func mustBe(t *testing.T, c *net.TCPConn, local, remote string) {
	t.Helper()
	addr := func(a net.Addr) netip.AddrPort {
		ap := a.(*net.TCPAddr).AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if got := addr(c.LocalAddr()); got.String() != local {
		t.Errorf("local address %s, want the original destination %s", got, local)
	}
	if got := addr(c.RemoteAddr()).Addr(); got.String() != remote {
		t.Errorf("remote address %s, want %s", got, remote)
	}
}

// exchange proves that two ends are of one connection, both ways.
func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		pair[0].SetDeadline(time.Now().Add(5 * time.Second))
		pair[1].SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := pair[0].Write([]byte("test")); err != nil {
			t.Fatal(err)
		}
		var got [4]byte
		if _, err := io.ReadFull(pair[1], got[:]); err != nil || string(got[:]) != "test" {
			t.Fatalf("read %q, %v", got, err)
		}
	}
}

func join(host string, port int) string { return net.JoinHostPort(host, fmt.Sprint(port)) }

// applyWithout applies a broken twin: the plan without some of its rules.
func (n ns) applyWithout(c Config, rules ...string) {
	n.t.Helper()
	n.apply(c)
	r, left := Plan(c), 0
	for i := range r.chains {
		r.chains[i].rules = slices.DeleteFunc(r.chains[i].rules, func(rule rule) bool {
			return slices.Contains(rules, rule.String())
		})
		left += len(r.chains[i].rules)
	}
	if left != Plan(c).Rules()-len(rules) {
		n.t.Fatalf("the plan has not all of the rules %q", rules)
	}
	n.do(r.apply)
}

// wire watches what a namespace receives on eth0, below all its rules.
type wire struct {
	n  ns
	fd int
}

// barrier is the type of the frame that ends what wire reports (local
// experimental, IEEE 802).
const barrier = 0x88b5

func (n ns) watch() wire {
	n.t.Helper()
	w := wire{n: n}
	n.do(func() (err error) {
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: eth0.Index})
	})
	n.t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// came lists what came from the other side until now: "tcp 10.99.0.1:80",
// "udp …", "icmp …". ARP, neighbour discovery and multicast are not listed.
func (w wire) came(from ns) (packets []string) {
	w.n.t.Helper()
	from.do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		frame := slices.Concat([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, eth0.HardwareAddr, binary.BigEndian.AppendUint16(nil, barrier), make([]byte, 46))
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index, Halen: 6})
	})
	frame := make([]byte, 1<<16)
	for {
		size, from, err := unix.Recvfrom(w.fd, frame, 0)
		if err != nil {
			w.n.t.Fatalf("watching the wire: %v", err)
		}
		if size < 14 || from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		kind := binary.BigEndian.Uint16(frame[12:])
		if kind == barrier {
			return packets
		}
		if p := describe(kind, frame[14:size]); p != "" {
			packets = append(packets, p)
		}
	}
}

func describe(kind uint16, p []byte) string {
	var proto byte
	var dst netip.Addr
	switch kind {
	case unix.ETH_P_IP:
		proto, dst = p[9], netip.AddrFrom4([4]byte(p[16:20]))
		p = p[int(p[0]&0xf)*4:]
	case unix.ETH_P_IPV6:
		proto, dst = p[6], netip.AddrFrom16([16]byte(p[24:40]))
		p = p[40:]
	default:
		return ""
	}
	switch {
	case dst.IsMulticast():
		return ""
	case proto == unix.IPPROTO_TCP:
		return "tcp " + netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[2:])).String()
	case proto == unix.IPPROTO_UDP:
		return "udp " + netip.AddrPortFrom(dst, binary.BigEndian.Uint16(p[2:])).String()
	case proto == unix.IPPROTO_ICMP, proto == unix.IPPROTO_ICMPV6 && p[0] >= 128 && p[0] < 130:
		return "icmp " + dst.String()
	}
	return ""
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }
