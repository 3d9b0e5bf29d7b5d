package load

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Plan says what a client does.
type Plan struct {
	// Kind of load.
	Kind Kind
	// Target is connected to.
	Target netip.AddrPort
	// Connections are open, or being opened, at the same time.
	Connections int
	// Rate of Paced, in messages per second over all connections.
	Rate int
}

// Validate reports what is wrong with p.
func (p Plan) Validate() error {
	if !slices.Contains(Kinds, p.Kind) {
		return fmt.Errorf("kind of load %q: must be one of %v", p.Kind, Kinds)
	}
	if !p.Target.IsValid() {
		return fmt.Errorf("target %v: must be ip:port", p.Target)
	}
	if p.Connections < 1 {
		return fmt.Errorf("connections %d: must be at least 1", p.Connections)
	}
	if p.Kind == Paced && p.Rate < 1 {
		return fmt.Errorf("rate %d: must be at least 1 per second", p.Rate)
	}
	return nil
}

// traffic is one kind of load on established connections.
type traffic interface {
	// opened is called once, when c is established.
	opened(c *conn) error
	// ready is called when c can be read, or written again.
	ready(c *conn, events uint32) error
}

// client is the state all connections of one load share.
type client struct {
	*loop
	plan    Plan
	traffic traffic
	control *control
	buffer  []byte // read into, content ignored
	message []byte // the request; its first byte is the mode

	open      int // connections established so far
	announced bool

	bytes      int64
	operations int64
	latencies  []time.Duration
}

// Drive runs the load of p until in is closed.
func Drive(p Plan, in *os.File, out io.Writer) error {
	if err := p.Validate(); err != nil {
		return err
	}
	l, err := newLoop()
	if err != nil {
		return err
	}
	c := &client{loop: l, plan: p, buffer: make([]byte, 64<<10), message: make([]byte, MessageSize)}
	if c.traffic, err = newTraffic(c); err != nil {
		return err
	}
	if c.control, err = newControl(l, in, out, c.begin, c.end); err != nil {
		return err
	}
	for range min(p.Connections, openAtOnce) {
		if err := c.dial(); err != nil {
			return err
		}
	}
	return l.run()
}

// openAtOnce bounds the connections that wait to be established at the start,
// so that no backlog overflows and no SYN has to be sent again.
const openAtOnce = 32

// newTraffic makes the load that the plan names and sets the message's mode.
func newTraffic(c *client) (traffic, error) {
	c.message[0] = modeEcho
	switch c.plan.Kind {
	case Bulk:
		return newBulk(c), nil
	case Requests:
		return &requests{c}, nil
	case Paced:
		return newPaced(c)
	case Connections:
		c.message[0] = modeOnce
		return &connections{c}, nil
	default:
		return &idle{client: c}, nil
	}
}

// begin forgets what was counted before the harness began to measure.
func (c *client) begin() { c.bytes, c.operations, c.latencies = 0, 0, c.latencies[:0] }

// end sums up what was counted since begin.
func (c *client) end() Report {
	sorted := slices.Sorted(slices.Values(c.latencies))
	return Report{
		Bytes: c.bytes, Operations: c.operations,
		P50: quantile(sorted, 0.50), P99: quantile(sorted, 0.99),
	}
}

// established counts one connection that is up, opens the next while the plan
// asks for more, and tells the harness when all are there.
func (c *client) established() error {
	c.open++
	if c.open+openAtOnce <= c.plan.Connections {
		if err := c.dial(); err != nil {
			return err
		}
	}
	if c.open < c.plan.Connections || c.announced {
		return nil
	}
	c.announced = true
	return c.control.announce()
}

// conn is one connection of a client.
type conn struct {
	client *client
	fd     int
	up     bool
	got    int           // bytes of the reply so far
	sent   time.Duration // intended start of the request under way (Paced)
}

// dial begins to open a connection. Edge-triggered events make one registration
// serve its whole life: writable once it is established, readable at each reply.
// Bulk is level-triggered, so that a sink as fast as its source starves nobody.
func (c *client) dial() error {
	family, sockaddr := socketAddress(c.plan.Target)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("dial %v: %v", c.plan.Target, err)
	}
	if err := noDelay(fd); err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("dial %v: %v", c.plan.Target, err)
	}
	events := uint32(unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP)
	if c.plan.Kind != Bulk {
		events |= unix.EPOLLET
	}
	return c.add(fd, events, &conn{client: c, fd: fd})
}

// ready completes the dial first, then leaves the connection to the traffic.
func (c *conn) ready(events uint32) error {
	if c.up {
		return c.client.traffic.ready(c, events)
	}
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("dial %v: %v", c.client.plan.Target, err)
	}
	if code != 0 {
		return fmt.Errorf("dial %v: %v", c.client.plan.Target, unix.Errno(code))
	}
	if events&unix.EPOLLOUT == 0 {
		return nil
	}
	c.up = true
	return c.client.traffic.opened(c)
}

// send writes one message.
func (c *conn) send() error {
	c.got = 0
	n, err := unix.Write(c.fd, c.client.message)
	if err != nil {
		return fmt.Errorf("send to %v: %v", c.client.plan.Target, err)
	}
	if n != MessageSize {
		return fmt.Errorf("send to %v: %d of %d bytes taken", c.client.plan.Target, n, MessageSize)
	}
	return nil
}

// receive reads what there is of a reply and tells whether it is now complete.
func (c *conn) receive() (complete bool, err error) {
	n, err := unix.Read(c.fd, c.client.buffer)
	if err == unix.EAGAIN || err == unix.EINTR {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reply from %v: %v", c.client.plan.Target, err)
	}
	if n == 0 {
		return false, fmt.Errorf("reply from %v: closed after %d of %d bytes", c.client.plan.Target, c.got, MessageSize)
	}
	c.got += n
	if c.got > MessageSize {
		return false, fmt.Errorf("reply from %v: %d bytes more than sent", c.client.plan.Target, c.got-MessageSize)
	}
	return c.got == MessageSize, nil
}
