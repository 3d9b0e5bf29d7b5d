package promises

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// mesh is a lab of two nodes, a directory of objects that describes it and,
// between start and stop, a `sealmesh up` on that directory.
type mesh struct {
	*lab.Lab
	// Sender is on n1, Receiver on n2; both are sealed.
	Sender, Receiver *lab.Workload

	dir     string
	objects objects
	home    *lab.Host // where `sealmesh up` runs; nil for the machine itself

	up     *exec.Cmd     // nil unless started
	ended  chan struct{} // closed when up has ended
	stdout *lines
	stderr *lines
}

// standing is what a workload is to the mesh.
type standing int

const (
	sealed   standing = iota // has an identity and is sealed
	unsealed                 // known, but outside the mesh: seal: Disabled
	stranger                 // not known at all
)

// namespace is the Kubernetes-like namespace of all workloads here.
const namespace = "demo"

// newMesh makes a mesh that is not started. Its modes are strict.
func newMesh(tb testing.TB) *mesh {
	tb.Helper()
	m := &mesh{dir: filepath.Join(tb.TempDir(), "mesh")}
	must(tb, os.Mkdir(m.dir, 0o755))
	m.Lab = lab.T(tb, lab.Config{Nodes: 2})
	tb.Cleanup(func() { m.clear(tb) }) // before the lab is closed
	m.objects = newObjects()
	for _, n := range m.Nodes {
		m.objects.addNode(n)
	}
	m.Sender = m.add(tb, 1, "sender", sealed)
	m.Receiver = m.add(tb, 2, "receiver", sealed)
	return m
}

// startMesh makes a mesh and starts it.
func startMesh(tb testing.TB, args ...string) *mesh {
	tb.Helper()
	m := newMesh(tb)
	m.start(tb, args...)
	return m
}

// add makes a workload on a node, numbered from 1. In a mesh that runs, settle
// waits until it is sealed.
func (m *mesh) add(tb testing.TB, node int, name string, s standing) *lab.Workload {
	tb.Helper()
	w := m.Workload(tb, m.Nodes[node-1], name)
	if s != stranger {
		m.objects.addWorkload(w, s)
		m.write(tb)
	}
	return w
}

// start runs `sealmesh up`, with more arguments, and waits until all workloads
// are sealed.
func (m *mesh) start(tb testing.TB, args ...string) {
	tb.Helper()
	m.launch(tb, args...)
	for _, name := range m.objects.sealedNames() {
		m.awaitSealed(tb, name, 0)
	}
}

// launch runs `sealmesh up` and waits for nothing.
func (m *mesh) launch(tb testing.TB, args ...string) {
	tb.Helper()
	m.stdout, m.stderr, m.ended = newLines(), newLines(), make(chan struct{})
	args = append([]string{"up", "-f", m.dir, "--log-format", "json", "--log-level", "debug", "--drain", "2s"}, args...)
	m.up = exec.CommandContext(context.Background(), filepath.Join(bin, "sealmesh"), args...)
	// A test that is killed, or panics, takes it along.
	m.up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	stdout, err := m.up.StdoutPipe()
	must(tb, err)
	stderr, err := m.up.StderrPipe()
	must(tb, err)
	started := make(chan error)
	go func(cmd *exec.Cmd, ended chan struct{}) {
		// Pdeathsig comes when the thread that forked ends: let it live as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.inHome(cmd.Start)
		started <- err
		if err != nil {
			return
		}
		cmd.ProcessState, _ = cmd.Process.Wait() // not cmd.Wait: proxies hold its pipes, too
		close(ended)
	}(m.up, m.ended)
	must(tb, <-started)
	for l, pipe := range map[*lines]io.ReadCloser{m.stdout: stdout, m.stderr: stderr} {
		go func() {
			defer pipe.Close()
			l.follow(pipe)
		}()
	}
}

// inHome calls f where `sealmesh up` is to run.
func (m *mesh) inHome(f func() error) error {
	if m.home == nil {
		return f()
	}
	return m.home.Do(f)
}

// stop ends `sealmesh up` as Ctrl-C does, and checks that it ended well.
func (m *mesh) stop(tb testing.TB) {
	tb.Helper()
	if m.up == nil {
		return
	}
	if err := m.signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		tb.Errorf("stop sealmesh up: %v", err)
	}
	m.awaitEnd(tb)
	if code := m.up.ProcessState.ExitCode(); code != 0 {
		tb.Errorf("sealmesh up ended with %v", m.up.ProcessState)
	}
	m.up = nil
}

// kill ends `sealmesh up` as a crash does.
func (m *mesh) kill(tb testing.TB) {
	tb.Helper()
	must(tb, m.signal(syscall.SIGKILL))
	m.awaitEnd(tb)
	m.up = nil
}

func (m *mesh) signal(s syscall.Signal) error { return m.up.Process.Signal(s) }

func (m *mesh) awaitEnd(tb testing.TB) {
	tb.Helper()
	select {
	case <-m.ended:
	case <-time.After(patience):
		_ = m.signal(syscall.SIGKILL)
		tb.Fatalf("sealmesh up has not ended within %v", patience)
	}
}

// clear ends whatever still runs, shows the logs of a test that failed, and
// looks for reports of data races in them.
func (m *mesh) clear(tb testing.TB) {
	m.stop(tb)
	if _, err := m.sealmesh(context.Background(), "down"); err != nil {
		tb.Errorf("sealmesh down: %v", err)
	}
	m.reap(tb)
	if m.stderr == nil {
		return
	}
	log, _, _ := m.stderr.since(0)
	for i, line := range log {
		if strings.Contains(line, "WARNING: DATA RACE") {
			tb.Errorf("data race in a program under test:\n%s", strings.Join(log[i:min(i+60, len(log))], "\n"))
			break
		}
	}
	if tb.Failed() {
		told, _, _ := m.stdout.since(0)
		tb.Logf("sealmesh up said:\n%s", strings.Join(told, "\n"))
		const enough = 300
		tb.Logf("its log, at most %d lines:\n%s", enough, strings.Join(log[max(0, len(log)-enough):], "\n"))
	}
}

// reap kills what still runs in the namespaces of the lab, such as the proxies of
// a `sealmesh up` that was killed. Whatever is in there is ours.
func (m *mesh) reap(tb testing.TB) {
	tb.Helper()
	eventually(tb, "end of all processes in the lab", func() bool {
		left := m.inside()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
}

// inside lists the processes in the namespaces of the mesh's workloads.
func (m *mesh) inside() []int {
	ours := map[uint64]bool{}
	spaces, _ := filepath.Glob("/run/netns/" + m.Prefix + "-*")
	for _, path := range spaces {
		if st, err := os.Stat(path); err == nil {
			ours[st.Sys().(*syscall.Stat_t).Ino] = true
		}
	}
	var pids []int
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		st, err := os.Stat(filepath.Join(p, "ns/net"))
		if err != nil || !ours[st.Sys().(*syscall.Stat_t).Ino] {
			continue
		}
		// A zombie has no program any more, and is its parent's to bury.
		if _, err := os.Readlink(filepath.Join(p, "exe")); err != nil {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(p)); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// sealmesh runs a command on the mesh's directory and returns what it prints.
func (m *mesh) sealmesh(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sealmesh"), append(args, "-f", m.dir)...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New(exit.String() + ": " + strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// sealedLine is what `sealmesh up` prints when a workload is sealed.
var sealedLine = regexp.MustCompile(`^sealed ([^:]+): (\d+) rules, proxy pid (\d+)$`)

// awaitSealed waits for the line that says a workload, "demo/sender", is sealed,
// from a line of the standard output on.
func (m *mesh) awaitSealed(tb testing.TB, name string, from int) {
	tb.Helper()
	m.stdout.await(tb, from, "sealed "+name, func(line string) bool {
		found := sealedLine.FindStringSubmatch(line)
		return found != nil && found[1] == name
	})
}

// proxyOf is the process of a workload's proxy, as last printed.
func (m *mesh) proxyOf(tb testing.TB, w *lab.Workload) *os.Process {
	tb.Helper()
	told, _, _ := m.stdout.since(0)
	pid := 0
	for _, line := range told {
		if found := sealedLine.FindStringSubmatch(line); found != nil && found[1] == namespace+"/"+w.Name {
			pid, _ = strconv.Atoi(found[3])
		}
	}
	p, err := os.FindProcess(pid)
	if pid == 0 || err != nil {
		tb.Fatalf("no proxy of %s: %v", w.Name, err)
	}
	return p
}
