package promises

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/redirect"
	"github.com/sealmesh/sealmesh/test/lab"
)

// Whatever somebody else does to the rules of a sealed workload is undone, within
// the ten seconds in which the rules are looked at, and said.
//
//	sender    nft flush table       receiver  nft delete table
//	third     ip rule del           fourth    ip -6 route flush
func TestRedirectionIsRepaired(t *testing.T) {
	t.Parallel() // mostly waits
	needs(t, "nft", "ip")
	m := newMesh(t)
	third, fourth := m.add(t, 1, "third", sealed), m.add(t, 2, "fourth", sealed)
	m.start(t)
	rule, table := strconv.Itoa(ports.RulePriority), strconv.Itoa(ports.Table)
	damages := []struct {
		to      *lab.Workload
		command []string
		drift   string // what the log says of it
	}{
		{m.Sender, []string{"nft", "flush", "table", "inet", redirect.Table}, "rule 1 of"},
		{m.Receiver, []string{"nft", "delete", "table", "inet", redirect.Table}, "is missing"},
		{third, []string{"ip", "rule", "del", "priority", rule}, "rule"},
		{fourth, []string{"ip", "-6", "route", "flush", "table", table}, "route"},
	}
	before := map[*lab.Workload]string{}
	for _, d := range damages {
		before[d.to] = held(t, d.to)
	}
	from := m.mark()
	for _, d := range damages {
		shell(t, d.to, d.command...)
		if held(t, d.to) == before[d.to] {
			t.Errorf("%v changes nothing: the experiment proves nothing", d.command)
		}
	}
	for _, d := range damages {
		m.waitLog(t, from, "the repair", func(e entry) bool {
			return has("msg", "rules repaired", "netns", d.to.Path())(e) && strings.Contains(e.text("drift"), d.drift)
		})
		eventually(t, "rules of "+d.to.Name+" as before", func() bool { return held(t, d.to) == before[d.to] })
	}
	m.sealsAgain(t, "repaired")
}

// `sealmesh up` that is killed leaves its workloads cut off, and the next one finds
// everything as it should be.
//
//	up ─ SIGKILL ─ nothing passes ─ up ─ sealed ─ down
//	               ▲ tcpdump
//
// Broken twin: after `sealmesh down` the workloads talk in clear.
func TestUpIsKilledAndStartedAgain(t *testing.T) {
	t.Parallel() // mostly waits
	needs(t, "nft", "ip")
	m := startMesh(t)
	before := held(t, m.Sender)
	m.sealsAgain(t, "at first")

	m.kill(t)
	eventually(t, "end of the proxies", func() bool { return len(m.inside()) == 0 })
	if after := held(t, m.Sender); after != before {
		t.Errorf("rules of a killed `sealmesh up`:\n%s\nexpected:\n%s", after, before)
	}
	t.Run("meanwhile", func(t *testing.T) { m.passesNothing(t) })

	m.start(t)
	if after := held(t, m.Sender); after != before {
		t.Errorf("rules of the next `sealmesh up`:\n%s\nexpected:\n%s", after, before)
	}
	m.sealsAgain(t, "again")
}

// passesNothing checks that nothing of the sender gets to the receiver.
func (m *mesh) passesNothing(t *testing.T) {
	t.Helper()
	heard := make(chan struct{}, 10)
	serve(t, m.Receiver, appPort, func(*net.TCPConn) { heard <- struct{}{} })
	uplink := m.record(t, 1, "tcp")
	tryAll(t, m.Sender, m.Receiver)
	if seen := uplink.stop(t).tshark(t, from(m.Sender), "_ws.col.info"); len(heard) > 0 || len(seen) > 0 {
		t.Errorf("with nobody to seal it the sender is heard %d times, on the wire is %v", len(heard), seen)
	}
}

// `sealmesh down` leaves nothing: no rule, no route, no process, no file of its
// own, whether `sealmesh up` ran or had been killed.
func TestDownLeavesNothing(t *testing.T) {
	needs(t, "nft", "ip")
	for _, how := range []struct {
		name string
		end  func(*testing.T, *mesh)
	}{
		{"of one that runs", func(*testing.T, *mesh) {}},
		{"of one that was killed", func(t *testing.T, m *mesh) { m.kill(t) }},
	} {
		t.Run(how.name, func(t *testing.T) {
			m := newMesh(t)
			untouched := map[*lab.Workload]string{m.Sender: held(t, m.Sender), m.Receiver: held(t, m.Receiver)}
			m.start(t)
			if held(t, m.Sender) == untouched[m.Sender] || len(m.runtime(t)) == 0 {
				t.Fatal("nothing is there to begin with: the experiment proves nothing")
			}
			if n := len(m.inside()); n != 2 {
				t.Errorf("%d processes are inside of two workloads, expected their proxies alone", n)
			}
			runtime := m.runtime(t)
			how.end(t, m)
			said, err := m.sealmesh(t.Context(), "down")
			must(t, err)
			t.Log(strings.TrimSpace(said))
			for w, before := range untouched {
				if after := held(t, w); after != before {
					t.Errorf("left in %s:\n%s", w.Name, after)
				}
			}
			eventually(t, "end of all processes", func() bool { return len(m.inside()) == 0 })
			if _, err := os.Stat(runtime); err == nil {
				t.Errorf("%s is left", runtime)
			}
			if m.up != nil {
				m.awaitEnd(t)
				m.up = nil
			}
			seen := m.netcat(t, m.Receiver.Addr4, "nobody seals this")
			if !seen[0].shows(t, "nobody seals this") {
				t.Error("the workloads do not talk as they did before")
			}
		})
	}
}

// runtime is the directory in which the running `sealmesh up` keeps what only
// matters while it runs.
func (m *mesh) runtime(t *testing.T) string {
	t.Helper()
	locks, err := filepath.Glob("/run/sealmesh/*/lock")
	must(t, err)
	for _, lock := range locks {
		if pid, err := os.ReadFile(lock); err == nil && string(pid) == strconv.Itoa(m.up.Process.Pid) {
			return filepath.Dir(lock)
		}
	}
	return ""
}

// handles are numbers the kernel gives anew each time.
var handles = regexp.MustCompile(` # handle \d+`)

// held is everything that redirection consists of in a workload: nftables, rules,
// and routes, as nft and ip see them.
func held(t *testing.T, w *lab.Workload) string {
	t.Helper()
	table := strconv.Itoa(ports.Table)
	return handles.ReplaceAllString(shell(t, w, "nft", "list", "ruleset"), "") +
		shell(t, w, "ip", "rule") + shell(t, w, "ip", "-6", "rule") +
		shell(t, w, "ip", "route", "show", "table", table) + shell(t, w, "ip", "-6", "route", "show", "table", table)
}

// shell runs a command in a workload. A routing table that is not there is empty.
func shell(t *testing.T, w *lab.Workload, command ...string) string {
	t.Helper()
	out, err := w.Command(t.Context(), command[0], command[1:]...).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "FIB table does not exist") {
		t.Fatalf("%v: %v: %s", command, err, out)
	}
	if err != nil {
		return ""
	}
	return string(out)
}

// sealsAgain checks that the sender's words reach the receiver sealed.
func (m *mesh) sealsAgain(t *testing.T, when string) {
	t.Helper()
	text := "secret, " + when
	m.netcat(t, m.Receiver.Addr4, text)[0].wantSealed(t, m.Receiver, appPort, text)
}
