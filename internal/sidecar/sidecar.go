// Package sidecar is the proxy process of one workload, put together: sockets,
// the feed that keeps its snapshot, the proxy that judges by it, and the admin
// endpoint.
//
//	supervisor ── sockets ──▶ ┌ proxy ◀── snapshots ── feed ──▶ control plane
//	           ◀── READY=1 ── │ admin
//	                          └ keys: session secrets, for who may have them
package sidecar

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/proxy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Config says whose proxy this is and which control plane it follows.
type Config struct {
	// Control is unix:///path or https://host:port.
	Control     string
	TrustDomain id.TrustDomain
	// Anchors are what the control plane is trusted by at first.
	Anchors *snapshot.Bundle
	// Token returns the join token, "" if there is none (any more).
	Token func() (string, error)
	// OneToken says that Token never returns another: Run fails once it is of no use.
	OneToken bool
	// Drain is how long connections may go on once the process is told to stop.
	Drain time.Duration
	// MaxConnections bounds connections of both directions and lanes together.
	MaxConnections int
	Version        string
	Log            *slog.Logger
}

// Run runs the proxy until ctx ends, or the feed gives up, and its connections have
// drained.
func Run(ctx context.Context, config Config) error {
	listeners, err := open(ctx)
	if err != nil {
		return err
	}
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	store := snapshot.NewStore()
	p, err := proxy.New(proxy.Config{
		Snapshots:      store,
		Outbound:       listeners.outbound,
		Inbound:        listeners.inbound,
		Drain:          config.Drain,
		Log:            config.Log,
		Metrics:        proxy.NewMetrics(registry),
		MaxConnections: config.MaxConnections,
	})
	if err != nil {
		return err
	}
	f, err := feed.New(feed.Config{
		Control:     config.Control,
		TrustDomain: config.TrustDomain,
		Anchors:     config.Anchors,
		Token:       config.Token,
		OneToken:    config.OneToken,
		Store:       store,
		Edges:       func() []*controlv1.Edge { return edges(p) },
		Version:     config.Version,
		Log:         config.Log,
	})
	if err != nil {
		return err
	}
	ready := func() bool {
		select {
		case <-f.Ready():
			return ctx.Err() == nil
		default:
			return false
		}
	}
	admin := &http.Server{
		Handler:           p.Admin(registry, ready),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	// The feed goes on while connections drain, and so does the admin endpoint, unless
	// its socket was passed to us: then another proxy may answer by now, which is the
	// one that callers mean.
	if listeners.inherited {
		keep := context.AfterFunc(ctx, func() { _ = listeners.admin.Close() })
		defer keep()
	}
	draining, stop := context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 2)
	go func() {
		defer giveUp()
		failed <- f.Run(draining)
	}()
	go func() {
		if err := admin.Serve(listeners.admin); ctx.Err() == nil && !errors.Is(err, http.ErrServerClosed) {
			config.Log.Error("admin endpoint failed", "error", err)
		}
		failed <- nil
	}()
	// Until then connections wait in the sockets' queues: a proxy that knows nothing
	// could only refuse them, while the one it replaces would have served them.
	var keys sync.WaitGroup
	select {
	case <-f.Ready():
		if listeners.keys != nil {
			keys.Go(func() { p.Secrets().Serve(ctx, listeners.keys, config.Log) })
		}
		announce(config.Log, store.Load())
	case <-ctx.Done():
	}
	err = p.Run(ctx)
	keys.Wait()
	stop()
	_ = admin.Close()
	return errors.Join(err, <-failed, <-failed)
}

// announce says that the proxy is ready, to the log and to the supervisor.
func announce(log *slog.Logger, s *snapshot.Snapshot) {
	log.Info("ready", "local", s.Identity.String(), "serial", hex.EncodeToString(s.Leaf.Leaf.SerialNumber.Bytes()),
		"expires", s.Leaf.Leaf.NotAfter.UTC(), "inbound", s.Inbound.String(), "outbound", s.Outbound.String())
	if err := notify("READY=1"); err != nil {
		log.Error("supervisor does not hear", "error", err)
	}
}

// edges is what the proxy has carried, as the control plane takes it: a peer or a
// seal that is not known is empty.
func edges(p *proxy.Proxy) []*controlv1.Edge {
	list := p.Edges()
	out := make([]*controlv1.Edge, 0, len(list))
	for _, e := range list {
		direction := controlv1.Edge_DIRECTION_OUTBOUND
		if e.Direction == proxy.Inbound {
			direction = controlv1.Edge_DIRECTION_INBOUND
		}
		seal := e.Seal
		if seal == proxy.SealNone { // refused: carried in nothing
			seal = ""
		}
		out = append(out, &controlv1.Edge{
			Direction: direction, Peer: e.Peer, Port: uint32(e.Port), Seal: string(seal),
			Connections: e.Connections, Open: e.Open, Refused: e.Refused,
			BytesSent: e.Sent, BytesReceived: e.Received, LastRefusal: string(e.LastRefusal),
		})
	}
	return out
}
