// Package proxy is the sidecar data plane: it takes what a workload sends and is
// sent, and seals it.
//
// One connection, start to end (outbound.go, inbound.go):
//
//	1  take the current snapshot, once
//	2  find where the client meant to go: the local address of the transparent socket
//	3  finish the handshake in time             (inbound; outbound it is part of 5)
//	4  decide                                   decide.go, pure
//	5  reach the next hop, proving who we are   an idle lane, a new one, or plaintext
//	6  carry both ways, honouring half-close    pipe.go
//	7  record the outcome, once                 record.go
//
// A lane outlives its streams: live.go knows all of them, pool.go the idle ones,
// and every new snapshot judges them again (judge, below).
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmesh/sealmesh/internal/keylog"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// Bounds, all of them together: what one proxy spends on strangers.
const (
	// handshakeTime is how long a peer may take to finish its handshake.
	handshakeTime = 10 * time.Second
	// speakFirst is how long an unknown caller may stay silent before it is taken
	// for plaintext.
	speakFirst = 100 * time.Millisecond
	// dialTime is how long reaching the next hop may take.
	dialTime = 10 * time.Second
	// sweepEvery is how often idle and expired lanes are looked for.
	sweepEvery = time.Second
)

// Config is what a Proxy needs. All fields but Dial are required.
type Config struct {
	Snapshots *snapshot.Store
	// Outbound and Inbound are transparent listeners (sock.Listen).
	Outbound, Inbound *net.TCPListener
	// Drain is how long connections may go on after Run's context has ended.
	Drain   time.Duration
	Log     *slog.Logger
	Metrics *Metrics
	// MaxConnections bounds connections of both directions and lanes together.
	MaxConnections int
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		missing bool
		name    string
	}{
		{c.Snapshots == nil, "Snapshots"}, {c.Outbound == nil, "Outbound"}, {c.Inbound == nil, "Inbound"},
		{c.Log == nil, "Log"}, {c.Metrics == nil, "Metrics"}, {c.MaxConnections <= 0, "MaxConnections"},
	} {
		if f.missing {
			errs = append(errs, fmt.Errorf("proxy: %s is missing", f.name))
		}
	}
	return errors.Join(errs...)
}

// Proxy seals one workload.
type Proxy struct {
	Config
	dial      sock.Dialer
	live      *live
	pool      *pool
	dialing   *slots    // handshakes as a client
	accepting *slots    // and as a server
	own       [2]uint16 // ports of our own listeners
	serving   sync.WaitGroup
	edges     *edges
	secrets   *keylog.Keeper
	shedAt    atomic.Int64 // when idle lanes were last given up, in Unix nanoseconds
}

// New makes a proxy. It starts nothing.
func New(config Config) (*Proxy, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	p := &Proxy{
		Config:    config,
		dial:      sock.Dialer{Timeout: dialTime},
		live:      newLive(),
		dialing:   newSlots(),
		accepting: newSlots(),
		own: [2]uint16{
			sock.AddrPort(config.Outbound.Addr()).Port(),
			sock.AddrPort(config.Inbound.Addr()).Port(),
		},
		edges: newEdges(),
		// Asked anew each time: what a snapshot denies is denied from its moment on.
		secrets: keylog.NewKeeper(func() bool { return config.Snapshots.Load().KeyLog }),
	}
	p.pool = newPool(p.retire)
	p.Metrics.observe(p)
	return p, nil
}

// Run serves until ctx ends, then drains: it takes nothing new, asks the clients
// of its lanes to open no further stream, and ends what is left after
// Config.Drain. It closes the listeners.
func (p *Proxy) Run(ctx context.Context) error {
	// Connections outlive ctx by the drain; cut ends them.
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var tasks sync.WaitGroup
	tasks.Go(func() { p.accept(work, p.Outbound, p.serveOutbound) })
	tasks.Go(func() { p.accept(work, p.Inbound, p.serveInbound) })
	tasks.Go(func() { p.judge(work) })
	<-ctx.Done()
	p.drain()
	cut()
	tasks.Wait()
	p.serving.Wait()
	return nil
}

// accept hands every connection of a listener to serve, until it is closed.
func (p *Proxy) accept(ctx context.Context, l *net.TCPListener, serve func(context.Context, *net.TCPConn)) {
	var pause pause
	for {
		conn, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors or memory: the kernel keeps the connection in the
			// backlog, so waiting loses nothing.
			p.Metrics.acceptErrors.Inc()
			p.shed()
			pause.log(p.Log, "cannot accept connections", err)
			pause.wait(ctx)
			continue
		}
		pause.reset(p.Log)
		p.serving.Go(func() { serve(ctx, conn) })
	}
}

// judge applies every new snapshot to what is open, and ends what has expired.
func (p *Proxy) judge(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var judged *snapshot.Snapshot
	var trim trim
	for {
		changed := p.Snapshots.Changed()
		s := p.Snapshots.Load()
		p.sweep(s, s != judged)
		judged = s
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			trim.look(p.live.begun())
		}
	}
}

// sweep ends what may not go on. Only a new snapshot can change more than the
// passing of time does.
func (p *Proxy) sweep(s *snapshot.Snapshot, fresh bool) {
	now := time.Now()
	connections, links := p.live.all()
	for _, l := range links {
		if now.Before(l.expires) && !fresh {
			continue
		}
		l.apply(s, now)
	}
	if fresh {
		p.secrets.Review()
		for _, c := range connections {
			c.judgePlaintext(s)
		}
	}
	if s.Leaf != nil {
		p.pool.sweep(s.Leaf, now)
	}
}

// drain lets connections end on their own until the deadline, then ends them.
func (p *Proxy) drain() {
	_ = p.Outbound.Close()
	_ = p.Inbound.Close()
	p.pool.close()
	open, links := p.live.all()
	p.Log.Info("draining: nothing new is taken", obs.KeyCount, len(open))
	for _, l := range links {
		if l.role == Inbound && l.drained.CompareAndSwap(false, true) {
			go func() { _ = l.Drain() }()
		}
	}
	deadline := time.NewTimer(p.Drain)
	defer deadline.Stop()
	select {
	case <-p.live.idle():
		return
	case <-deadline.C:
	}
	connections, links := p.live.all()
	if len(connections) > 0 {
		p.Log.Warn("drain deadline reached: ending what is left", obs.KeyCount, len(connections))
	}
	shutdown := refuse(policy.ReasonDraining, "", "the proxy was stopped")
	for _, l := range links {
		l.end(shutdown)
	}
	for _, c := range connections {
		if by := c.carried.Load(); by != nil && by.cut != nil && by.ended.CompareAndSwap(nil, shutdown) {
			by.cut()
		}
	}
}

// pick chooses the endpoint of a service with fewer open streams of two taken at
// random.
func (p *Proxy) pick(targets []netip.AddrPort) netip.AddrPort {
	a, b := targets[rand.IntN(len(targets))], targets[rand.IntN(len(targets))]
	if a == b || p.edges.open(a) <= p.edges.open(b) {
		return a
	}
	return b
}
