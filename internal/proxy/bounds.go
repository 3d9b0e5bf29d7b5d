package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sealmesh/sealmesh/internal/obs"
)

// Bounds on handshakes under way.
const (
	maxHandshakes = 1024
	// maxHandshakesFrom bounds one address, so that a flood of half-open lanes
	// from it leaves room for everyone else.
	maxHandshakesFrom = 128
)

// slots counts the handshakes under way.
type slots struct {
	mu    sync.Mutex
	total int
	from  map[netip.Addr]int
}

func newSlots() *slots { return &slots{from: map[netip.Addr]int{}} }

// take reserves a slot; ok is false if there is none. release gives it back.
func (s *slots) take(client netip.Addr) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxHandshakes || s.from[client] >= maxHandshakesFrom {
		return nil, false
	}
	s.total++
	s.from[client]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.total--
		if s.from[client]--; s.from[client] == 0 {
			delete(s.from, client)
		}
	}, true
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
