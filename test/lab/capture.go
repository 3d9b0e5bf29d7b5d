package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Capture is a running tcpdump.
type Capture struct {
	// File is where the packets are written, in pcap format.
	File string

	cmd     *Cmd
	ready   chan struct{}     // closed when packets are being captured
	reports chan CaptureStats // one for each SIGUSR1
	ended   chan struct{}     // closed at the end of stderr; then what follows is readable
	final   CaptureStats
	stderr  []string // the first lines that say neither
}

// CaptureStats are tcpdump's own counts.
type CaptureStats struct {
	// Captured packets are in the file.
	Captured int
	// Received packets matched the filter. On the loopback device they count
	// twice, going out and coming in.
	Received int
	// Dropped packets did not fit into the kernel's buffer: they are missing.
	Dropped int
}

// Capture runs tcpdump on an interface of the host, writing to file, which
// should be named *.pcap, each packet as it comes. The filter is in the language
// of pcap-filter(7) and may be empty. On return packets are being captured.
// The end of ctx kills it; use Stop to end it in order.
func (h *Host) Capture(ctx context.Context, iface, file, filter string) (*Capture, error) {
	// -Z: tcpdump would give up root before opening the file, and fail.
	// -B: at once means a slot of the largest packet for each, so that the usual
	// 2 MiB hold no more than a few dozen.
	args := []string{"-B", "32768", "-U", "-n", "--immediate-mode", "-Z", "root", "-i", iface, "-w", file}
	if filter != "" {
		args = append(args, filter)
	}
	c := &Capture{
		File:    file,
		cmd:     h.Command(ctx, "tcpdump", args...),
		ready:   make(chan struct{}),
		reports: make(chan CaptureStats, 1),
		ended:   make(chan struct{}),
	}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("lab: tcpdump: %v", err)
	}
	if err := c.cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, fmt.Errorf("lab: tcpdump is not installed (apt-get install tcpdump): %v", err)
		}
		return nil, err
	}
	go c.follow(stderr)
	select {
	case <-c.ready:
		return c, nil
	case <-c.ended:
		err := c.cmd.Wait()
		return nil, fmt.Errorf("lab: tcpdump on %s of %s: %v: %s", iface, h.Name, err, strings.Join(c.stderr, "; "))
	}
}

// Stop ends the capture once everything that was received is in the file, and
// returns the counts.
func (c *Capture) Stop() (CaptureStats, error) {
	c.drain()
	_ = c.cmd.Process.Signal(syscall.SIGINT) // it may have ended already: Wait tells
	<-c.ended
	if err := c.cmd.Wait(); err != nil {
		return c.final, fmt.Errorf("lab: tcpdump: %v: %s", err, strings.Join(c.stderr, "; "))
	}
	return c.final, nil
}

// drain returns when the counts say that all received packets were read from
// the kernel's buffer, or stand still: tcpdump leaves there what it had not read
// when it is told to end.
func (c *Capture) drain() {
	const tries, still, pause = 200, 3, 5 * time.Millisecond
	var last CaptureStats
	for same, try := 0, 0; same < still && try < tries; try++ {
		if c.cmd.Process.Signal(syscall.SIGUSR1) != nil {
			return
		}
		select {
		case report := <-c.reports:
			if report.Captured >= report.Received {
				return
			}
			if report == last {
				same++
			} else {
				same = 0
			}
			last = report
		case <-c.ended:
			return
		}
		select {
		case <-time.After(pause):
		case <-c.ended:
			return
		}
	}
}

var (
	reportLine = regexp.MustCompile(`^(\d+) packets? captured, (\d+) packets? received by filter, (\d+) packets? dropped by kernel`)
	finalLine  = regexp.MustCompile(`^(\d+) packets? (captured|received by filter|dropped by kernel)$`)
)

// follow reads what tcpdump says until it ends.
func (c *Capture) follow(stderr io.Reader) {
	defer close(c.ended)
	ready := false
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		line := strings.TrimPrefix(lines.Text(), "tcpdump: ")
		switch {
		case strings.HasPrefix(line, "listening on"):
			if !ready {
				ready = true
				close(c.ready)
			}
		case reportLine.MatchString(line):
			m := reportLine.FindStringSubmatch(line)
			select {
			case c.reports <- CaptureStats{Captured: number(m[1]), Received: number(m[2]), Dropped: number(m[3])}:
			default: // nobody here asked for it
			}
		case finalLine.MatchString(line):
			m := finalLine.FindStringSubmatch(line)
			switch m[2] {
			case "captured":
				c.final.Captured = number(m[1])
			case "received by filter":
				c.final.Received = number(m[1])
			case "dropped by kernel":
				c.final.Dropped = number(m[1])
			}
		case len(c.stderr) < 10:
			c.stderr = append(c.stderr, line)
		}
	}
}

// number reads digits that a pattern has matched.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0 // more digits than an int holds
	}
	return n
}
