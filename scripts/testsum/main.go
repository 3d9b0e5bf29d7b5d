// Command testsum runs `go test -json` and tells the story of the run to a
// person: one line per package as it ends, the output of what failed in full, and
// at the end what failed, what could not be run and why, and the count.
//
//	go run ./scripts/testsum -- -race -shuffle=on ./...
//
// The last line is always "N passed, N failed, N skipped". It exits 1 if a test
// failed, if a package did not build, or if no test ran at all.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	passed, err := run(args, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	if !passed {
		os.Exit(1)
	}
}

// run runs go test with args, writes the story to out and reports whether all
// is well.
func run(args []string, out io.Writer) (passed bool, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	// go test passes an interrupt on to the tests, which clean up after themselves.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		return false, fmt.Errorf("go test: %v", err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("go test: %v", err)
	}

	s := newSummary(newPrinter(out, isTerminal(os.Stdout)))
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		s.line(lines.Bytes())
	}
	readErr := lines.Err()
	runErr := cmd.Wait()
	passed = s.finish(time.Since(start))
	switch {
	case readErr != nil:
		return false, fmt.Errorf("reading the output of go test: %v", readErr)
	case passed && runErr != nil:
		return false, fmt.Errorf("go test: %v", runErr)
	}
	return passed, nil
}

// isTerminal reports whether f is a screen somebody looks at.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("CI") == ""
}
