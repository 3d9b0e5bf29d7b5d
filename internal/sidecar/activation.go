package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// sockets are the listeners of a proxy.
type sockets struct {
	outbound, inbound *net.TCPListener
	admin             net.Listener
	keys              *net.UnixListener // nil unless passed: where session secrets are asked for
	inherited         bool              // passed by a supervisor, which may pass them to others too
}

// firstInherited is the first descriptor of systemd's socket activation protocol
// (sd_listen_fds(3)).
const firstInherited = 3

// open takes the sockets from the supervisor if it passed any, and opens them
// itself if not. Sockets that a supervisor holds outlive this process: a new one
// goes on with them and no connection is refused in between.
func open(ctx context.Context) (sockets, error) {
	if os.Getenv("LISTEN_FDS") == "" {
		return listen(ctx)
	}
	s, err := inherit(os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES"))
	s.inherited = true
	return s, err
}

func listen(ctx context.Context) (s sockets, err error) {
	if s.outbound, err = sock.Listen(ctx, ports.Outbound); err != nil {
		return s, err
	}
	if s.inbound, err = sock.Listen(ctx, ports.Inbound); err != nil {
		return s, err
	}
	s.admin, err = (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf(":%d", ports.Admin))
	return s, err
}

// inherit takes the sockets named outbound, inbound and admin, and the one named
// keys if there is one.
func inherit(pid, count, names string) (s sockets, err error) {
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return s, fmt.Errorf("LISTEN_PID is %s, this is process %d", pid, os.Getpid())
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return s, fmt.Errorf("LISTEN_FDS is %q, must be a number", count)
	}
	for i, name := range strings.Split(names, ":") {
		if i >= n {
			return s, fmt.Errorf("LISTEN_FDNAMES names %q, but LISTEN_FDS is %d", names, n)
		}
		var err error
		switch fd := firstInherited + i; name {
		case "outbound":
			s.outbound, err = listener[*net.TCPListener](fd, name)
		case "inbound":
			s.inbound, err = listener[*net.TCPListener](fd, name)
		case "admin":
			s.admin, err = listener[*net.TCPListener](fd, name)
		case "keys":
			s.keys, err = listener[*net.UnixListener](fd, name)
		default:
			err = errors.New("must be outbound, inbound, admin or keys")
		}
		if err != nil {
			return s, fmt.Errorf("inherited socket %q: %w", name, err)
		}
	}
	if s.outbound == nil || s.inbound == nil || s.admin == nil {
		return s, fmt.Errorf("LISTEN_FDNAMES is %q, must name outbound, inbound and admin", names)
	}
	return s, nil
}

// listener takes a socket of one kind.
func listener[L net.Listener](fd int, name string) (own L, err error) {
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return own, err
	}
	own, ok := l.(L)
	if !ok {
		_ = l.Close()
		return own, fmt.Errorf("listens on %s, must be %T", l.Addr().Network(), own)
	}
	return own, nil
}

// notify tells the supervisor, if there is one (sd_notify(3)).
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify supervisor: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify supervisor: %w", err)
	}
	return nil
}
