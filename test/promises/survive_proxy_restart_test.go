package promises

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/sealmesh/sealmesh/test/lab"
)

// A proxy that is killed is started again. What it carried is cut, and nothing
// else: whoever connects meanwhile waits in the queues of sockets that outlive it.
//
// Positive control: the connections that were under way are cut, by a reset: what
// was not sent to its end does not look as if it were.
func TestAProxyIsKilledAndNewConnectionsWait(t *testing.T) {
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		t.Run("of the "+w.Name, func(t *testing.T) {
			l := startLoad(t, m.Sender, at(m.Receiver, appPort), 4)
			underWay := converse(t, m.Sender, m.Receiver)
			l.more(t, 50)

			told := m.stdout.count()
			m.killProxy(t, w)
			underWay.isCut(t, patience)
			waiting := make(chan error, 20)
			for range cap(waiting) {
				go func() { waiting <- tryEcho(t, m.Sender, m.Receiver, appPort) }()
			}
			m.awaitSealed(t, namespace+"/"+w.Name, told)
			for range cap(waiting) {
				if err := <-waiting; err != nil {
					t.Errorf("a connection made while there was no proxy: %v", err)
				}
			}
			_, failed := l.end()
			for _, err := range failed {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("a connection that was under way ends with %v, not with a reset", err)
				}
			}
			l = startLoad(t, m.Sender, at(m.Receiver, appPort), 4)
			l.more(t, 100)
			l.wantNoneFailed(t, 100)
		})
	}
}

// killProxy ends a workload's proxy as a crash does, and waits until it is gone.
func (m *mesh) killProxy(tb testing.TB, w *lab.Workload) {
	tb.Helper()
	p := m.proxyOf(tb, w)
	must(tb, p.Signal(syscall.SIGKILL))
	eventually(tb, "end of the proxy", func() bool { return !runs(p.Pid) })
}

// runs reports whether a process holds anything still. One that ends gives back its
// program first and its sockets with its last thread.
func runs(pid int) bool {
	process := "/proc/" + strconv.Itoa(pid)
	threads, err := os.ReadDir(process + "/task")
	if err != nil || len(threads) > 1 {
		return err == nil
	}
	stat, err := os.ReadFile(process + "/stat")
	_, state, found := bytes.Cut(stat, []byte(") "))
	return err == nil && found && state[0] != 'Z'
}

// On SIGHUP `sealmesh up` replaces each proxy by the program that is at its path by
// then, and no connection fails: the new one takes what comes, the old one serves
// out what it has. One that does not get ready replaces nothing.
//
//	old proxy ═══ SIGHUP ══ serves on ══ SIGTERM ══ last connection ends ══╳
//	new proxy       started ══ ready ═════════════════════════════════════▶
//
// Broken twin: a program that cannot serve.
func TestProxiesAreUpgradedWithoutAFailedConnection(t *testing.T) {
	m := newMesh(t)
	program := filepath.Join(t.TempDir(), "sealmesh-proxy")
	install(t, filepath.Join(bin, "sealmesh-proxy"), program)
	m.start(t, "--proxy", program, "--drain", "1m")
	serve(t, m.Receiver, appPort, echo)
	l := startLoad(t, m.Sender, at(m.Receiver, appPort), 4)
	long := converse(t, m.Sender, m.Receiver)
	l.more(t, 100)

	old := map[*lab.Workload]*os.Process{m.Sender: m.proxyOf(t, m.Sender), m.Receiver: m.proxyOf(t, m.Receiver)}
	told := m.stdout.count()
	install(t, filepath.Join(bin, "sealmesh-proxy"), program)
	must(t, m.signal(syscall.SIGHUP))
	for w, p := range old {
		m.awaitSealed(t, namespace+"/"+w.Name, told)
		if now := m.proxyOf(t, w); now.Pid == p.Pid {
			t.Errorf("the proxy of %s is the same process", w.Name)
		}
	}
	l.more(t, 500)
	long.goesOn(t, "after the upgrade")
	for range 20 { // both processes hold the socket, the new one answers
		if status, body := ask(t, m.Receiver, "/ready"); status != http.StatusOK {
			t.Fatalf("/ready says %d %s", status, body)
		}
	}
	for w, p := range old {
		if !runs(p.Pid) {
			t.Errorf("the old proxy of %s did not wait for its connection", w.Name)
		}
	}
	must(t, long.Close())
	for w, p := range old {
		eventually(t, "end of the old proxy of "+w.Name, func() bool { return !runs(p.Pid) })
	}

	t.Run("twin: to a program that cannot serve", func(t *testing.T) {
		install(t, "/bin/false", program)
		from, before := m.mark(), m.proxyOf(t, m.Sender)
		must(t, m.signal(syscall.SIGHUP))
		for range old {
			m.waitLog(t, from, "that it failed", has("msg", "proxy not replaced"))
		}
		if !runs(before.Pid) || m.proxyOf(t, m.Sender).Pid != before.Pid {
			t.Error("the proxy that served is gone")
		}
		l.more(t, 100)
	})
	l.wantNoneFailed(t, 700)
}

// install puts a program in place as package managers do: at once.
func install(tb testing.TB, from, to string) {
	tb.Helper()
	content, err := os.Open(from)
	must(tb, err)
	defer content.Close()
	draft, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	must(tb, err)
	_, err = io.Copy(draft, content)
	must(tb, err)
	must(tb, draft.Close())
	must(tb, os.Rename(to+".new", to))
}
