package load

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// server answers every connection as its first byte asks.
type server struct {
	*loop
	listener int
	buffer   []byte
	bytes    int64
}

// Serve listens on address and serves until in is closed.
func Serve(address netip.AddrPort, in *os.File, out io.Writer) error {
	l, err := newLoop()
	if err != nil {
		return err
	}
	s := &server{loop: l, buffer: make([]byte, 1<<20)}
	if s.listener, err = listen(address); err != nil {
		return err
	}
	if err := l.add(s.listener, unix.EPOLLIN, s); err != nil {
		return err
	}
	c, err := newControl(l, in, out, func() { s.bytes = 0 }, func() Report { return Report{Bytes: s.bytes} })
	if err != nil {
		return err
	}
	if err := c.announce(); err != nil {
		return err
	}
	return l.run()
}

// listen opens a non-blocking listener with the deepest backlog allowed.
func listen(address netip.AddrPort) (int, error) {
	family, sockaddr := socketAddress(address)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("listen %v: %v", address, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return 0, fmt.Errorf("listen %v: %v", address, err)
	}
	if err := unix.Bind(fd, sockaddr); err != nil {
		return 0, fmt.Errorf("listen %v: bind: %v", address, err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return 0, fmt.Errorf("listen %v: %v", address, err)
	}
	return fd, nil
}

// ready accepts every connection that waits.
func (s *server) ready(uint32) error {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			return fmt.Errorf("accept: %v", err)
		}
		if err := noDelay(fd); err != nil {
			return err
		}
		if err := s.add(fd, unix.EPOLLIN, &served{server: s, fd: fd}); err != nil {
			return err
		}
	}
}

// served is one accepted connection.
type served struct {
	server *server
	fd     int
	mode   byte // 0 until the first byte has come
	echoed int
}

// ready reads once and answers. A connection that fails, like one that has
// ended, is closed and nothing more: its client knows and reports it.
func (c *served) ready(uint32) error {
	n, open := c.read()
	if !open {
		c.server.close(c.fd)
		return nil
	}
	if n == 0 {
		return nil
	}
	data := c.server.buffer[:n]
	c.server.bytes += int64(n)
	if c.mode == 0 {
		c.mode = data[0]
	}
	if c.mode == modeSwallow {
		return nil
	}
	c.echoed += n
	written, err := unix.Write(c.fd, data)
	if err != nil || written != n || c.mode == modeOnce && c.echoed >= MessageSize {
		c.server.close(c.fd)
	}
	return nil
}

// read takes what there is and says whether more may come. Swallowed bytes are
// counted and dropped inside the kernel (MSG_TRUNC), so that the sink costs as
// little as a sink can.
func (c *served) read() (n int, open bool) {
	var err error
	if c.mode == modeSwallow {
		n, _, err = unix.Recvfrom(c.fd, c.server.buffer, unix.MSG_TRUNC)
	} else {
		n, err = unix.Read(c.fd, c.server.buffer)
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return 0, true
	}
	return max(n, 0), err == nil && n > 0
}

// noDelay has small messages leave at once.
func noDelay(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("no delay: %v", err)
	}
	return nil
}

// socketAddress is address as the kernel takes it, and its family.
func socketAddress(address netip.AddrPort) (int, unix.Sockaddr) {
	if address.Addr().Unmap().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().Unmap().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
}
