package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// handler is what the loop calls when a file descriptor has something to say.
type handler interface {
	ready(events uint32) error
}

// loop is one epoll instance and the handlers of its file descriptors. Only the
// thread inside run touches it.
type loop struct {
	epoll    int
	handlers []handler // by file descriptor
}

// newLoop makes an empty loop.
func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %v", err)
	}
	return &loop{epoll: fd}, nil
}

// add watches fd for events and has h called with what happened.
func (l *loop) add(fd int, events uint32, h handler) error {
	for fd >= len(l.handlers) {
		l.handlers = append(l.handlers, make([]handler, len(l.handlers)+64)...)
	}
	l.handlers[fd] = h
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll: add %d: %v", fd, err)
	}
	return nil
}

// close closes fd, which ends its watch too. Events of fd that the kernel has
// already handed over find no handler.
func (l *loop) close(fd int) {
	l.handlers[fd] = nil
	_ = unix.Close(fd) // nothing is buffered in user space, nothing to lose
}

// run serves events until a handler returns an error; io.EOF, which control
// returns when the harness is done, is a good end. The collector is off: a run
// lasts seconds, allocates little and must not pause.
func (l *loop) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll: wait: %v", err)
		}
		for _, event := range events[:n] {
			h := l.handlers[event.Fd]
			if h == nil {
				continue
			}
			if err := h.ready(event.Events); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
}

// control obeys the harness: "begin" and "end" on in, answers on out.
type control struct {
	in    *bufio.Reader
	out   *json.Encoder
	begin func()
	end   func() Report

	began time.Time
	cpu   time.Duration
}

// newControl watches in for commands; begin and end are called for them.
func newControl(l *loop, in *os.File, out io.Writer, begin func(), end func() Report) (*control, error) {
	c := &control{in: bufio.NewReader(in), out: json.NewEncoder(out), begin: begin, end: end}
	return c, l.add(int(in.Fd()), unix.EPOLLIN, c)
}

// ready reads one command. The harness waits for the answer before the next.
func (c *control) ready(uint32) error {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return io.EOF
	}
	switch command := strings.TrimSpace(line); command {
	case "begin":
		c.began, c.cpu = time.Now(), ownCPU()
		c.begin()
		return c.out.Encode("begun")
	case "end":
		report := c.end()
		report.Elapsed, report.CPU = time.Since(c.began), ownCPU()-c.cpu
		return c.out.Encode(report)
	default:
		return fmt.Errorf("unknown command %q: begin or end", command)
	}
}

// announce tells the harness that this process is ready to be measured.
func (c *control) announce() error { return c.out.Encode("ready") }

// ownCPU is what this process has used so far, user and system.
func ownCPU() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
