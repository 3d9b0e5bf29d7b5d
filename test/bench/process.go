package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// stopTime is how long a process may take to end once it was asked to.
const stopTime = 5 * time.Second

// process is a program that runs in a workload's namespace until it is stopped.
// The lab kills it, and what it started, if this program is interrupted.
type process struct {
	name   string
	cmd    *lab.Cmd
	stderr bytes.Buffer // readable once ended is closed
	kill   context.CancelFunc
	ended  chan struct{}
	err    error // how it ended, readable once ended is closed
}

// newProcess prepares a program; the caller may set its input and output before
// it calls start.
func newProcess(ctx context.Context, host *lab.Host, name string, args ...string) *process {
	ctx, cancel := context.WithCancel(ctx)
	p := &process{name: name, cmd: host.Command(ctx, name, args...), kill: cancel, ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	return p
}

// start starts it and watches for its end.
func (p *process) start() error {
	if err := p.cmd.Start(); err != nil {
		p.kill()
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// pid of the process.
func (p *process) pid() int { return p.cmd.Process.Pid }

// failure says how a process ended that should not have; nil while it runs.
func (p *process) failure() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %v: %s", filepath.Base(p.name), p.err, bytes.TrimSpace(p.stderr.Bytes()))
	default:
		return nil
	}
}

// stop asks the process to end, and kills it and what it started if it does not.
func (p *process) stop() error {
	if err := p.failure(); err != nil {
		return err
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended meanwhile
	return p.wait()
}

// wait waits for the end that was asked for.
func (p *process) wait() error {
	defer p.kill()
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTime):
		p.kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %v and was killed", filepath.Base(p.name), stopTime)
	}
}

// find is where a program is. Debian keeps those of the administrator in
// directories that are not on everyone's PATH.
func find(program string) (string, error) {
	for _, place := range []string{program, "/usr/sbin/" + program, "/sbin/" + program} {
		if path, err := exec.LookPath(place); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed (apt-get install haproxy nginx libnginx-mod-stream)", program)
}

// pause waits, or returns early with the error of ctx.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
