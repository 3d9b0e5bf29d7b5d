// Benchverify measures how fast `sealmesh verify` judges, beside tshark and
// tcpdump, in one run on one machine.
//
//	goldens of test/captures ──► traffic (traffic.go): as many copies as wanted, each
//	                             between ends of its own, many under way at a time
//	   file     verify, tshark with the fields of TLS, tcpdump: one after the other
//	   memory   a million flows through a pipe
//	   live     a veth at rising rates: verify, and tcpdump to a file
//
// What it prints is what docs/performance.md quotes. Nothing here is a test: times
// are compared within one run only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

type config struct {
	program string // sealmesh
	goldens string
	dir     string
	size    int64 // bytes of the file
	flows   int   // of the memory measurement
	only    string
	out     io.Writer
}

func run(ctx context.Context) error {
	c := config{out: os.Stdout}
	flag.StringVar(&c.program, "sealmesh", "bin/sealmesh", "program to measure")
	flag.StringVar(&c.goldens, "goldens", "test/captures/testdata", "captures to make traffic of")
	flag.StringVar(&c.dir, "dir", "", "directory for the file (default: a new temporary one, removed at the end)")
	flag.Int64Var(&c.size, "size", 1500<<20, "bytes of the file")
	flag.IntVar(&c.flows, "flows", 1_000_000, "flows of the memory measurement")
	flag.StringVar(&c.only, "only", "", "file, memory or live; all if empty")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("makes network namespaces and needs root")
	}
	for _, program := range []string{c.program, "tshark", "tcpdump"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed: %w", program, err)
		}
	}
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "sealmesh-bench-verify-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c.dir = dir
	}
	t, err := loadTraffic(c.goldens)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		run  func(context.Context, config, *traffic) error
	}{{"file", benchFile}, {"memory", benchMemory}, {"live", benchLive}} {
		if c.only != "" && c.only != part.name {
			continue
		}
		if err := part.run(ctx, c, t); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func (c config) file() string { return filepath.Join(c.dir, "traffic.pcap") }
