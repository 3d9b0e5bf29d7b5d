package sidecar

import (
	"context"
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
	inherited         bool // passed by a supervisor, which may pass them to others too
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

// inherit takes the sockets named outbound, inbound and admin.
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
		l, err := listener(firstInherited+i, name)
		if err != nil {
			return s, fmt.Errorf("inherited socket %q: %w", name, err)
		}
		switch name {
		case "outbound":
			s.outbound = l
		case "inbound":
			s.inbound = l
		case "admin":
			s.admin = l
		default:
			return s, fmt.Errorf("inherited socket %q: must be outbound, inbound or admin", name)
		}
	}
	if s.outbound == nil || s.inbound == nil || s.admin == nil {
		return s, fmt.Errorf("LISTEN_FDNAMES is %q, must name outbound, inbound and admin", names)
	}
	return s, nil
}

func listener(fd int, name string) (*net.TCPListener, error) {
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("listens on %s, must be TCP", l.Addr().Network())
	}
	return tcp, nil
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
