package proxy

import (
	"crypto/tls"
	"sync"
	"time"
)

// Bounds of the pool of idle lanes.
const (
	// idleLanes is how many idle lanes are kept per destination.
	idleLanes = 256
	// idleTime is how long a lane stays idle before its client ends it.
	idleTime = time.Minute
)

// pool keeps the idle lanes that we are the client of, the last used first, so
// that the surplus of a burst grows old and ends.
type pool struct {
	end func(*link) // ends a lane that is not kept

	mu   sync.Mutex
	idle map[destination][]*link
	shut bool
}

func newPool(end func(*link)) *pool { return &pool{end: end, idle: map[destination][]*link{}} }

// take finds an idle lane to a destination that shows our current certificate and
// whose server takes another stream; nil if there is none.
func (p *pool) take(to destination, leaf *tls.Certificate) *link {
	for {
		l := p.pop(to)
		if l == nil {
			return nil
		}
		if l.leaf == leaf && l.Idle() == nil {
			return l
		}
		go p.end(l)
	}
}

func (p *pool) pop(to destination) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.idle[to]
	if len(idle) == 0 {
		return nil
	}
	l := idle[len(idle)-1]
	idle[len(idle)-1] = nil
	p.idle[to] = idle[:len(idle)-1]
	return l
}

// put keeps a lane that has become idle, or ends it.
func (p *pool) put(l *link, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shut || l.Draining() || len(p.idle[l.to]) >= idleLanes {
		go p.end(l)
		return
	}
	l.idleAt = now
	p.idle[l.to] = append(p.idle[l.to], l)
}

// sweep ends the lanes that have been idle too long, show an old certificate, or
// whose server has asked for it. leaf nil ends all of them.
func (p *pool) sweep(leaf *tls.Certificate, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for to, idle := range p.idle {
		kept := idle[:0]
		for _, l := range idle {
			if leaf == nil || l.leaf != leaf || now.Sub(l.idleAt) > idleTime || l.Idle() != nil {
				go p.end(l)
				continue
			}
			kept = append(kept, l)
		}
		clear(idle[len(kept):])
		if p.idle[to] = kept; len(kept) == 0 {
			delete(p.idle, to)
		}
	}
}

// close ends all idle lanes and keeps none from now on.
func (p *pool) close() {
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	p.sweep(nil, time.Time{})
}

// size is how many lanes are idle.
func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, idle := range p.idle {
		n += len(idle)
	}
	return n
}
