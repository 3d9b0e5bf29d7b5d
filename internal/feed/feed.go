// Package feed is the proxy's client of the control plane: it gets the proxy its
// certificate and keeps the snapshot store current.
//
//	keepLeaf   join by token, then renew over mutual TLS ──┐
//	                                                       ├─▶ held ─ publish ─▶ snapshot.Store
//	follow     Watch ─ convert (strictly) ─────────────────┘
//	attend     reports what is in use, on the same connection
//
// What both have learned is held in one place and changed under one lock; every
// change publishes a snapshot that holds the newest of each. Nothing is
// published before there is a leaf and a first snapshot. What cannot be had keeps
// its last good value: the proxy goes on without the control plane for as long as
// its leaf is valid.
//
// Files stand in the order of a proxy's life: feed, leaf (join and renew), follow
// (watch and report), convert (message → snapshot), dial.
package feed

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Config says which control plane a feed follows, and for whom.
type Config struct {
	// Control is where the control plane is: unix:///path or https://host:port.
	Control string
	// TrustDomain is the proxy's own.
	TrustDomain id.TrustDomain
	// Anchors are what the control plane is trusted by until a snapshot brings
	// newer ones.
	Anchors *snapshot.Bundle
	// Token returns a join token, "" if there is none now. It is asked whenever
	// there is no leaf to renew with.
	Token func() (string, error)
	// OneToken says that Token never returns another. Once it is refused, and there
	// is no leaf to go on with, Run gives up: whoever started us can start us anew
	// with another token.
	OneToken bool
	// Store is published to; the feed is its one writer.
	Store *snapshot.Store
	// Edges is what the proxy has carried since its start, for reports; nil
	// reports none.
	Edges func() []*controlv1.Edge
	// Version of the proxy, for reports.
	Version string
	// Log takes what goes wrong and what comes anew.
	Log *slog.Logger
	// Dial reaches the control plane by another way than its address, if not nil.
	Dial func(context.Context) (net.Conn, error)
	// Now is the clock that certificates are judged by, time.Now if nil.
	Now func() time.Time
}

// Validate reports every problem of the configuration at once.
func (c Config) Validate() error {
	_, err := parseEndpoint(c.Control)
	problems := []error{err}
	require := func(ok bool, problem string) {
		if !ok {
			problems = append(problems, errors.New("feed: "+problem))
		}
	}
	require(!c.TrustDomain.IsZero(), "trust domain is empty")
	require(c.Anchors != nil, "no trust anchors to know the control plane by")
	require(c.Anchors == nil || c.Anchors.Domain() == c.TrustDomain, "trust anchors are not of the own trust domain")
	require(c.Token != nil, "no source of join tokens")
	require(c.Store != nil, "no store to publish to")
	require(c.Log != nil, "no logger")
	return errors.Join(problems...)
}

// Feed follows one control plane for one workload.
type Feed struct {
	cfg      Config
	endpoint endpoint
	instance string
	ready    chan struct{}

	mu      sync.Mutex // guards both
	held    held
	changed chan struct{} // closed at the next change of held
}

// held is all a feed knows at one moment. It is passed by value; what it points
// to is never changed.
type held struct {
	leaf     *tls.Certificate    // nil before the first
	chain    []*x509.Certificate // of leaf, parsed
	workload string              // "namespace/name" that leaf was issued to
	renewal  time.Time           // when leaf is to be replaced
	refused  bool                // the control plane trusts leaf no more

	learned *snapshot.Snapshot // without leaf and identity; nil before the first
	issuer  string             // fingerprint of the certificate that signs now
}

// New makes a feed. It starts nothing; Run does.
func New(cfg Config) (*Feed, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Edges == nil {
		cfg.Edges = func() []*controlv1.Edge { return nil }
	}
	at, err := parseEndpoint(cfg.Control)
	if cfg.Dial != nil {
		at.dial = cfg.Dial
	}
	return &Feed{
		cfg:      cfg,
		endpoint: at,
		instance: rand.Text(),
		ready:    make(chan struct{}),
		changed:  make(chan struct{}),
	}, err
}

// Run follows the control plane until ctx ends, whatever happens to it, and
// returns nil. Its one error is that of Config.OneToken.
func (f *Feed) Run(ctx context.Context) (err error) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	var both sync.WaitGroup
	both.Go(func() {
		defer giveUp()
		err = f.keepLeaf(ctx)
	})
	both.Go(func() { f.follow(ctx) })
	both.Wait()
	return err
}

// Ready is closed once the first leaf and the first snapshot are in the store.
func (f *Feed) Ready() <-chan struct{} { return f.ready }

// current is what is held now, and a channel that is closed when that changes.
func (f *Feed) current() (held, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held, f.changed
}

// update changes what is held and, if that is news to the proxy, publishes it. It
// is the only writer of the store.
func (f *Feed) update(change func(*held)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.held
	change(&f.held)
	close(f.changed)
	f.changed = make(chan struct{})
	if !f.held.complete() || (f.held.leaf == before.leaf && f.held.learned == before.learned) {
		return
	}
	f.cfg.Store.Publish(f.held.snapshot())
	if !before.complete() {
		close(f.ready)
	}
}

func (h held) complete() bool { return h.leaf != nil && h.learned != nil }

// snapshot joins what was learned with who the workload is.
func (h held) snapshot() *snapshot.Snapshot {
	s := *h.learned
	s.Leaf = h.leaf
	// The chain was verified, so its leaf carries an identity.
	s.Identity, _ = id.FromCertificate(h.chain[0])
	return &s
}

// bundles are what the own leaf and the control plane are judged by: the anchors
// of the own trust domain, and no other.
func (f *Feed) bundles(h held) map[id.TrustDomain]*snapshot.Bundle {
	own := f.cfg.Anchors
	if h.learned != nil {
		own = h.learned.Bundle(f.cfg.TrustDomain)
	}
	return map[id.TrustDomain]*snapshot.Bundle{f.cfg.TrustDomain: own}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
