package enrol

import (
	"bufio"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// An enroller that is killed leaves no proxy behind, and rules that let nothing
// pass.
func TestProxiesEndWithAnEnrollerThatIsKilled(t *testing.T) {
	s := newSite(t, serves)
	s.serve(s.peer, ":2929", "plain")
	// What it cannot clean up when it is killed.
	left, err := os.MkdirTemp("", "sealmesh-test-") //nolint:usetesting // t.TempDir is closed to proxies
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(left) })
	if err := os.Chmod(left, 0o711); err != nil {
		t.Fatal(err)
	}
	supervisor := exec.CommandContext(t.Context(), "/proc/self/exe")
	supervisor.Env = append(os.Environ(), superviseNS+"="+s.web.Path(), superviseProxy+"="+s.program(serves), "TMPDIR="+left)
	supervisor.Stderr = s.logs
	out, err := supervisor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if after, ok := strings.CutPrefix(lines.Text(), "proxy "); ok {
			if pid, err = strconv.Atoi(after); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if pid == 0 || !alive(pid) {
		t.Fatalf("no proxy was started (process %d)", pid)
	}
	s.mustReach(s.web, s.out(), "serves token "+s.out()).Close()
	supervisor.WaitDelay = enough
	if err := supervisor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = supervisor.Wait() // killed
	s.until("the proxy ends", func() bool { return !alive(pid) })
	s.mustNotPass(s.web, s.out())

	// The next enroller takes over what it finds.
	s.seal(s.whole())
	s.sealed("web", 0)
	s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())
}

const (
	superviseNS    = "SEALMESH_TEST_NETNS"
	superviseProxy = "SEALMESH_TEST_PROXY"
)

// supervise is the enroller of the test above, in a process of its own.
func supervise() error {
	e, err := New(Config{
		Proxy: os.Getenv(superviseProxy), Args: []string{"--drain", "1s"}, Env: []string{fakeProxy + "=1"},
		Tokens: func(context.Context, string, string) (string, error) { return "token", nil },
		Drain:  enough, Output: os.Stderr, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	if err := e.Apply([]Workload{{Namespace: "shop", Name: "web", NetNS: os.Getenv(superviseNS)}}); err != nil {
		return err
	}
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if st := e.Status(); len(st) == 1 && st[0].PID != 0 {
				_, _ = os.Stdout.WriteString("proxy " + strconv.Itoa(st[0].PID) + "\n")
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), enough)
	defer cancel()
	return e.Run(ctx)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
