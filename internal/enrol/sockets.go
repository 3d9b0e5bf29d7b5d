package enrol

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/keylog"
	"github.com/sealmesh/sealmesh/internal/redirect"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// socketNames are LISTEN_FDNAMES, in the order of a sockets.
const socketNames = "outbound:inbound:admin:keys"

// sockets are the listeners of one proxy, which outlive it.
type sockets []*os.File

// namespaceID tells a network namespace from one that was made anew at its path.
type namespaceID struct{ device, inode uint64 }

func namespaceAt(path string) (namespaceID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return namespaceID{}, fmt.Errorf("network namespace %s: %w", path, err)
	}
	return namespaceID{st.Dev, st.Ino}, nil
}

// open guards the workload, then makes its proxy's sockets; on a host, on the
// first ports that are free.
func (k *keeper) open(ctx context.Context) (s sockets, err error) {
	for tried := 1; ; tried++ {
		// From here on the workload passes nothing.
		if err := k.guard(); err != nil {
			return nil, err
		}
		own := k.realm.own(k.workload)
		var id namespaceID
		err = redirect.InNamespace(k.realm.path, func() (err error) {
			if id, err = namespaceAt("/proc/thread-self/ns/net"); err == nil {
				s, err = listen(ctx, own)
			}
			return err
		})
		switch {
		case err == nil:
			if s, err = s.listenKeys(k.keySocket()); err != nil {
				s.close()
				return nil, err
			}
			k.opened(id, own)
			return s, nil
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, err
		}
		if err := k.realm.reserve(k.workload, tried); err != nil {
			return nil, err
		}
	}
}

// listen opens the sockets in the namespace of the calling thread.
func listen(ctx context.Context, own proxyPorts) (s sockets, err error) {
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, port := range []uint16{own.outbound, own.inbound} {
		l, err := sock.Listen(ctx, port)
		if err != nil {
			return s, err
		}
		if s, err = s.keep(l); err != nil {
			return s, err
		}
	}
	// The proxy itself answers only /live and /ready beyond loopback.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", fmt.Sprintf(":%d", own.admin))
	if err != nil {
		return s, fmt.Errorf("admin port: %w", err)
	}
	return s.keep(l.(*net.TCPListener))
}

// listenKeys opens the socket at which the proxy is asked for session secrets. A
// namespace has no part in it.
func (s sockets) listenKeys(path string) (sockets, error) {
	l, err := keylog.Listen(path)
	if err != nil {
		return s, err
	}
	return s.keep(l)
}

// keySocket is where the proxy is asked for session secrets: a short path, since
// names of workloads may be longer than paths of sockets.
func (k *keeper) keySocket() string {
	sum := sha256.Sum256([]byte(k.workload.String()))
	return filepath.Join(k.dir, hex.EncodeToString(sum[:8])+".keys")
}

// listener is a TCPListener or a UnixListener.
type listener interface {
	net.Listener
	syscall.Conn
}

// keep takes the socket itself out of Go's listener, which is closed. Whether a
// socket blocks is a property that all processes share, and os.File.Fd, which
// os/exec calls, makes blocking what TCPListener.File returns: a proxy would then
// hang in accept, deaf to SIGTERM, as soon as the next one is started. A file that
// is made of a blocking descriptor is left alone by Fd, and by our own poller.
func (s sockets) keep(l listener) (sockets, error) {
	defer l.Close()
	raw, err := l.SyscallConn()
	if err != nil {
		return s, err
	}
	cerr := raw.Control(func(fd uintptr) {
		var own int
		if own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return
		}
		if err = unix.SetNonblock(own, false); err == nil {
			s = append(s, os.NewFile(uintptr(own), l.Addr().String()))
			err = unix.SetNonblock(own, true)
		}
	})
	return s, errors.Join(cerr, err)
}

func (s sockets) close() {
	for _, f := range s {
		_ = f.Close()
	}
}
