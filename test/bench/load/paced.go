package load

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// schedule is the times at which an open loop means to send. Nobody's slowness
// moves them: a message that has to wait, for a free connection or for this
// process to be woken, has the wait counted in its latency.
type schedule struct {
	interval time.Duration // between two messages
	sent     int64         // messages taken so far
}

// due takes the next message if its time has come by now, and says when that
// time was. Times are since the start of the schedule.
func (s *schedule) due(now time.Duration) (intended time.Duration, ok bool) {
	intended = time.Duration(s.sent) * s.interval
	if intended > now {
		return 0, false
	}
	s.sent++
	return intended, true
}

// paced sends at a fixed rate: an open loop.
type paced struct {
	*client
	schedule schedule
	timer    int // timerfd that fires at each intended start
	start    time.Time
	free     []*conn // connections without a message under way, longest free first
}

func newPaced(c *client) (*paced, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timer: %v", err)
	}
	c.latencies = make([]time.Duration, 0, 1<<20)
	return &paced{client: c, timer: fd, schedule: schedule{interval: time.Second / time.Duration(c.plan.Rate)}}, nil
}

// opened starts the schedule with the last connection.
func (p *paced) opened(c *conn) error {
	p.free = append(p.free, c)
	if err := p.established(); err != nil {
		return err
	}
	if p.open < p.plan.Connections {
		return nil
	}
	if err := p.add(p.timer, unix.EPOLLIN, ticks{p}); err != nil {
		return err
	}
	interval := unix.NsecToTimespec(p.schedule.interval.Nanoseconds())
	p.start = time.Now()
	return unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Interval: interval, Value: interval}, nil)
}

// ready takes a reply, notes its latency, and sends what is due by now.
func (p *paced) ready(c *conn, events uint32) error {
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	complete, err := c.receive()
	if err != nil || !complete {
		return err
	}
	p.operations++
	p.latencies = append(p.latencies, time.Since(p.start)-c.sent)
	p.free = append(p.free, c)
	return p.send()
}

// send gives each free connection a message, as long as one is due.
func (p *paced) send() error {
	for len(p.free) > 0 {
		intended, ok := p.schedule.due(time.Since(p.start))
		if !ok {
			return nil
		}
		c := p.free[0]
		p.free = append(p.free[:0], p.free[1:]...)
		c.sent = intended
		if err := c.send(); err != nil {
			return err
		}
	}
	return nil
}

// ticks wakes the schedule.
type ticks struct{ paced *paced }

func (t ticks) ready(uint32) error {
	if _, err := unix.Read(t.paced.timer, t.paced.buffer[:8]); err != nil && err != unix.EAGAIN {
		return fmt.Errorf("timer: %v", err)
	}
	return t.paced.send()
}

// quantile is the smallest of the sorted values that a share q of them does not
// exceed (nearest rank); 0 if there are none.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
