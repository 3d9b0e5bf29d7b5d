package lab

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Supported says why this process cannot build a lab, or nil if it can.
func Supported() error {
	if os.Geteuid() != 0 {
		return errors.New("lab: network namespaces need root")
	}
	if err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
		return fmt.Errorf("lab: cannot make network namespaces (a container without CAP_SYS_ADMIN?): %v", err)
	}
	return nil
}

// TB is what a lab needs of a testing.TB. The demo stands on this package, too, and
// a program should not link package testing.
//
// Size: a part of an interface that is given.
type TB interface {
	Context() context.Context
	Helper()
	Cleanup(func())
	Error(args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// NeedRoot skips the test where no lab can be built, and says so. Where the
// environment has CI=true it fails instead: there nothing may be left untested.
func NeedRoot(tb TB) {
	tb.Helper()
	err := Supported()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("%v", err)
	}
	tb.Skipf("not run: %v", err)
}

// T builds a lab that lives as long as the test.
func T(tb TB, cfg Config) *Lab {
	tb.Helper()
	NeedRoot(tb)
	l, err := New(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// Workload is AddWorkload for tests: it cannot fail.
func (l *Lab) Workload(tb TB, node *Node, name string) *Workload {
	tb.Helper()
	w, err := l.AddWorkload(node, name)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}
