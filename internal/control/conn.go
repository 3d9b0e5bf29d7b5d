package control

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
)

// bounded is a listener that has no more than so many connections open at a
// time; further ones wait in the kernel's queue.
type bounded struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func bound(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for a slot, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	release := sync.OnceFunc(func() { <-b.slots })
	c, err := b.Listener.Accept()
	if err != nil {
		release()
		return nil, err
	}
	return &peerConn{Conn: c, user: peerUser(c), release: release}, nil
}

// Close ends Accept.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// peerConn is a connection with the user at its other end.
type peerConn struct {
	net.Conn
	user    int
	release func()
}

// Close gives the slot back.
func (c *peerConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// noUser is the user of a peer that is not known: one behind TCP.
const noUser = -1

// peerUser is the user at the other end of a unix socket, in the kernel's word, as
// of when it connected.
func peerUser(c net.Conn) int {
	user := noUser
	unix, ok := c.(*net.UnixConn)
	if !ok {
		return user
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return user
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			user = int(cred.Uid)
		}
	})
	return user
}

// link is what a request knows of the connection it came over.
type link struct {
	user   int
	remote string
	tls    *tls.ConnectionState
}

type linkKey struct{}

// linkOf is the link of a request; without one nothing is known of the peer.
func linkOf(ctx context.Context) link {
	if l, ok := ctx.Value(linkKey{}).(link); ok {
		return l
	}
	return link{user: noUser}
}

// withUser notes the user of a connection in the context of its requests.
func withUser(ctx context.Context, conn net.Conn) context.Context {
	l := link{user: noUser}
	if secure, ok := conn.(*tls.Conn); ok {
		if peer, ok := secure.NetConn().(*peerConn); ok {
			l.user = peer.user
		}
	}
	return context.WithValue(ctx, linkKey{}, l)
}

// withTLS adds the state of the TLS to what is known of the connection.
func withTLS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := linkOf(r.Context())
		l.tls, l.remote = r.TLS, r.RemoteAddr
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), linkKey{}, l)))
	})
}
