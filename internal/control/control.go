// Package control is the control plane's server: it issues certificates, streams
// snapshots and takes reports, over HTTP/2 with TLS 1.3 and nothing else.
//
//	                       ┌ IdentityService   no certificate, or a live one
//	unix socket ─┐         │ DiscoveryService  a live certificate
//	             ├─ TLS ───┤
//	TCP ─────────┘         └ AdminService      unix socket only, by the user who runs us or root
//
// What a caller may do is judged anew at each request and at each change of the
// mesh, by the newest view: a workload that was removed, or whose anchor was
// retired, loses its running Watch at that moment.
//
// The platform's state becomes a view (package push) in one goroutine, the own
// leaf is kept by another; both are read through one pointer each, so a request
// takes no lock but the registry's.
package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/push"
)

// Config says what a control plane serves, and where.
type Config struct {
	// Platform holds the objects, the issuer and the join tokens.
	Platform platform.Platform
	// Socket is the path of the unix socket, whose directory must exist; "" for
	// none. AdminService is served nowhere else.
	Socket string
	// SocketGroup, if not 0, is the group whose members may use the socket besides
	// its owner. They cannot use AdminService.
	SocketGroup int
	// Listen is the TCP address for proxies on other machines, "" for none.
	Listen string
	// Listeners are further ones for proxies on other machines, open already: Run
	// closes them.
	Listeners []net.Listener
	// Metrics is the TCP address, on a loopback interface, that /metrics is served
	// at in plain HTTP, "" for none.
	Metrics string
	// Log takes what happens; each certificate issued or refused is one line.
	Log *slog.Logger
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// maxSocketPath is how long the kernel lets the path of a unix socket be, in
// bytes (sun_path, without its final zero).
const maxSocketPath = 107

// Validate reports every problem of the configuration at once.
func (c Config) Validate() error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("control: "+format, args...))
	}
	if c.Platform == nil {
		problem("no platform")
	}
	if c.Log == nil {
		problem("no logger")
	}
	if len(c.Socket) > maxSocketPath {
		problem("socket %q: must be a path of at most %d bytes", c.Socket, maxSocketPath)
	}
	if c.Socket == "" && c.Listen == "" && len(c.Listeners) == 0 {
		problem("no socket and no address to listen on")
	}
	if c.SocketGroup < 0 {
		problem("socket group %d: must not be negative", c.SocketGroup)
	}
	if c.Listen != "" {
		if _, err := net.ResolveTCPAddr("tcp", c.Listen); err != nil {
			problem("listen address %q: must be host:port", c.Listen)
		}
	}
	if c.Metrics != "" {
		addr, err := net.ResolveTCPAddr("tcp", c.Metrics)
		if err != nil || !addr.IP.IsLoopback() {
			problem("metrics address %q: must be host:port on a loopback interface", c.Metrics)
		}
	}
	return errors.Join(problems...)
}

// Server is one control plane.
type Server struct {
	cfg      Config
	hub      *push.Hub
	registry *push.Registry
	metrics  *metrics
	leaf     atomic.Pointer[tls.Certificate] // own; nil before the first
	signing  chan struct{}                   // one slot per Certify at work
	ready    chan struct{}
}

// New makes a control plane. It starts nothing; Run does.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Server{
		cfg:      cfg,
		hub:      push.NewHub(),
		registry: push.NewRegistry(cfg.Now),
		signing:  make(chan struct{}, maxSigning),
		ready:    make(chan struct{}),
	}
	s.metrics = newMetrics(s)
	return s, nil
}

// Ready is closed once the server listens and can prove who it is.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends, then ends all streams and returns nil. Any other
// return is an error: an address that cannot be listened on, or a platform that
// cannot be watched.
func (s *Server) Run(ctx context.Context) error {
	fronts, err := s.listen(ctx)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range fronts {
		g.Go(func() error { return f.serve(ctx) })
	}
	g.Go(func() error { return s.watchPlatform(ctx) })
	g.Go(func() error { s.keepLeaf(ctx); return nil })
	return g.Wait()
}

// watchPlatform publishes a view of each state.
func (s *Server) watchPlatform(ctx context.Context) error {
	err := s.cfg.Platform.Watch(ctx, s.apply)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch the platform: %v", err)
	}
	return nil
}

// apply publishes the view of a state. Fails closed: what does not compile leaves
// the view before it in force.
func (s *Server) apply(state *platform.State) {
	view, err := push.Compile(state)
	if err != nil {
		s.cfg.Log.Error("state not applied, the last good one stays in force", obs.KeyError, err.Error())
		return
	}
	before, _ := s.hub.Load()
	s.hub.Publish(view)
	if before == nil || before.Snapshot.Version != view.Snapshot.Version {
		s.cfg.Log.Info("snapshot compiled", obs.KeyVersion, view.Snapshot.Version, obs.KeyCount, len(view.Snapshot.Endpoints))
	}
}
