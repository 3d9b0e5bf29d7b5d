package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/redirect"
)

// claim is that this process runs the mesh of a place, until it says otherwise or
// ends.
type claim struct {
	place
	lock *os.File
}

// forget ends a claim when nothing of the mesh is left on this machine.
func (c claim) forget() {
	_ = os.RemoveAll(c.runtime)
	_ = c.lock.Close()
}

// leave ends a claim when rules stay: what is noted of them is for "sealmesh down".
func (c claim) leave() { _ = c.lock.Close() }

// claim fails if another process runs the mesh.
func (p place) claim() (*claim, error) {
	if _, err := os.Stat(p.dir); err != nil {
		return nil, hint(fmt.Errorf("mesh directory: %w", err), "name the directory of the mesh's objects with -f")
	}
	if err := os.MkdirAll(p.runtime, 0o755); err != nil { //nolint:gosec // proxies run as another user
		return nil, err
	}
	lock, err := os.OpenFile(p.lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, hint(fmt.Errorf("mesh %s already runs as pid %d", p.dir, p.owner()),
			"edit the directory, changes take effect; or stop it with \"sealmesh down -f %s\"", p.dir)
	}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, strconv.Itoa(os.Getpid()))); err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &claim{p, lock}, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// owner is the process that runs the mesh, or ran it last; 0 if none.
func (p place) owner() int {
	b, err := os.ReadFile(p.lock())
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(string(b))
	return pid
}

// remember notes namespaces in which rules may stand; they are never forgotten
// before the end.
func (p place) remember(namespaces []string) error {
	all := append(p.remembered(), namespaces...)
	slices.Sort(all)
	return writeFile(p.namespaces(), []byte(strings.Join(slices.Compact(all), "\n")))
}

func (p place) remembered() []string {
	b, err := os.ReadFile(p.namespaces())
	if err != nil {
		return nil
	}
	return strings.Split(string(b), "\n")
}

func downCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "down",
		Short: "Stop what \"sealmesh up\" runs, or remove the rules that one has left behind",
		Args:  cobra.NoArgs,
	}
	dir := flagDir(c)
	var wait time.Duration
	c.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for connections to drain")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := newPlace(*dir)
		if err != nil {
			return err
		}
		stopped, err := p.stop(wait)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), stopped)
		return nil
	}
	return c
}

// stop ends the process that runs the mesh, or removes what one has left that was
// killed or meant to leave its rules.
func (p place) stop(wait time.Duration) (what string, err error) {
	if _, err := os.Stat(p.lock()); errors.Is(err, fs.ErrNotExist) {
		return "nothing to stop: mesh " + p.dir + " does not run", nil
	}
	held, err := p.claim()
	if err != nil { // someone else does
		pid := p.owner()
		if err := unix.Kill(pid, unix.SIGTERM); err != nil {
			return "", fmt.Errorf("stop pid %d: %w", pid, err)
		}
		return fmt.Sprintf("stopped mesh %s (pid %d)", p.dir, pid), p.awaitEnd(pid, wait)
	}
	defer held.forget()
	var failed []error
	cleared := 0
	for _, ns := range p.remembered() {
		if ns != "" && !exists(ns) {
			continue
		}
		err := redirect.InNamespace(ns, redirect.Remove)
		failed = append(failed, err)
		if err == nil {
			cleared++
		}
	}
	return fmt.Sprintf("mesh %s does not run any more: cleared %d network namespaces", p.dir, cleared), errors.Join(failed...)
}

// awaitEnd waits for a process to end.
func (p place) awaitEnd(pid int, wait time.Duration) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait/time.Millisecond))
	if err == nil && n == 0 {
		return fmt.Errorf("pid %d has not ended within %s", pid, wait)
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
