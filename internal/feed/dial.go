package feed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"connectrpc.com/connect"

	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Bounds of a connection to the control plane.
const (
	dialTimeout = 5 * time.Second
	// A connection that has been silent for pingAfter is asked for a sign of
	// life, and closed if none comes within pingTimeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// maxMessage is the largest snapshot taken, in bytes.
	maxMessage = 32 << 20
)

// endpoint is where a control plane listens.
type endpoint struct {
	dial func(context.Context) (net.Conn, error)
	url  string // as HTTP wants it
}

// parseEndpoint reads unix:///path or https://host:port.
func parseEndpoint(s string) (endpoint, error) {
	wrong := fmt.Errorf("control plane %q: must be unix:///path or https://host:port", s)
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, wrong
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/") && u.Path != "/":
		return unixEndpoint(u.Path), nil
	case u.Scheme == "https" && u.Hostname() != "" && u.Port() != "" && strings.Trim(u.Path, "/") == "":
		dial := func(ctx context.Context) (net.Conn, error) {
			d := net.Dialer{Control: mark}
			return d.DialContext(ctx, "tcp", u.Host)
		}
		return endpoint{dial, "https://" + u.Host}, nil
	}
	return endpoint{}, wrong
}

func unixEndpoint(path string) endpoint {
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return endpoint{dial, "https://control"}
}

// client is a connection to the control plane, made when it is first used and
// again if it breaks.
type client struct {
	transport *http.Transport
	url       string

	mu     sync.Mutex // guards all below
	conn   *tls.Conn  // newest; the transport closes those before it
	closed bool
}

// client makes a client that shows the leaf held, if there is one, and trusts
// what is held.
func (f *Feed) client(h held) *client {
	return newClient(f.endpoint, f.cfg.TrustDomain, mtls.Config{
		Leaf:    h.leaf,
		Bundles: f.bundles(h),
		Now:     f.cfg.Now,
	})
}

// newClient completes what is the same for all clients of a control plane: whom
// they expect, and HTTP/2. Fails closed: only the control plane's own identity
// passes.
func newClient(at endpoint, own id.TrustDomain, cfg mtls.Config) *client {
	control := controlIdentity(own)
	cfg.Authorize = mtls.Expect(control)
	cfg.ServerName = control.ServerName()
	cfg.Protocols = []string{"h2"}
	secure := cfg.TLS()

	c := &client{url: at.url}
	c.transport = &http.Transport{
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			raw, err := at.dial(ctx)
			if err != nil {
				return nil, err
			}
			conn := tls.Client(raw, secure)
			if err = conn.HandshakeContext(ctx); err == nil {
				err = c.use(conn)
			}
			if err != nil {
				raw.Close()
				return nil, err
			}
			return conn, nil
		},
	}
	c.transport.Protocols.SetHTTP2(true)
	return c
}

// controlIdentity is who the control plane of a trust domain is.
func controlIdentity(td id.TrustDomain) id.Identity {
	control, err := id.New(td, "sealmesh", "control")
	if err != nil {
		panic(err) // only for a zero trust domain, which no parser makes
	}
	return control
}

// mark sets the proxies' mark on a socket, so that redirection lets it pass.
// Fails open: without the privilege for it the socket goes unmarked, because
// redirection lets the control plane's address pass anyway.
func mark(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_MARK, ports.Mark)
	})
	if err == nil && failed != nil && !errors.Is(failed, syscall.EPERM) {
		err = fmt.Errorf("mark the socket: %v", failed)
	}
	return err
}

// options make the client speak gRPC. Snapshots are not compressed: decompressors
// would stand in every proxy's memory.
func options() connect.ClientOption {
	return connect.WithClientOptions(
		connect.WithGRPC(),
		connect.WithReadMaxBytes(maxMessage),
		connect.WithAcceptCompression("gzip", nil, nil),
	)
}

func (c *client) identity() controlv1connect.IdentityServiceClient {
	return controlv1connect.NewIdentityServiceClient(&http.Client{Transport: c.transport}, c.url, options())
}

func (c *client) discovery() controlv1connect.DiscoveryServiceClient {
	return controlv1connect.NewDiscoveryServiceClient(&http.Client{Transport: c.transport}, c.url, options())
}

// use makes conn the client's connection. The transport may still dial for a
// request that was given up: then it is too late, and conn is not to be used.
func (c *client) use(conn *tls.Conn) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.conn = conn
	return nil
}

// server is the certificate chain that the control plane showed, nil before the
// first use.
func (c *client) server() []*x509.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	return c.conn.ConnectionState().PeerCertificates
}

// close ends the connection and whatever runs on it.
func (c *client) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		c.conn.Close()
	}
	c.transport.CloseIdleConnections()
}

// Admin is a client of the control plane's AdminService on its unix socket, for
// the command line. Call close when done with it.
func Admin(socket string, anchors *snapshot.Bundle) (service controlv1connect.AdminServiceClient, close func()) {
	c := newClient(unixEndpoint(socket), anchors.Domain(), mtls.Config{
		Bundles: map[id.TrustDomain]*snapshot.Bundle{anchors.Domain(): anchors},
	})
	return controlv1connect.NewAdminServiceClient(&http.Client{Transport: c.transport}, c.url, options()), c.close
}
