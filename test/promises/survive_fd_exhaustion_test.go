package promises

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sealmesh/sealmesh/test/lab"
)

// A proxy that runs out of descriptors says so, once, and goes on with what it has.
// When there are descriptors again it says that too, and serves as before.
//
// Positive control: the same number of connections with enough descriptors.
func TestDescriptorsRunOut(t *testing.T) {
	const width = 40
	for _, name := range []string{"sender", "receiver"} {
		t.Run("of the proxy of the "+name, func(t *testing.T) {
			m := newMesh(t)
			w := map[string]*lab.Workload{"sender": m.Sender, "receiver": m.Receiver}[name]
			m.start(t, "--proxy", withFewDescriptors(t, w, 40))
			serve(t, m.Receiver, appPort, echo)
			pid := m.proxyOf(t, w).Pid
			before := converse(t, m.Sender, m.Receiver)
			from := m.mark()
			release := crowd(t, m, width)
			m.waitLog(t, from, "that it runs out", has("level", "ERROR", "msg", "cannot accept connections"))
			before.goesOn(t, "without descriptors")
			release()
			eventually(t, "connections as before", func() bool { return tryEcho(t, m.Sender, m.Receiver, appPort) == nil })
			m.waitLog(t, from, "that it is over", has("msg", "accepting connections again"))
			if !runs(pid) {
				t.Error("the proxy has ended")
			}
			if metrics(t, w)["sealmesh_accept_errors_total"] == 0 {
				t.Error("it is not counted")
			}
			before.goesOn(t, "with descriptors again")
		})
	}
	t.Run("twin: enough of them", func(t *testing.T) {
		m := startMesh(t)
		serve(t, m.Receiver, appPort, echo)
		from := m.mark()
		for range width {
			converse(t, m.Sender, m.Receiver)
		}
		if errs := m.logged(from, has("level", "ERROR")); len(errs) > 0 {
			t.Errorf("it fails all the same: %v", errs[0])
		}
	})
}

// withFewDescriptors is a proxy program that has only so many descriptors when it
// is that of a workload.
func withFewDescriptors(tb testing.TB, w *lab.Workload, most int) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "proxy")
	script := fmt.Sprintf("#!/bin/sh\nif grep -q '%s$' /proc/net/fib_trie; then ulimit -n %d; fi\nexec %s \"$@\"\n",
		w.Addr4, most, filepath.Join(openly(tb), "sealmesh-proxy"))
	must(tb, os.WriteFile(path, []byte(script), 0o755))
	return path
}

// openly is a directory with the proxy that the proxies' user may enter.
func openly(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "sealmesh-open-")
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(dir) })
	must(tb, os.Chmod(dir, 0o755))
	install(tb, filepath.Join(bin, "sealmesh-proxy"), filepath.Join(dir, "sealmesh-proxy"))
	return dir
}

// crowd makes so many connections at a time, each of which tries to say something
// and stays, until release. Some may fail.
func crowd(tb testing.TB, m *mesh, width int) (release func()) {
	tb.Helper()
	ctx, leave := context.WithCancel(tb.Context())
	var all sync.WaitGroup
	for range width {
		all.Go(func() {
			conn, err := tryDial(tb.Context(), m.Sender, at(m.Receiver, appPort))
			if err != nil {
				return
			}
			defer conn.Close()
			context.AfterFunc(ctx, func() { conn.Close() })
			_ = conversation{conn}.turn()
			<-ctx.Done()
		})
	}
	return func() { leave(); all.Wait() }
}
