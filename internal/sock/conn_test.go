package sock

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// tcpPair is both ends of a TCP connection.
func tcpPair(t *testing.T) (near *net.TCPConn, far *Conn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	accepted, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	if far, err = New(accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return near, far
}

func put(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func never([]byte) bool { return false }

// What can still come is waited for, and what cannot is not, whether the end was
// there before or comes while it is waited for.
func TestPeekWaitsForMoreAndNotBeyondTheEnd(t *testing.T) {
	for _, when := range []string{"before", "while waiting"} {
		near, far := tcpPair(t)
		put(t, near, "half")
		end := func() {
			if err := near.CloseWrite(); err != nil {
				t.Error(err)
			}
		}
		if when == "before" {
			end()
			for !closedByPeer(fdOf(t, far)) { // until it has arrived behind the bytes
				runtime.Gosched()
			}
		}
		_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
		var once bool
		n, err := far.Peek(make([]byte, 16), func([]byte) bool {
			if when == "while waiting" && !once {
				once = true
				go end()
			}
			return false
		})
		if n != 4 || err != nil {
			t.Errorf("end %s: %d bytes, %v", when, n, err)
		}
	}
	near, far := tcpPair(t)
	put(t, near, "half")
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := far.Peek(make([]byte, 16), never); n != 4 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("twin, without an end: %d bytes, %v", n, err)
	}
}

func fdOf(t *testing.T, c *Conn) (fd int) {
	t.Helper()
	if err := c.raw.Control(func(f uintptr) { fd = int(f) }); err != nil {
		t.Fatal(err)
	}
	return fd
}

// A guarded connection that is closed on purpose ends in order, to its last byte;
// one whose process ends does not.
func TestAGuardedConnectionEndsInOrderOnlyOnPurpose(t *testing.T) {
	near, far := tcpPair(t)
	far.Guard()
	put(t, far, "all of it")
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if heard, err := io.ReadAll(near); string(heard) != "all of it" || err != nil {
		t.Errorf("closed on purpose: heard %q, %v", heard, err)
	}
	near, far = tcpPair(t)
	far.Guard()
	_ = far.TCPConn.Close() // as the kernel does at the end of a process
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("closed by the kernel: %v", err)
	}
	near, far = tcpPair(t)
	_ = far.TCPConn.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("twin, without a guard: %v", err)
	}
}
