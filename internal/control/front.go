package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

// Bounds of a front.
const (
	// maxConns is how many connections one front has at a time, those that have
	// not finished their handshake included.
	maxConns = 8192
	// handshakeTimeout bounds the TLS handshake, and the headers of a request.
	handshakeTimeout = 5 * time.Second
	// readTimeout bounds the reading of a request. A Watch has been read once its
	// one message came, so it may run on.
	readTimeout = 15 * time.Second
	// idleTimeout is how long a connection without a request stays.
	idleTimeout = 2 * time.Minute
	// A connection silent for pingAfter is asked for a sign of life, and closed
	// if none comes within pingTimeout: dead peers vanish.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// maxStreams is how many requests one connection has at a time.
	maxStreams = 16
	// maxScrapes is how many connections the metrics front has at a time.
	maxScrapes = 16
	// drain is how long requests may take to end once the server stops.
	drain = 2 * time.Second
)

// front is one listener with what it serves.
type front struct {
	listener net.Listener
	server   *http.Server
	serve    func(context.Context) error
}

// listen opens every address of the configuration, or none.
func (s *Server) listen(ctx context.Context) (fronts []front, err error) {
	defer func() {
		if err != nil {
			for _, f := range fronts {
				f.listener.Close()
			}
		}
	}()
	for _, l := range s.cfg.Listeners {
		fronts = append(fronts, s.front(l, s.remote()))
	}
	if s.cfg.Socket != "" {
		l, err := listenUnix(ctx, s.cfg.Socket, s.cfg.SocketGroup)
		if err != nil {
			return fronts, err
		}
		fronts = append(fronts, s.front(l, s.local()))
	}
	if s.cfg.Listen != "" {
		l, err := net.Listen("tcp", s.cfg.Listen)
		if err != nil {
			return fronts, fmt.Errorf("listen for proxies: %v", err)
		}
		fronts = append(fronts, s.front(l, s.remote()))
	}
	if s.cfg.Metrics != "" {
		l, err := net.Listen("tcp", s.cfg.Metrics)
		if err != nil {
			return fronts, fmt.Errorf("listen for metrics: %v", err)
		}
		fronts = append(fronts, s.metricsFront(l))
	}
	return fronts, nil
}

// front serves a handler over HTTP/2 with TLS.
func (s *Server) front(l net.Listener, handler http.Handler) front {
	server := &http.Server{
		Handler:           withTLS(handler),
		TLSConfig:         s.serverTLS(),
		Protocols:         new(http.Protocols),
		ConnContext:       withUser,
		ReadHeaderTimeout: handshakeTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelInfo),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
		},
	}
	server.Protocols.SetHTTP2(true)
	l = bound(l, maxConns)
	return newFront(l, server, func() error { return server.ServeTLS(l, "", "") })
}

// metricsFront serves /metrics in plain HTTP/1.
func (s *Server) metricsFront(l net.Listener) front {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.handler())
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: handshakeTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelInfo),
	}
	l = bound(l, maxScrapes)
	return newFront(l, server, func() error { return server.Serve(l) })
}

// newFront makes the front that serves until ctx ends. Requests see that end too,
// and have a moment to return.
func newFront(l net.Listener, server *http.Server, run func() error) front {
	return front{listener: l, server: server, serve: func(ctx context.Context) error {
		server.BaseContext = func(net.Listener) context.Context { return ctx }
		stopped := make(chan struct{})
		unhook := context.AfterFunc(ctx, func() {
			defer close(stopped)
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
			defer cancel()
			if server.Shutdown(grace) != nil {
				server.Close()
			}
		})
		err := run()
		if unhook() {
			server.Close()
			return fmt.Errorf("serve %s: %v", l.Addr(), err)
		}
		<-stopped
		return nil
	}}
}

// listenUnix listens on a path. A socket there that nobody listens on is
// replaced; one that somebody does is an error. Only the owner and, if it is not
// 0, the group may connect.
func listenUnix(ctx context.Context, path string, group int) (net.Listener, error) {
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: another control plane serves there", path)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("listen on %s: remove what the last control plane left: %v", path, err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %v", path, err)
	}
	mode := os.FileMode(0o600)
	if group != 0 {
		mode = 0o660
		err = os.Chown(path, -1, group)
	}
	if err = errors.Join(err, os.Chmod(path, mode)); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen on %s: let its users in: %v", path, err)
	}
	return l, nil
}
