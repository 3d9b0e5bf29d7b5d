package lane

import (
	"errors"
	"fmt"
	"io"

	"github.com/sealmesh/sealmesh/internal/sock"
)

// ErrDraining is returned by Idle once the server takes no further stream.
var ErrDraining = errors.New("lane: peer is draining")

// errProtocol is in every error that says the peer broke the grammar.
var errProtocol = errors.New("lane: protocol error")

// IsProtocolError reports whether err says that the peer broke the grammar.
func IsProtocolError(err error) bool { return errors.Is(err, errProtocol) }

// Accept waits for the next stream on an idle lane of a server. io.EOF means that
// the client has ended the lane.
func (c *Conn) Accept() (Open, error) {
	c.settle()
	c.wire.noWait = false
	for {
		h, err := c.readHeader()
		if err != nil {
			return Open{}, err
		}
		if h.Type == TypeReset && h.Stream == c.stream {
			continue // crossed our own end
		}
		if h.Type != TypeOpen {
			return Open{}, breach("%v while idle", h.Type)
		}
		var payload [maxOpen]byte
		if _, err := io.ReadFull(c.tls, payload[:h.Value]); err != nil {
			return Open{}, err
		}
		o, err := ParseOpen(payload[:h.Value])
		if err != nil {
			return Open{}, fmt.Errorf("%w: %v", errProtocol, err)
		}
		return o, c.begin(h.Stream)
	}
}

// Idle says, without waiting, whether an idle lane of a client takes another
// stream: nil, or why not.
func (c *Conn) Idle() error {
	c.settle()
	c.wire.noWait = true
	for {
		h, err := c.readHeader()
		switch {
		case errors.Is(err, sock.ErrWouldBlock):
			return nil
		case err != nil:
			return err
		case h.Type == TypeDrain:
			return ErrDraining
		case h.Type == TypeReset && h.Stream == c.stream:
			// crossed our own end
		default:
			return breach("%v while idle", h.Type)
		}
	}
}

// BeforeWait has f called whenever Await is about to wait, and not wait if f
// returns false; Await then returns sock.ErrWouldBlock. Nil ends that.
func (c *Conn) BeforeWait(f func() bool) { c.wire.BeforeWait = f }

// Await waits, without holding a buffer, until the stream has bytes to Read or
// has ended: io.EOF after FIN, *ResetError after RESET. Any other error means
// that the lane is broken.
func (c *Conn) Await() error {
	if c.left > 0 {
		return nil
	}
	c.wire.noWait = false
	return c.nextData()
}

// Read reads into p from the current frame: with sock.Wait at least one byte,
// with sock.NoWait what has arrived, if anything. Zero bytes after waiting mean
// that Await will tell how the stream ended.
func (c *Conn) Read(p []byte, wait bool) int {
	if c.left == 0 {
		return 0
	}
	c.wire.noWait = !wait
	n, err := c.tls.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil && !errors.Is(err, sock.ErrWouldBlock) {
		c.pending, c.left = unexpected(err), 0
	}
	return n
}

// Discard throws away what the peer still sends of the stream until it has ended,
// at most limit bytes. It follows a RESET of ours. An error means that the lane
// cannot be used again.
func (c *Conn) Discard(limit int) error {
	var scrap [4 << 10]byte
	for {
		err := c.Await()
		var reset *ResetError
		switch {
		case errors.Is(err, io.EOF), errors.As(err, &reset):
			return nil
		case err != nil:
			return err
		}
		if limit -= c.Read(scrap[:], sock.Wait); limit < 0 {
			return errors.New("lane: peer sends on after reset")
		}
	}
}

// nextData reads headers up to one of DATA, or to the end of the direction.
func (c *Conn) nextData() error {
	if c.pending != nil {
		return c.pending
	}
	for {
		h, err := c.readHeader()
		if err != nil {
			return unexpected(err)
		}
		current := h.Stream == c.stream && !c.readEnd
		switch {
		case h.Type == TypeDrain && c.client:
			c.draining = true
		case h.Type == TypeReset && !current:
			// of a stream that has ended
		case !current:
			return breach("%v of stream %d within stream %d", h.Type, h.Stream, c.stream)
		case h.Type == TypeData:
			c.left = int(h.Value)
			return nil
		case h.Type == TypeFin:
			c.readEnd, c.pending = true, io.EOF
			return io.EOF
		case h.Type == TypeReset:
			c.readEnd, c.pending = true, &ResetError{Code: Code(h.Value)}
			return c.pending
		default:
			return breach("%v within a stream", h.Type)
		}
	}
}

// readHeader reads one header. What it has read of it survives a would-block.
func (c *Conn) readHeader() (Header, error) {
	for c.headerLen < HeaderLen {
		n, err := c.tls.Read(c.header[c.headerLen:])
		c.headerLen += n
		if err != nil && c.headerLen < HeaderLen {
			if c.headerLen > 0 {
				err = unexpected(err)
			}
			return Header{}, err
		}
	}
	c.headerLen = 0
	h, err := ParseHeader(c.header)
	if err != nil {
		return Header{}, fmt.Errorf("%w: %v", errProtocol, err)
	}
	return h, nil
}

// unexpected: a connection that ends within a stream was cut, however orderly;
// only FIN ends a direction.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func breach(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errProtocol}, args...)...)
}
