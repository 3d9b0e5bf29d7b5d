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

// client is one connection to the control plane. It is never made anew: what
// fails on it has failed, and nothing is sent twice behind our back.
type client struct {
	conn   *http.ClientConn
	server []*x509.Certificate // the chain that the control plane showed
	http   *http.Client
	url    string
}

// connect makes a connection that shows the leaf held, if there is one, and trusts
// what is held. Close it after use.
func (f *Feed) connect(ctx context.Context, h held) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c := &client{url: f.endpoint.url}
	cfg := mtls.Config{Leaf: h.leaf, Bundles: f.bundles(h), Now: f.cfg.Now}
	t := transport(f.endpoint, f.cfg.TrustDomain, cfg, func(chain []*x509.Certificate) { c.server = chain })
	conn, err := t.NewClientConn(ctx, "https", "control:0") // the transport knows where to
	if err != nil {
		return nil, fmt.Errorf("connect to the control plane: %w", err)
	}
	c.conn, c.http = conn, &http.Client{Transport: conn}
	return c, nil
}

// transport adds what is the same for all connections to a control plane: whom
// they expect, and HTTP/2. It tells the chain that the control plane showed. Fails
// closed: only the control plane's own identity passes.
func transport(at endpoint, own id.TrustDomain, cfg mtls.Config, seen func([]*x509.Certificate)) *http.Transport {
	control := controlIdentity(own)
	cfg.Authorize = mtls.Expect(control)
	cfg.ServerName = control.ServerName()
	cfg.Protocols = []string{"h2"}
	t := &http.Transport{
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			raw, err := at.dial(ctx)
			if err != nil {
				return nil, err
			}
			conn := tls.Client(raw, cfg.TLS())
			if err := conn.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, err
			}
			seen(conn.ConnectionState().PeerCertificates)
			return conn, nil
		},
	}
	t.Protocols.SetHTTP2(true)
	return t
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
	return controlv1connect.NewIdentityServiceClient(c.http, c.url, options())
}

func (c *client) discovery() controlv1connect.DiscoveryServiceClient {
	return controlv1connect.NewDiscoveryServiceClient(c.http, c.url, options())
}

// close ends the connection and whatever runs on it.
func (c *client) close() { c.conn.Close() }

// Admin is a client of the control plane's AdminService on its unix socket, for
// the command line. It connects when it is first asked; call hangUp when done.
func Admin(socket string, anchors *snapshot.Bundle) (service controlv1connect.AdminServiceClient, hangUp func()) {
	at := unixEndpoint(socket)
	t := transport(at, anchors.Domain(), mtls.Config{
		Bundles: map[id.TrustDomain]*snapshot.Bundle{anchors.Domain(): anchors},
	}, func([]*x509.Certificate) {})
	return controlv1connect.NewAdminServiceClient(&http.Client{Transport: t}, at.url, options()), t.CloseIdleConnections
}
