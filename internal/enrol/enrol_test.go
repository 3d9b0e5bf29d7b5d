package enrol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/redirect"
)

func TestNothingPassesUntilTheProxyIsReady(t *testing.T) {
	s := newSite(t, mute)
	s.serve(s.peer, ":2929", "plain")
	s.serve(s.web, ":8080", "plain")
	s.mustReach(s.web, s.out(), "plain "+s.out()) // the twin: not enrolled
	s.mustReach(s.peer, s.in(), "plain "+s.in())

	s.seal(s.whole())
	s.until("guard", func() bool { return s.status("web").Admin != 0 })
	s.mustNotPass(s.web, s.out())
	s.mustNotPass(s.peer, s.in())
	if st := s.status("web"); st.Phase != "guard" || st.PID != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestASealedWorkloadReachesItsProxyOnly(t *testing.T) {
	s := newSite(t, serves)
	s.serve(s.peer, ":2929", "plain")
	s.serve(s.web, ":8080", "plain")
	s.seal(s.whole())
	st := s.sealed("web", 0)
	if st.Rules == 0 || st.Admin != 15090 || st.Error != "" {
		t.Errorf("status %+v", st)
	}
	s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())
	s.mustReach(s.peer, s.in(), "serves shop-web-1 "+s.in())
}

func TestConnectionsWaitWhileAProxyIsReplacedAfterACrash(t *testing.T) {
	s := newSite(t, serves)
	s.seal(s.whole())
	first := s.sealed("web", 0)
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// Connects before the next proxy is there, or after: served either way.
	s.mustReach(s.web, s.out(), "serves shop-web-2 "+s.out())
	if second := s.sealed("web", first.PID); second.Failures != 1 {
		t.Errorf("status %+v, want one failure", second)
	}
	if drift := s.drift(); len(drift) > 0 {
		t.Errorf("drift: %q", drift)
	}
}

func TestACrashingProxyIsTriedAgainUnderGuard(t *testing.T) {
	s := newSite(t, crashes)
	s.serve(s.peer, ":2929", "plain")
	s.seal(s.whole())
	s.until("three tries", func() bool { return s.status("web").Failures >= 3 })
	st := s.status("web")
	if st.Phase != "guard" || !strings.Contains(st.Error, "before it was ready") {
		t.Errorf("status %+v", st)
	}
	s.mustNotPass(s.web, s.out())
}

func TestAnUpgradeRefusesNoConnectionAndCutsNone(t *testing.T) {
	s := newSite(t, serves)
	s.seal(s.whole())
	first := s.sealed("web", 0)
	open := s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())

	// Calls go on while it happens.
	calls := make(chan error)
	upgraded := make(chan struct{})
	go func() {
		var failed error
		for done := false; !done && failed == nil; {
			select {
			case <-upgraded:
				done = true
			default:
			}
			var conn interface{ Close() error }
			if conn, _, failed = s.call(s.web, s.out()); failed == nil {
				conn.Close()
			}
		}
		calls <- failed
	}()
	if err := s.Upgrade(t.Context(), "shop", "web", s.program(serves2)); err != nil {
		t.Fatal(err)
	}
	close(upgraded)
	if err := <-calls; err != nil {
		t.Errorf("a call failed meanwhile: %v", err)
	}
	second := s.sealed("web", first.PID)
	s.until("the old proxy takes no more", func() bool {
		conn, greeting, err := s.call(s.web, s.out())
		if err != nil {
			return false
		}
		conn.Close() // the old one would wait for it
		return strings.HasPrefix(greeting, serves2)
	})
	if !alive(first.PID) {
		t.Error("the old proxy ended with a connection open")
	}
	open.Close()
	s.until("the old proxy has drained", func() bool { return !alive(first.PID) })

	// What was upgraded stays so after a crash.
	if err := syscall.Kill(second.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.mustReach(s.web, s.out(), "serves2 shop-web-3 "+s.out())
}

func TestAFailedUpgradeLeavesTheOldProxyServing(t *testing.T) {
	s := newSite(t, serves)
	s.seal(s.whole())
	first := s.sealed("web", 0)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, c := range []struct{ program, why string }{
		{s.program(mute), "not ready in time"},
		{s.program(crashes), "before it was ready"},
		{"/no/such/program", "no such file"},
	} {
		err := s.Upgrade(ctx, "shop", "web", c.program)
		if err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("upgrade to %s: %v, want it to say %q", c.program, err, c.why)
		}
		ctx = t.Context()
		if st := s.status("web"); st.PID != first.PID {
			t.Errorf("status %+v, want the old process %d", st, first.PID)
		}
		s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())
	}
	if err := s.Upgrade(t.Context(), "shop", "nobody", s.program(serves2)); err == nil {
		t.Error("a workload that is not here was upgraded")
	}
}

func TestDriftIsRepairedAtTheNextTick(t *testing.T) {
	s := newSite(t, serves)
	s.serve(s.peer, ":2929", "plain")
	s.seal(s.whole())
	s.sealed("web", 0)
	if err := redirect.InNamespace(s.web.Path(), redirect.Remove); err != nil {
		t.Fatal(err)
	}
	s.mustReach(s.web, s.out(), "plain "+s.out()) // the twin: broken
	s.ticks <- time.Now()
	s.until("repair", func() bool { return strings.Contains(s.logs.String(), "rules repaired") })
	s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())
}

func TestARemovedWorkloadDrainsAndIsUnsealed(t *testing.T) {
	s := newSite(t, serves)
	s.serve(s.peer, ":2929", "plain")
	s.seal(s.whole())
	st := s.sealed("web", 0)
	open := s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())
	s.seal()
	s.until("SIGTERM", func() bool { return strings.Contains(s.logs.String(), draining) })
	if !alive(st.PID) {
		t.Error("the proxy ended with a connection open")
	}
	open.Close()
	s.until("the end", func() bool { return len(s.Status()) == 0 })
	if alive(st.PID) {
		t.Error("the proxy is still there")
	}
	s.mustReach(s.web, s.out(), "plain "+s.out())
}

func TestAProxyThatDoesNotDrainIsKilled(t *testing.T) {
	s := newSite(t, stubborn, func(c *Config) { c.Drain = patience })
	s.seal(s.whole())
	st := s.sealed("web", 0)
	s.end()
	if alive(st.PID) {
		t.Error("the proxy is still there")
	}
}

func TestAtTheEndRulesAreRemovedOrKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		s := newSite(t, serves, func(c *Config) { c.KeepRules = keep })
		s.serve(s.peer, ":2929", "plain")
		s.seal(s.whole())
		st := s.sealed("web", 0)
		s.end()
		if alive(st.PID) {
			t.Error("the proxy is still there")
		}
		_, greeting, err := s.call(s.web, s.out())
		if passes := err == nil; passes == keep {
			t.Errorf("keep rules %v: call passes: %v, greeted by %q", keep, passes, greeting)
		}
	}
}

func TestAWorkloadThatComesBackIsSealedAgain(t *testing.T) {
	s := newSite(t, serves)
	s.seal(s.whole())
	first := s.sealed("web", 0)
	open := s.mustReach(s.web, s.out(), "serves shop-web-1 "+s.out())
	s.seal()
	s.seal(s.whole()) // while the first still drains
	open.Close()
	s.sealed("web", first.PID)
	s.mustReach(s.web, s.out(), "serves shop-web-2 "+s.out())
}

func TestTheLatestListWins(t *testing.T) {
	s := newSite(t, serves)
	for range 10 {
		s.seal()
		s.seal(s.whole())
	}
	s.sealed("web", 0)
}

func TestANamespaceMadeAnewIsSealedAnew(t *testing.T) {
	s := newSite(t, serves)
	path := "/run/netns/" + s.lab.Prefix + "-anew"
	make := func() { command(t, "ip", "netns", "add", s.lab.Prefix+"-anew") }
	remove := func() { command(t, "ip", "netns", "del", s.lab.Prefix+"-anew") }

	s.seal(Workload{Namespace: "shop", Name: "anew", NetNS: path})
	s.until("it is missed", func() bool { return s.status("anew").Failures > 0 })
	make()
	first := s.sealed("anew", 0)
	remove()
	make()
	defer remove()
	s.ticks <- time.Now()
	second := s.sealed("anew", first.PID)
	if alive(first.PID) {
		t.Error("the old proxy is still there")
	}
	id, err := namespaceAt(path)
	if err != nil {
		t.Fatal(err)
	}
	if of, err := namespaceAt(fmt.Sprintf("/proc/%d/ns/net", second.PID)); err != nil || of != id {
		t.Errorf("the new proxy is in namespace %v, %v; want %v", of, err, id)
	}
}

func TestHostWorkloadsShareANamespace(t *testing.T) {
	s := newSite(t, serves)
	s.serve(s.peer, ":2929", "plain")
	web := Workload{Namespace: "shop", Name: "web", NetNS: s.web.Path(), User: "1001", Ports: []uint16{8080}}
	db := Workload{Namespace: "shop", Name: "db", NetNS: s.web.Path(), User: "1002", Ports: []uint16{5432}}
	s.seal(web, db)
	first, second := s.sealed("web", 0), s.sealed("db", 0)
	if first.Admin == second.Admin {
		t.Errorf("both proxies have admin port %d", first.Admin)
	}
	s.mustReach(s.web, s.out(), "plain "+s.out()) // root is neither
	conn, greeting, err := s.call(s.peer, s.in())
	if err != nil || !strings.HasPrefix(greeting, "serves shop-web-") {
		t.Fatalf("call to web: %q, %v", greeting, err)
	}
	conn.Close()

	// Ports change under a running proxy.
	web.Ports = []uint16{8081}
	s.serve(s.web, ":8080", "plain")
	s.seal(web, db)
	s.until("port 8080 is open", func() bool {
		conn, greeting, err := s.call(s.peer, s.in())
		if err == nil {
			conn.Close()
		}
		return err == nil && greeting == "plain "+s.in()
	})
	if st := s.status("web"); st.PID != first.PID {
		t.Errorf("the proxy was restarted for it: %+v", st)
	}

	// One goes, the other stays.
	s.seal(db)
	s.until("web is gone", func() bool { return len(s.Status()) == 1 })
	if st := s.status("db"); st.PID != second.PID || len(s.drift()) > 0 {
		t.Errorf("status %+v, drift %q", st, s.drift())
	}
}

func TestPortsInTheWayAreLeftOut(t *testing.T) {
	s := newSite(t, serves)
	s.serve(s.web, ":15102", "plain")
	s.seal(Workload{Namespace: "shop", Name: "web", NetNS: s.web.Path(), User: "1001"})
	if st := s.sealed("web", 0); st.Admin != 15106 {
		t.Errorf("admin port %d, want 15106: 15102 is in the way", st.Admin)
	}
	if drift := s.drift(); len(drift) > 0 {
		t.Errorf("drift: %q", drift)
	}
}

func TestTheProgramMayLieWhereItsUserCannotGo(t *testing.T) {
	s := newSite(t, serves)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sealmesh-test-") //nolint:usetesting // t.TempDir lies in a closed directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, serves)
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	s.seal(s.whole())
	last := s.sealed("web", 0)
	for _, c := range []struct {
		mode os.FileMode
		name string // as the kernel knows the process
	}{{0o755, serves}, {0o700, "7"}} {
		if err := os.Chmod(dir, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := s.Upgrade(t.Context(), "shop", "web", program); err != nil {
			t.Errorf("in a directory of mode %o: %v", c.mode, err)
			continue
		}
		last = s.sealed("web", last.PID)
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", last.PID))
		if err != nil || strings.TrimSpace(string(name)) != c.name {
			t.Errorf("in a directory of mode %o it is %q, %v; want %q", c.mode, name, err, c.name)
		}
	}
}

func TestBridgesThatFilterAreNoticed(t *testing.T) {
	s := newSite(t, serves)
	set := func(to string) {
		err := redirect.InNamespace(s.web.Path(), func() error {
			return os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte(to), 0)
		})
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("not run: the kernel has no br_netfilter")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := redirect.InNamespace(s.web.Path(), func() error {
		return os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-ip6tables", []byte("0"), 0)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{"1": true, "0": false} {
		set(value)
		if got := bridgesFilter(s.web.Path()); got != want {
			t.Errorf("bridge-nf-call-iptables is %s: %v", value, got)
		}
	}
}
