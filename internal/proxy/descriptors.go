package proxy

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// Descriptors run out. Each lane holds one though it carries nothing, so idle ones
// are given up first: ours are ended, and the clients of the others asked to.
const (
	// shedEvery is the least time between two rounds of that: a client needs about
	// as long to answer.
	shedEvery = time.Second
	// reachTime is how long a next hop is waited for until there is a descriptor.
	reachTime = 3 * time.Second
)

// exhausted reports whether an error is for want of descriptors, of ours or of the
// whole machine.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// shed gives up idle lanes.
func (p *Proxy) shed() {
	now := now()
	last := p.shedAt.Load()
	if now.UnixNano()-last < int64(shedEvery) || !p.shedAt.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	p.pool.sweep(nil, now)
	_, links := p.live.all()
	for _, l := range links {
		if l.role == Inbound && !l.busy.Load() && l.drained.CompareAndSwap(false, true) {
			go func() { _ = l.Drain() }()
		}
	}
}

// reach dials, and dials again for a while when there is no descriptor.
func (p *Proxy) reach(ctx context.Context, dial func(context.Context) (*net.TCPConn, error)) (*net.TCPConn, error) {
	conn, err := dial(ctx)
	if !exhausted(err) {
		return conn, err
	}
	waiting, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	var pause pause
	for exhausted(err) && waiting.Err() == nil {
		p.shed()
		pause.wait(waiting)
		conn, err = dial(ctx)
	}
	return conn, err
}
