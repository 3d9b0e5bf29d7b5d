package load

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// bulk writes whatever the connections take.
type bulk struct {
	*client
	chunk []byte
}

func newBulk(c *client) *bulk {
	b := &bulk{client: c, chunk: make([]byte, 256<<10)}
	b.chunk[0] = modeSwallow
	return b
}

func (b *bulk) opened(c *conn) error {
	if err := b.established(); err != nil {
		return err
	}
	return b.ready(c, unix.EPOLLOUT)
}

// ready writes once; the loop comes back while there is room for more.
func (b *bulk) ready(c *conn, events uint32) error {
	if events&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0 {
		return fmt.Errorf("bulk to %v: closed by the other side", b.plan.Target)
	}
	n, err := unix.Write(c.fd, b.chunk)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bulk to %v: %v", b.plan.Target, err)
	}
	b.bytes += int64(n)
	return nil
}

// requests keeps one message under way on each connection: a closed loop.
type requests struct{ *client }

func (r *requests) opened(c *conn) error {
	if err := r.established(); err != nil {
		return err
	}
	return c.send()
}

func (r *requests) ready(c *conn, events uint32) error {
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	complete, err := c.receive()
	if err != nil || !complete {
		return err
	}
	r.operations++
	return c.send()
}

// connections opens a connection for every message.
type connections struct{ *client }

func (s *connections) opened(c *conn) error {
	if err := s.established(); err != nil {
		return err
	}
	return c.send()
}

// ready reads the reply and then the end of the stream: only a connection that
// was closed in order by the server counts.
func (s *connections) ready(c *conn, events uint32) error {
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	for c.got < MessageSize {
		before := c.got
		if _, err := c.receive(); err != nil {
			return err
		}
		if c.got == before {
			return nil
		}
	}
	n, err := unix.Read(c.fd, s.buffer)
	if err == unix.EAGAIN || err == unix.EINTR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end of %v: %v", s.plan.Target, err)
	}
	if n != 0 {
		return fmt.Errorf("end of %v: %d bytes more than sent", s.plan.Target, n)
	}
	s.operations++
	s.close(c.fd)
	return s.dial()
}

// idle holds connections that have each had one reply.
type idle struct{ *client }

func (i *idle) opened(c *conn) error { return c.send() }

func (i *idle) ready(c *conn, events uint32) error {
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	complete, err := c.receive()
	if err != nil || !complete {
		return err
	}
	return i.established()
}
