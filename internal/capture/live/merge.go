package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// hold is how long a packet waits for an older one that another handle may still
// have in a block of the kernel's.
const hold = 2 * retire

// Merged is a source of the packets of several handles, roughly in order of time.
// It is not safe for concurrent use.
type Merged struct {
	// Idle, if set, is called before Next waits for packets: a time to flush.
	Idle func() error
	// Every, if set, is how often Idle is called at least, packets or not.
	Every time.Duration

	handles []*Handle
	ctx     context.Context // its end is that of the capture; Next has no parameter for it
	wake    int             // an eventfd: ctx has ended
	forget  func() bool
	ended   time.Time // when ctx had ended, once seen
	last    int
	polls   []unix.PollFd
}

// Merge reads handles, until ctx ends. The handles stay the caller's to close,
// after the source.
func Merge(ctx context.Context, handles ...*Handle) (*Merged, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("capture: eventfd: %w", err)
	}
	m := &Merged{handles: handles, ctx: ctx, wake: wake, polls: make([]unix.PollFd, 0, len(handles)+1)}
	m.forget = context.AfterFunc(ctx, func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	return m, nil
}

// Close ends the source.
func (m *Merged) Close() error {
	if !m.forget() { // the context has ended: it may be about to write
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(m.wake), Events: unix.POLLIN}}, -1)
	}
	return unix.Close(m.wake)
}

// Origin is the handle, by its place in Merge, and the direction of the last frame.
func (m *Merged) Origin() (int, Direction) { return m.last, m.handles[m.last].direction }

// Gone says which handles have lost their interface: what came after is not known.
func (m *Merged) Gone() error {
	var gone []error
	for _, h := range m.handles {
		if h.gone != nil {
			gone = append(gone, fmt.Errorf("capture %s: %w", h.vantage, h.gone))
		}
	}
	return errors.Join(gone...)
}

// Next is the next packet. It returns io.EOF once ctx has ended and all packets up
// to then were read, and ErrGone where no interface is left to capture.
func (m *Merged) Next(f *capture.Frame) error {
	for {
		if m.ended.IsZero() && m.ctx.Err() != nil {
			m.ended = time.Now()
		}
		// Asked before looking for packets: what comes between the two is not missed.
		complete := !m.ended.IsZero() && time.Since(m.ended) >= hold
		finished := m.finished()
		next, at, empty := m.choose()
		inTime := m.ended.IsZero() || at <= m.ended.UnixNano()
		switch {
		case next >= 0 && inTime && (!empty || m.oldEnough(at)):
			m.last = next
			m.handles[next].take(f)
			return nil
		case complete || next >= 0 && !inTime && !empty:
			return io.EOF
		case next < 0 && finished:
			return m.Gone()
		}
		if m.Idle != nil {
			if err := m.Idle(); err != nil {
				return err
			}
		}
		if err := m.poll(m.wait(next, at)); err != nil {
			return err
		}
	}
}

// choose finds the handle whose next packet is the oldest, -1 if there is none,
// and whether a handle has none that might still get an older one.
func (m *Merged) choose() (next int, at int64, empty bool) {
	next = -1
	for i, h := range m.handles {
		t, ok := h.ready()
		h.empty = !ok
		switch {
		case !ok:
			empty = empty || !h.finished()
		case next < 0 || t < at:
			next, at = i, t
		}
	}
	return next, at, empty
}

// oldEnough reports whether no handle can have an older packet in hiding. A clock
// that was set back is no reason to wait.
func (m *Merged) oldEnough(at int64) bool {
	age := time.Since(time.Unix(0, at))
	return age >= hold || age < 0
}

// forever is a wait for as long as it takes.
const forever = time.Duration(1<<63 - 1)

// wait is how long to wait for packets: until the next is old enough, or until all
// are there that came before the end, of the capture or of an interface.
func (m *Merged) wait(next int, at int64) time.Duration {
	wait := forever
	if m.Every > 0 {
		wait = m.Every
	}
	if !m.ended.IsZero() {
		wait = hold - time.Since(m.ended)
	}
	if next >= 0 {
		wait = min(wait, hold-time.Since(time.Unix(0, at)))
	}
	for _, h := range m.handles {
		if h.gone != nil && !h.finished() {
			wait = min(wait, hold-time.Since(h.goneAt))
		}
	}
	return max(wait, time.Millisecond)
}

func (m *Merged) finished() bool {
	for _, h := range m.handles {
		if !h.finished() {
			return false
		}
	}
	return true
}

// poll waits for packets, and learns which interfaces went away.
func (m *Merged) poll(wait time.Duration) error {
	m.polls = m.polls[:0]
	for _, h := range m.handles {
		fd := int32(h.fd)
		if !h.empty || h.gone != nil { // as choose saw it: what has come since wakes poll
			fd = -1 // poll passes it over
		}
		m.polls = append(m.polls, unix.PollFd{Fd: fd, Events: unix.POLLIN})
	}
	if m.ended.IsZero() {
		m.polls = append(m.polls, unix.PollFd{Fd: int32(m.wake), Events: unix.POLLIN})
	}
	timeout := -1
	if wait != forever {
		timeout = int((wait + time.Millisecond - 1) / time.Millisecond)
	}
	if _, err := unix.Poll(m.polls, timeout); err != nil && err != unix.EINTR {
		return fmt.Errorf("capture: poll: %w", err)
	}
	for i, h := range m.handles {
		if m.polls[i].Fd >= 0 && m.polls[i].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
			h.lose()
		}
	}
	return nil
}

// lose notes why a socket failed.
func (h *Handle) lose() {
	h.goneAt = time.Now()
	code, err := unix.GetsockoptInt(h.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		h.gone = fmt.Errorf("socket: %w", err)
	case unix.Errno(code) == unix.ENETDOWN:
		h.gone = ErrGone
	case code != 0:
		h.gone = fmt.Errorf("socket: %w", unix.Errno(code))
	}
}
