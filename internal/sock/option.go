package sock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// keepAlive finds dead peers of lanes, which cross a network.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}

// Listen opens a transparent listener, IPv4 and IPv6, on a port of every
// address: it accepts connections meant for any address, whose local address is
// then where the client meant to go. Needs CAP_NET_ADMIN.
func Listen(ctx context.Context, port uint16) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: control(func(fd int, ipv6 bool) error {
		return firstError(
			func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, ports.Mark) },
			func() error { return setTransparent(fd, ipv6) },
		)
	}), KeepAlive: -1}
	lc.SetMultipathTCP(false) // Go's default for listeners; it is of no use here
	l, err := lc.Listen(ctx, "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("transparent listener on port %d: %w", port, err)
	}
	return l.(*net.TCPListener), nil
}

// Local ports, in two ranges that do not meet. A lane from a client and the call to
// the application in that client's name have the same addresses, and lead to the
// same port; with the same source port the kernel would take one for the other.
const (
	// Lanes begin in the range that Linux has for outgoing connections.
	laneFirst, laneLast = 32768, 65535
	// Calls to the application begin below it.
	appFirst, appLast = 1024, 32767
)

// appTries is how many source ports are tried for a call in a client's name before
// it is made in our own.
const appTries = 32

// Dialer opens the proxy's own connections. The zero value is ready.
type Dialer struct {
	// Timeout of connecting.
	Timeout time.Duration
}

// Lane connects to another proxy over the network.
func (d Dialer) Lane(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	nd := net.Dialer{Timeout: d.Timeout, KeepAliveConfig: keepAlive, Control: control(func(fd int, _ bool) error {
		// A kernel before 6.3 does not know the option; its own range is the same
		// unless someone has changed it.
		_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_LOCAL_PORT_RANGE, laneLast<<16|laneFirst)
		return mark(fd)
	})}
	return dial(ctx, nd, to)
}

// App connects to the application behind this proxy, in the name of a client: the
// connection comes from the client's address where the privilege allows and a port
// is free, and from our own where not.
func (d Dialer) App(ctx context.Context, client netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	if client.Is4() == to.Addr().Is4() {
		for range appTries {
			conn, err := d.appAs(ctx, client, to)
			switch {
			case errors.Is(err, unix.EADDRINUSE), errors.Is(err, unix.EADDRNOTAVAIL):
				continue // the port is taken, or in TIME_WAIT
			case errors.Is(err, unix.EPERM):
			default:
				return conn, err
			}
			break
		}
	}
	nd := net.Dialer{Timeout: d.Timeout, KeepAlive: -1, Control: control(func(fd int, _ bool) error { return mark(fd) })}
	return dial(ctx, nd, to)
}

// appAs is one attempt of App in the client's name, from any port.
func (d Dialer) appAs(ctx context.Context, client netip.Addr, to netip.AddrPort) (*net.TCPConn, error) {
	port := appFirst + rand.IntN(appLast-appFirst+1)
	nd := net.Dialer{Timeout: d.Timeout, KeepAlive: -1, Control: control(func(fd int, ipv6 bool) error {
		return firstError(
			func() error { return mark(fd) },
			func() error { return setTransparent(fd, ipv6) },
			func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) },
			func() error {
				if ipv6 {
					return unix.Bind(fd, &unix.SockaddrInet6{Port: port, Addr: client.As16()})
				}
				return unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: client.As4()})
			},
		)
	})}
	return dial(ctx, nd, to)
}

func dial(ctx context.Context, nd net.Dialer, to netip.AddrPort) (*net.TCPConn, error) {
	conn, err := nd.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// mark lets a connection of ours pass redirection. Without the privilege
// redirection knows us by our user instead, so that failing is not an error:
// fails closed, because an unmarked connection of another user is redirected to
// us and refused there.
func mark(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, ports.Mark)
	if err == unix.EPERM {
		return nil
	}
	return err
}

func setTransparent(fd int, ipv6 bool) error {
	if ipv6 {
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
}

func control(set func(fd int, ipv6 bool) error) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = set(int(fd), network == "tcp6") }); cerr != nil {
			return cerr
		}
		return err
	}
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// AddrPort is a TCP address as a value; IPv4 is never in its IPv6-mapped form.
func AddrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
