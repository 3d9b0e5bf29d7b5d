package lane

import (
	"errors"
	"time"

	"github.com/sealmesh/sealmesh/internal/sock"
)

// resetTimeout is how long a RESET may wait behind bytes that the peer does not
// read, and then again how long the peer may take to end its own direction. After
// it the lane is broken instead.
const resetTimeout = 5 * time.Second

// ErrEnded is returned for writes after our direction of the stream has ended.
var ErrEnded = errors.New("lane: direction has ended")

// Open begins a stream on an idle lane of a client and sends its first n bytes
// with it; see Write for buf, which may be nil if n is 0.
func (c *Conn) Open(o Open, buf *sock.Buffer, n int) error {
	if err := c.begin(c.stream + 1); err != nil {
		return err
	}
	var frame [HeaderLen + maxOpen]byte
	payload := o.Append(frame[HeaderLen:HeaderLen])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire.cork()
	err := c.frame(frame[:HeaderLen+len(payload)], TypeOpen, uint16(len(payload)))
	if err == nil && n > 0 {
		err = c.data(buf, n)
	}
	return errors.Join(err, c.wire.uncork())
}

// Write sends the n bytes of a buffer laid out by sock.Conn.Receive with a gap of
// HeaderLen: every run becomes one frame, without being copied together. The
// buffer is the caller's again on return.
func (c *Conn) Write(buf *sock.Buffer, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeEnd {
		return ErrEnded
	}
	if n <= MaxPayload {
		return c.data(buf, n)
	}
	c.wire.cork()
	return errors.Join(c.data(buf, n), c.wire.uncork())
}

// CloseWrite ends our direction of the stream with FIN.
func (c *Conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeEnd {
		return nil
	}
	c.writeEnd = true
	var frame [HeaderLen]byte
	return c.frame(frame[:], TypeFin, 0)
}

// Reset ends our direction of the stream with RESET, which also asks the peer to
// end its own. It may follow CloseWrite.
func (c *Conn) Reset(code Code) error {
	if !c.mu.TryLock() {
		// A writer may be stuck behind a peer that reads nothing.
		_ = c.wire.SetWriteDeadline(time.Now().Add(resetTimeout))
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.reset {
		return nil
	}
	c.writeEnd, c.reset = true, true
	_ = c.wire.SetDeadline(time.Now().Add(resetTimeout))
	var frame [HeaderLen]byte
	err := c.frame(frame[:], TypeReset, uint16(code))
	_ = c.wire.SetWriteDeadline(time.Time{})
	return err
}

// settle lifts the deadline of a stream that we have reset. Called by the owner
// of the idle lane.
func (c *Conn) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reset {
		c.reset = false
		_ = c.wire.SetReadDeadline(time.Time{})
	}
}

// Drain asks the client to begin no further stream. The server goes on to serve
// until the client ends the lane.
func (c *Conn) Drain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var frame [HeaderLen]byte
	return c.frame(frame[:], TypeDrain, 0)
}

// data sends n bytes laid out in runs, a frame each. mu is held.
func (c *Conn) data(buf *sock.Buffer, n int) error {
	for run := 0; n > 0; run++ {
		size := min(n, MaxPayload)
		frame := buf[run*sock.Run : run*sock.Run+HeaderLen+size]
		if err := c.frame(frame, TypeData, uint16(size)); err != nil {
			return err
		}
		n -= size
	}
	return nil
}

// frame stamps the header on a frame and sends it as one TLS record. mu is held.
func (c *Conn) frame(frame []byte, t Type, value uint16) error {
	Header{Type: t, Stream: c.stream, Value: value}.Put(frame)
	_, err := c.tls.Write(frame)
	return err
}
