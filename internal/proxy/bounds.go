package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sealmesh/sealmesh/internal/obs"
)

// Bounds on handshakes under way. What is above them waits its turn.
const (
	// maxHandshakes bounds a proxy's handshakes of one role.
	maxHandshakes = 1024
	// maxHandshakesWith bounds those with one address, so that a flood of
	// half-open lanes from it leaves room for everyone else.
	maxHandshakesWith = 128
)

// slots are the handshakes that may be under way.
type slots struct {
	all chan struct{}

	mu   sync.Mutex
	with map[netip.Addr]*share
}

// share is the slots of one address.
type share struct {
	taken chan struct{}
	users int // that hold or wait for a slot
}

func newSlots() *slots {
	return &slots{all: make(chan struct{}, maxHandshakes), with: map[netip.Addr]*share{}}
}

// take waits for a slot for a handshake with a peer; release gives it back. The
// error is ctx's.
func (s *slots) take(ctx context.Context, peer netip.Addr) (release func(), err error) {
	own := s.join(peer)
	select {
	case own.taken <- struct{}{}:
	case <-ctx.Done():
		s.leave(peer, own)
		return nil, ctx.Err()
	}
	select {
	case s.all <- struct{}{}:
	case <-ctx.Done():
		<-own.taken
		s.leave(peer, own)
		return nil, ctx.Err()
	}
	return func() {
		<-s.all
		<-own.taken
		s.leave(peer, own)
	}, nil
}

func (s *slots) join(peer netip.Addr) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.with[peer]
	if own == nil {
		own = &share{taken: make(chan struct{}, maxHandshakesWith)}
		s.with[peer] = own
	}
	own.users++
	return own
}

func (s *slots) leave(peer netip.Addr, own *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(s.with, peer)
	}
}

// pause is how an accept loop waits out a lack of descriptors: 5 ms, doubled up to
// a second, with one log line when it begins and one when it is over.
type pause struct {
	delay time.Duration
	count int
}

const maxPause = time.Second

func (p *pause) wait(ctx context.Context) {
	p.delay = min(max(2*p.delay, 5*time.Millisecond), maxPause)
	timer := time.NewTimer(p.delay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (p *pause) log(log *slog.Logger, message string, err error) {
	if p.count++; p.count == 1 {
		log.Error(message, obs.KeyError, err) //nolint:sloglint // constant at each caller
	}
}

// reset ends a pause, if there was one.
func (p *pause) reset(log *slog.Logger) {
	if p.count > 0 {
		log.Info("accepting connections again", obs.KeyCount, p.count)
	}
	*p = pause{}
}
