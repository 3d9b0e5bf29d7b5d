package promises

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// load is applications that make one short connection after the other to an echo:
// each says something, hears it back and the end after it.
type load struct {
	stop   context.CancelFunc
	ended  sync.WaitGroup
	served atomic.Int64

	mu     sync.Mutex
	failed []error
}

// startLoad puts a load of so many connections at a time on the way between two
// workloads, until end.
func startLoad(tb testing.TB, from *lab.Workload, to netip.AddrPort, width int) *load {
	tb.Helper()
	return startPaced(tb, from, to, width, 0)
}

// startPaced is startLoad with a pause after each connection.
func startPaced(tb testing.TB, from *lab.Workload, to netip.AddrPort, width int, pause time.Duration) *load {
	tb.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	l := &load{stop: stop}
	tb.Cleanup(func() { stop(); l.ended.Wait() })
	for worker := range width {
		l.ended.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := shortConnection(from, to, fmt.Sprintf("connection %d of worker %d", n, worker)); err != nil {
					l.fail(err)
				} else {
					l.served.Add(1)
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	return l
}

func shortConnection(from *lab.Workload, to netip.AddrPort, text string) error {
	conn, err := tryDial(context.Background(), from, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	_ = conn.CloseWrite() // of one that was reset meanwhile the read tells more
	heard, err := io.ReadAll(conn)
	if err == nil && string(heard) != text {
		err = errors.New("heard " + string(heard))
	}
	return err
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

// more waits until so many more connections have been served.
func (l *load) more(tb testing.TB, count int64) {
	tb.Helper()
	goal := l.served.Load() + count
	eventually(tb, fmt.Sprintf("%d more connections served", count), func() bool { return l.served.Load() >= goal })
}

// end ends the load and returns what came of it.
func (l *load) end() (served int64, failed []error) {
	l.stop()
	l.ended.Wait()
	return l.served.Load(), l.failed
}

// wantNoneFailed ends the load and fails unless it was one, and nothing of it
// failed.
func (l *load) wantNoneFailed(tb testing.TB, atLeast int64) {
	tb.Helper()
	served, failed := l.end()
	if served < atLeast {
		tb.Errorf("only %d connections were made: it was no load", served)
	}
	if len(failed) > 0 {
		tb.Errorf("%d of %d connections failed: %s", len(failed), served, firstFew(failed, 5))
	}
}

func firstFew(errs []error, n int) string {
	var lines []string
	for _, err := range errs[:min(n, len(errs))] {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "; ")
}
