package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Cmd is an exec.Cmd that runs in a namespace. It has a process group of its
// own, which the end of its context or of the lab kills: what it started ends
// with it, and a Ctrl-C at the terminal does not reach it.
type Cmd struct {
	*exec.Cmd
	host *Host

	reaped  sync.Once
	waitErr error
}

// Command is exec.CommandContext in the namespace, as the host's user.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), host: h}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if h.uid != 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: h.uid, Gid: h.uid}
	}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = 2 * time.Second // a descendant that left the group may hold the output open
	return c
}

// Start starts the command in its namespace.
func (c *Cmd) Start() error {
	l := c.host.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if err := c.host.Do(c.Cmd.Start); err != nil {
		return fmt.Errorf("lab: %s: %w", c.host.Name, err)
	}
	l.running[c] = struct{}{}
	return nil
}

// Wait waits for the command to end, as exec.Cmd.Wait does. It may be called
// more than once, and by several goroutines.
func (c *Cmd) Wait() error {
	err := c.reap()
	c.host.lab.mu.Lock()
	delete(c.host.lab.running, c)
	c.host.lab.mu.Unlock()
	return err
}

// Run starts the command and waits for it to end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns what it printed. Its error carries what
// it printed to standard error.
func (c *Cmd) Output() ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout = &stdout
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	err := c.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		exit.Stderr = stderr.Bytes()
		if stderr.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
	}
	return stdout.Bytes(), err
}

// CombinedOutput runs the command and returns what it printed, errors too.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// kill ends the command and its process group. The group may be gone already.
func (c *Cmd) kill() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }

// reap waits for the command's end, once.
func (c *Cmd) reap() error {
	c.reaped.Do(func() { c.waitErr = c.Cmd.Wait() })
	return c.waitErr
}
