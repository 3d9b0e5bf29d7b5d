package promises

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// patience is how long anything that must happen may take. It is only ever
// waited out by a test that fails.
const patience = 30 * time.Second

// bin holds the programs under test.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if lab.Supported() != nil {
		return m.Run() // each test says why it is skipped
	}
	dir, err := os.MkdirTemp("", "sealmesh-promises-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bin = dir
	// The race detector holds every process back for a second at its end. Programs
	// under test inherit this.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build builds the programs into dir, with the race detector if we have it.
func build(dir string) error {
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if raced {
		args = append(args, "-race")
	}
	args = append(args, "../../cmd/sealmesh", "../../cmd/sealmesh-proxy", "../../cmd/sealmesh-control")
	if out, err := exec.CommandContext(context.Background(), "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %v\n%s", args, err, out)
	}
	return nil
}

// eventually waits until cond holds.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// must is for what can only fail if the machine does.
func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// needs skips the test if one of the programs is not installed. Where the
// environment has CI=true it fails instead.
func needs(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			tb.Fatalf("%s is not installed", p)
		}
		tb.Skipf("not run: %s is not installed", p)
	}
}
