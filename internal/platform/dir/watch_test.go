package dir

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/platform"
)

func (m meshDir) pipe(name string) {
	if err := syscall.Mkfifo(filepath.Join(m.path, name), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// watched runs Watch for the length of a test and gives what it applied.
func (m meshDir) watched(d *Dir) <-chan *platform.State {
	states := make(chan *platform.State, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- d.Watch(ctx, func(s *platform.State) { states <- s }) }()
	m.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			m.t.Errorf("Watch: %v", err)
		}
	})
	return states
}

// next waits for a state.
func (m meshDir) next(states <-chan *platform.State) *platform.State {
	m.t.Helper()
	select {
	case s := <-states:
		return s
	case <-time.After(20 * time.Second):
		m.t.Fatal("no state was applied")
		return nil
	}
}

// logs waits for a text to be logged more often than before.
func (m meshDir) logs(text string, before int) {
	m.t.Helper()
	m.until("log says "+text, func() bool { return m.log.count(text) > before })
}

func TestChangesAreApplied(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	states := m.watched(d)
	versions := map[string]bool{m.next(states).Version: true}
	replaceFile := func() { // as editors do: write beside, rename over
		m.write("new~", workloadYAML("web", "10.0.0.2"))
		if err := os.Rename(filepath.Join(m.path, "new~"), filepath.Join(m.path, "web.yaml")); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"new file", func() { m.write("web.yaml", workloadYAML("web", "10.0.0.1")) }, "web 10.0.0.1"},
		{"renamed over", replaceFile, "web 10.0.0.2"},
		{"new folder", func() { m.write("shop/db.yaml", workloadYAML("db", "10.0.0.3")) }, "db 10.0.0.3, web 10.0.0.2"},
		{"written in place", func() { m.write("shop/db.yaml", workloadYAML("db", "10.0.0.4")) }, "db 10.0.0.4, web 10.0.0.2"},
		{"removed", func() { m.remove("web.yaml") }, "db 10.0.0.4"},
		{"folder removed", func() { m.remove("shop") }, ""},
	} {
		step.do()
		s := m.next(states)
		if got := summary(s); got != step.want {
			t.Errorf("%s: got %q, want %q", step.name, got, step.want)
		}
		if versions[s.Version] && step.want != "" {
			t.Errorf("%s: version %s was there before", step.name, s.Version)
		}
		versions[s.Version] = true
	}
}

func summary(s *platform.State) string {
	var all []string
	for _, w := range s.Workloads {
		all = append(all, w.Metadata.Name+" "+strings.Join(w.Spec.Addresses, " "))
	}
	return strings.Join(all, ", ")
}

// TestEventsAreHeard has a resync that will not come to the rescue.
func TestEventsAreHeard(t *testing.T) {
	m := newMeshDir(t)
	cfg := m.config()
	cfg.Resync = time.Hour
	d, err := Open(m.path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	states := m.watched(d)
	m.next(states)
	m.write("web.yaml", workloadYAML("web", "10.0.0.1"))
	if got := summary(m.next(states)); got != "web 10.0.0.1" {
		t.Errorf("got %q", got)
	}
}

// TestMissedEventsDoNotMatter exhausts nothing: it replaces the directory itself,
// so that the kernel has nothing to say about the new one.
func TestMissedEventsDoNotMatter(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	states := m.watched(d)
	m.next(states)
	old := m.path + ".old"
	if err := os.Rename(m.path, old); err != nil {
		t.Fatal(err)
	}
	m.logs("cannot be read", 0)
	if err := os.CopyFS(m.path, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	m.chmod(".sealmesh/issuer.key", 0o600)
	m.write("web.yaml", workloadYAML("web", "10.0.0.1"))
	if got := summary(m.next(states)); got != "web 10.0.0.1" {
		t.Errorf("got %q", got)
	}
}

func TestBadEditKeepsTheLastGoodStateAndIsLoggedOnce(t *testing.T) {
	m := newMeshDir(t)
	m.write("web.yaml", workloadYAML("web", "10.0.0.1"))
	d := m.open()
	states := m.watched(d)
	good := m.next(states)

	for _, bad := range []struct{ file, content, says string }{
		{"web.yaml", "kind: Worklod", "Worklod"},
		{"web.yaml", "", "is empty"}, // truncated
		{"mesh.yaml", strings.Replace(meshYAML, "demo", "other", 1), "cannot change"},
		{"trustbundle-demo.local.yaml", "# gone", "TrustBundle demo.local: there is none"},
	} {
		before := m.read(bad.file)
		m.write(bad.file, bad.content)
		m.until(bad.says, func() bool { return m.log.count(bad.says) > 0 })
		for range 3 { // resyncs judge it again and again
			m.judgedAgain(d)
		}
		if n := m.log.count(bad.says); n != 1 {
			t.Errorf("%q was logged %d times, want once", bad.says, n)
		}
		if d.State() != good {
			t.Fatalf("bad edit of %s changed the state", bad.file)
		}
		m.write(bad.file, before)
		m.until("mended", func() bool { return !d.complains() })
	}
	m.write("web.yaml", workloadYAML("web", "10.0.0.2"))
	if got := summary(m.next(states)); got != "web 10.0.0.2" {
		t.Errorf("after mending: %q", got)
	}
}

// judgedAgain waits until a refused content has been judged once more.
func (m meshDir) judgedAgain(d *Dir) {
	m.t.Helper()
	taken := func() digest {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.taken
	}
	d.mu.Lock()
	d.taken = digest{}
	d.mu.Unlock()
	m.until("judged again", func() bool { return taken() != digest{} })
}

func (d *Dir) complains() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.invalid.told != ""
}

// TestIssuerChangesLive goes the whole way of a rotation by hand, with the
// mistakes a hand makes, and asks for a leaf at every moment.
func TestIssuerChangesLive(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	states := m.watched(d)
	first := m.next(states)
	anchor := newAnchor(t, m)
	issuer := newIssuer(t, m, anchor)
	issues := func(s *platform.State, serial string) {
		t.Helper()
		bundle, err := s.Bundle(s.TrustDomain())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ca.SelfIssue(s.Issuer, bundle, time.Hour, m.clock.now()); err != nil {
			t.Error(err)
		}
		if got := ca.SerialHex(s.Issuer.Chain[0]); got != serial {
			t.Errorf("issuer %s, want %s", got, serial)
		}
	}
	old := ca.SerialHex(first.Issuer.Chain[0])
	issues(first, old)

	m.putIssuer(issuer) // too early: nobody trusts its anchor
	m.logs("chains to no anchor", 0)
	issues(d.State(), old)

	m.putBundle(anchorOf(t, first), anchor.Cert) // prepare, which makes it fit
	s := m.next(states)
	for ca.SerialHex(s.Issuer.Chain[0]) == old {
		s = m.next(states)
	}
	issues(s, ca.SerialHex(issuer.Cert))

	mismatched := m.log.count("key is not that of issuer")
	m.write(".sealmesh/issuer.key", otherKey(t)) // half of another pair
	m.logs("key is not that of issuer", mismatched)
	m.write("web.yaml", workloadYAML("web", "10.0.0.1")) // objects go on changing
	s = m.next(states)
	if summary(s) != "web 10.0.0.1" {
		t.Errorf("an unfit issuer held up the objects: %q", summary(s))
	}
	issues(s, ca.SerialHex(issuer.Cert))

	orphaned := m.log.count("chains to no anchor")
	m.putBundle(anchorOf(t, first)) // the anchor in use taken away: refused as a whole
	m.logs("chains to no anchor", orphaned)
	issues(d.State(), ca.SerialHex(issuer.Cert))

	m.putIssuer(issuer)
	m.putBundle(anchor.Cert) // retire
	s = m.next(states)
	if !anchorOf(t, s).Equal(anchor.Cert) {
		t.Error("old anchor was not retired")
	}
	issues(s, ca.SerialHex(issuer.Cert))
}

func TestIssuerNotValidYetIsTakenWhenItIs(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	states := m.watched(d)
	first := m.next(states)
	anchor, ok, err := d.anchor()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	m.clock.add(time.Hour)
	issuer := newIssuer(t, m, anchor)
	m.clock.add(-time.Hour)
	m.putIssuer(issuer)
	m.logs("is not valid before", 0)
	if d.State() != first {
		t.Error("state changed")
	}
	m.clock.add(time.Hour)
	if s := m.next(states); !s.Issuer.Chain[0].Equal(issuer.Cert) {
		t.Error("another issuer was taken")
	}
}

func TestOwnIssuerIsRenewedAndAnothersIsNot(t *testing.T) {
	m := newMeshDir(t)
	states := m.watched(m.open())
	first := m.next(states)
	m.clock.add(ca.IssuerLifetime * 3 / 4)
	second := m.next(states)
	if second.Issuer.Chain[0].Equal(first.Issuer.Chain[0]) || !second.Issuer.Chain[0].NotAfter.After(first.Issuer.Chain[0].NotAfter) {
		t.Error("issuer was not renewed")
	}

	anchor := newAnchor(t, m) // whose key lies elsewhere
	issuer := newIssuer(t, m, anchor)
	m.putBundle(anchorOf(t, first), anchor.Cert)
	m.putIssuer(issuer)
	s := m.next(states)
	for !s.Issuer.Chain[0].Equal(issuer.Cert) {
		s = m.next(states)
	}
	m.clock.add(ca.IssuerLifetime * 3 / 4)
	m.write("web.yaml", workloadYAML("web", "10.0.0.1"))
	if s := m.next(states); !s.Issuer.Chain[0].Equal(issuer.Cert) || m.log.count("not renewed") != 0 {
		t.Error("issuer of somebody else was replaced")
	}
}

// TestFileBeingWrittenIsNotBelieved changes a file between two looks.
func TestFileBeingWrittenIsNotBelieved(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	w := newWatcher(d)
	defer w.close()
	for w.look() { // until it has settled
	}
	good := d.State()
	full := workloadYAML("web", "10.0.0.1") + "---\n" + workloadYAML("db", "10.0.0.2")
	m.write("shop.yaml", full[:len(full)/2]) // valid, and half of it
	if !w.look() || d.State() != good {
		t.Fatal("a first look was believed")
	}
	m.write("shop.yaml", full)
	if !w.look() || d.State() != good {
		t.Fatal("a content that changed was believed")
	}
	if w.look() || summary(d.State()) != "db 10.0.0.2, web 10.0.0.1" {
		t.Fatalf("a content that stayed was not: %q", summary(d.State()))
	}
}
