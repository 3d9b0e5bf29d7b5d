package promises

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// appPort is where servers of tests listen unless they say otherwise.
const appPort = 2929

// at is a port of a workload's IPv4 address.
func at(w *lab.Workload, port uint16) netip.AddrPort { return netip.AddrPortFrom(w.Addr4, port) }

// at6 is a port of a workload's IPv6 address.
func at6(w *lab.Workload, port uint16) netip.AddrPort { return netip.AddrPortFrom(w.Addr6, port) }

// serve runs an application in a workload, on every address of both families,
// until the test ends. Each connection is handled by a goroutine and closed
// after.
func serve(tb testing.TB, w *lab.Workload, port uint16, handle func(*net.TCPConn)) {
	tb.Helper()
	ln, err := w.Listen("tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())
	must(tb, err)
	tb.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
}

// echo sends back what it gets, and ends when the client does.
func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }

// dial connects from a workload. The connection has a deadline, so that a test
// fails rather than hangs, and is closed at the test's end at the latest.
func dial(tb testing.TB, from *lab.Workload, to netip.AddrPort) *net.TCPConn {
	tb.Helper()
	conn, err := tryDial(tb.Context(), from, to)
	must(tb, err)
	tb.Cleanup(func() { conn.Close() })
	return conn
}

// tryDial is dial where it may fail.
func tryDial(ctx context.Context, from *lab.Workload, to netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), conn.SetDeadline(time.Now().Add(patience))
}

// say writes text.
func say(tb testing.TB, conn net.Conn, text string) {
	tb.Helper()
	_, err := io.WriteString(conn, text)
	must(tb, err)
}

// hear reads as many bytes as the text expected has, and compares.
func hear(tb testing.TB, conn net.Conn, expected string) {
	tb.Helper()
	got := make([]byte, len(expected))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != expected {
		tb.Fatalf("heard %q (%v), expected %q", got, err, expected)
	}
}

// awaitListener waits until a program in a workload listens on a TCP port.
func awaitListener(tb testing.TB, w *lab.Workload, port int) {
	tb.Helper()
	eventually(tb, "a listener on port "+strconv.Itoa(port)+" of "+w.Name, func() bool {
		out, err := w.Command(tb.Context(), "ss", "-Hltn", "sport", "=", ":"+strconv.Itoa(port)).Output()
		must(tb, err)
		return len(out) > 0
	})
}

// attempt connects, says something and reads to the end. A refusal may come at
// any moment: the kernel has accepted the connection before the proxy decides.
func attempt(tb testing.TB, from *lab.Workload, to netip.AddrPort, text string) (heard string, err error) {
	tb.Helper()
	c, err := tryDial(tb.Context(), from, to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	_ = c.CloseWrite()
	all, err := io.ReadAll(c)
	return string(all), err
}
