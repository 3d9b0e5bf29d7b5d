// Package sock is TCP as the data plane needs it: reads that hold no buffer
// while they wait, reads that do not wait at all, resets, and the socket options
// of a transparent proxy. Linux only.
//
// Memory: a connection that waits holds no buffer. Buffers are lent by one pool
// (Borrow, Return) from the moment bytes have arrived until they were passed on.
//
// Time: reads and writes of these non-blocking sockets go to the kernel without
// telling Go's scheduler (syscall.go), and park in its poller when there is nothing
// to do.
package sock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// Run is the stride of a Buffer: the length of one full frame and one TLS record.
	Run = 16 << 10
	// Runs is how many a Buffer has. Twice as many gained nothing, half as many cost
	// a tenth more CPU for bulk.
	Runs = 8
)

// Buffer is what one read may fill.
type Buffer [Runs * Run]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// Borrow lends a buffer, which must go back with Return.
func Borrow() *Buffer { return buffers.Get().(*Buffer) }

// Return gives a borrowed buffer back. Nil is allowed.
func Return(b *Buffer) {
	if b != nil {
		buffers.Put(b)
	}
}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing to read yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// ErrWouldBlock is returned by reads that were asked not to wait. It is a
// temporary net.Error, the one kind that crypto/tls does not remember, so that a
// TLS connection above can be read again later.
var ErrWouldBlock net.Error = wouldBlock{}

// Whether a read waits until something has arrived.
const (
	Wait   = true
	NoWait = false
)

// Conn is a TCP connection. One goroutine reads and one writes.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn

	// BeforeWait, if set, is called when a read is about to wait, and keeps it from
	// waiting by returning false; the read then returns ErrWouldBlock. Owned by the
	// reader.
	BeforeWait func() bool

	// Owned by the reader: arguments and results of read, which is called by the
	// runtime's poller and must not allocate.
	read  func(fd uintptr) bool
	wait  bool
	lend  bool    // read into a borrowed buffer
	buf   *Buffer // the borrowed buffer
	gap   int
	plain []byte // read into this otherwise
	n     int
	err   error
	bulk  bool // the last read filled its run: more is likely to follow

	// Owned by the writer, for the same reason.
	write func(fd uintptr) bool
	rest  []byte
	werr  error

	guarded bool // see Guard
}

// New wraps a connection.
func New(tcp *net.TCPConn) (*Conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{TCPConn: tcp, raw: raw}
	c.read, c.write = c.readOnce, c.writeSome
	return c, nil
}

// ReadInto reads into b what has arrived, io.EOF at the end.
func (c *Conn) ReadInto(b []byte, wait bool) (int, error) {
	c.plain, c.wait, c.lend = b, wait, false
	err := c.attempt()
	c.plain = nil
	return c.n, err
}

// Receive reads what has arrived into a borrowed buffer, which the caller
// returns. The bytes lie in runs: each run begins with gap bytes that are left
// free and holds at most Run-gap bytes, and every run but the last is full. n
// counts the bytes without the gaps.
func (c *Conn) Receive(gap int, wait bool) (buf *Buffer, n int, err error) {
	c.gap, c.wait, c.lend = gap, wait, true
	err = c.attempt()
	buf, c.buf = c.buf, nil
	if err != nil {
		Return(buf)
		return nil, 0, err
	}
	c.bulk = c.n >= Run-gap
	return buf, c.n, nil
}

// attempt runs read under the poller and sorts its outcome.
func (c *Conn) attempt() error {
	if err := c.raw.Read(c.read); err != nil {
		c.n = 0
		return err
	}
	switch {
	case c.err == unix.EAGAIN:
		return ErrWouldBlock
	case c.err != nil:
		c.n = 0
		return os.NewSyscallError("read", c.err)
	case c.n == 0:
		return io.EOF
	}
	return nil
}

// readOnce is one read(2); false asks the poller to wait and call again.
func (c *Conn) readOnce(fd uintptr) bool {
	for {
		switch {
		case !c.lend:
			c.n, c.err = read(fd, c.plain)
		default:
			if c.buf == nil {
				c.buf = Borrow()
			}
			if c.bulk {
				c.n, c.err = c.readRuns(fd)
			} else {
				c.n, c.err = read(fd, c.buf[c.gap:Run])
			}
		}
		if c.err == unix.EINTR {
			continue
		}
		if c.err != unix.EAGAIN {
			return true
		}
		c.n, c.bulk = 0, false
		if !c.wait || c.BeforeWait != nil && !c.BeforeWait() {
			return true
		}
		Return(c.buf)
		c.buf = nil
		return false
	}
}

// readRuns fills all runs of the buffer with one readv(2).
func (c *Conn) readRuns(fd uintptr) (int, error) {
	var runs [Runs]unix.Iovec
	for i := range runs {
		runs[i].Base = &c.buf[i*Run+c.gap]
		runs[i].SetLen(Run - c.gap)
	}
	return readv(fd, runs[:])
}

// Write writes all of b, waiting as long as it takes or until the write deadline.
func (c *Conn) Write(b []byte) (int, error) {
	c.rest, c.werr = b, nil
	err := c.raw.Write(c.write)
	n := len(b) - len(c.rest)
	c.rest = nil
	if err == nil && c.werr != nil {
		err = os.NewSyscallError("write", c.werr)
	}
	return n, err
}

// writeSome is write(2) until all is written; false asks the poller to wait.
func (c *Conn) writeSome(fd uintptr) bool {
	for len(c.rest) > 0 {
		n, err := write(fd, c.rest)
		switch err {
		case nil:
			c.rest = c.rest[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			c.werr = err
			return true
		}
	}
	return true
}

// AwaitReset waits, after the peer has half-closed, until the connection is reset
// by the peer (an error) or closed by us (net.ErrClosed).
func (c *Conn) AwaitReset() error {
	var one [1]byte
	var failed error
	err := c.raw.Read(func(fd uintptr) bool {
		_, e := unix.Read(int(fd), one[:])
		if e == nil || e == unix.EAGAIN || e == unix.EINTR {
			return false
		}
		failed = os.NewSyscallError("read", e)
		return true
	})
	if failed != nil {
		return failed
	}
	return err
}

// Guard makes the end of this process a reset for the peer: to the kernel a crash
// is an orderly close, and what was cut would look complete. Close lifts it. Call
// it before the connection is shared.
func (c *Conn) Guard() {
	c.guarded = true
	_ = c.SetLinger(0)
}

// Close closes in order: what was written is sent, then FIN.
func (c *Conn) Close() error {
	if c.guarded {
		_ = c.SetLinger(-1)
	}
	return c.TCPConn.Close()
}

// Abort closes with a TCP RST: what is unsent is dropped, and the peer is told.
func (c *Conn) Abort() {
	_ = c.SetLinger(0)
	_ = c.TCPConn.Close()
}

// Peek looks at what has arrived without taking it, again whenever there is more,
// until enough says so, the buffer is full, the peer has closed, or the read
// deadline passes. It returns how much there is; the error is that of the
// deadline or of the connection.
func (c *Conn) Peek(b []byte, enough func([]byte) bool) (n int, err error) {
	var failed error
	err = c.raw.Read(func(fd uintptr) bool {
		m, _, e := unix.Recvfrom(int(fd), b, unix.MSG_PEEK)
		switch {
		case e == unix.EAGAIN || e == unix.EINTR:
			return false
		case e != nil:
			failed = os.NewSyscallError("recv", e)
			return true
		}
		n = m
		return n == len(b) || enough(b[:n]) || closedByPeer(int(fd))
	})
	if failed != nil {
		return n, failed
	}
	return n, err
}

// closedByPeer reports whether no more will come. Peeking leaves the end unseen
// behind what it leaves unread, and the poller tells of it but once.
func closedByPeer(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n > 0
}
