package dir

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
)

// rotation is what the files say, judged as if time had passed and there were no
// proxies.
func (m meshDir) rotation(d *Dir) (ca.Rotation, ca.Step) {
	m.t.Helper()
	r, err := d.Rotation()
	if err != nil {
		m.t.Fatal(err)
	}
	r.Prepared, r.Activated = time.Time{}, time.Time{}
	return r, r.Next(m.clock.now()).Step
}

func (m meshDir) rotate(d *Dir, step ca.Step) {
	m.t.Helper()
	for range 2 { // taken twice it does no more
		if err := d.Rotate(step); err != nil {
			m.t.Fatalf("%s: %v", step, err)
		}
	}
}

func TestRotationReplacesTheAnchorStepByStep(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	old, step := m.rotation(d)
	if step != ca.StepPrepare || old.New != nil || len(old.Bundle.Anchors()) != 1 {
		t.Fatalf("at first: step %s, %d anchors", step, len(old.Bundle.Anchors()))
	}
	m.rotate(d, ca.StepPrepare)
	both, step := m.rotation(d)
	if step != ca.StepActivate || len(both.Bundle.Anchors()) != 2 || !both.Issuer[0].Equal(old.Issuer[0]) {
		t.Fatalf("prepared: step %s, %d anchors", step, len(both.Bundle.Anchors()))
	}
	m.rotate(d, ca.StepActivate)
	active, step := m.rotation(d)
	if step != ca.StepRetire || active.Issuer[0].CheckSignatureFrom(both.New) != nil {
		t.Fatalf("activated: step %s, issuer %s", step, active.Issuer[0].Subject)
	}
	if err := d.Rotate(ca.StepRetire); err != nil {
		t.Fatal(err)
	}
	done, step := m.rotation(d)
	if step != ca.StepPrepare || done.New != nil || !done.Old.Equal(both.New) || !slices.EqualFunc(done.Bundle.Anchors(), []*x509.Certificate{both.New}, (*x509.Certificate).Equal) {
		t.Fatalf("retired: step %s, anchors %v", step, done.Bundle.Anchors())
	}
	if left, _ := filepath.Glob(filepath.Join(m.path, ".sealmesh/anchor-next*")); left != nil {
		t.Errorf("left behind: %v", left)
	}
	m.open()
	if err := d.Rotate(ca.StepRetire); err == nil {
		t.Error("retired without a new anchor")
	}
}

func TestRotationEditsNothingButTheBundle(t *testing.T) {
	m := newMeshDir(t)
	m.open()
	bundle := m.read("trustbundle-demo.local.yaml")
	m.remove("trustbundle-demo.local.yaml")
	before := "# everything in one file\n" + meshYAML + "--- # the anchors\n# ask security before you change them\n"
	after := "---\n" + workloadYAML("web", "192.0.2.1") + "  # the end\n"
	m.write("mesh.yaml", before+bundle+after)

	m.rotate(m.open(), ca.StepPrepare)
	text := m.read("mesh.yaml")
	if !strings.HasPrefix(text, before) || !strings.HasSuffix(text, after) {
		t.Errorf("the rest of the file has changed:\n%s", text)
	}
	if n := strings.Count(text, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("%d anchors, want 2", n)
	}
}

func TestRotationLeavesAloneWhatIsNotOurs(t *testing.T) {
	t.Run("issuer", func(t *testing.T) {
		m := newMeshDir(t)
		m.open()
		theirs := newAnchor(t, m)
		m.putBundle(anchorOf(t, m.open().State()), theirs.Cert)
		m.putIssuer(newIssuer(t, m, theirs))
		if err := m.open().Rotate(ca.StepPrepare); err == nil || !strings.Contains(err.Error(), "not signed by the anchor") {
			t.Errorf("prepared, %v", err)
		}
	})
	t.Run("anchor", func(t *testing.T) {
		m := newMeshDir(t)
		d := m.open()
		m.remove(".sealmesh/anchor.key")
		if _, err := d.Rotation(); err == nil || !strings.Contains(err.Error(), "whoever holds the key") {
			t.Errorf("rotated, %v", err)
		}
	})
}

// TestRotationGoesOnWhereverItWasCutOff kills processes of this test binary that
// rotate, at any moment, and opens what they left.
func TestRotationGoesOnWhereverItWasCutOff(t *testing.T) {
	const env = "SEALMESH_TEST_ROTATE"
	if path := os.Getenv(env); path != "" {
		rotateForever(t, path)
		return
	}
	m := newMeshDir(t)
	m.open()
	for range 12 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRotationGoesOnWhereverItWasCutOff$")
		cmd.Env = append(os.Environ(), env+"="+m.path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + rand.IntN(4) {
			lines.Scan()
		}
		timer := time.NewTimer(rand.N(10 * time.Millisecond))
		<-timer.C
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		r, step := m.rotation(m.open()) // an unfit issuer or bundle would fail here
		if anchors := len(r.Bundle.Anchors()); anchors < 1 || anchors > 2 {
			t.Fatalf("step %s: %d anchors", step, anchors)
		}
	}
	d := m.open()
	for r, step := m.rotation(d); r.New != nil; r, step = m.rotation(d) {
		if err := d.Rotate(step); err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := m.rotation(d); len(r.Bundle.Anchors()) != 1 || r.Issuer[0].CheckSignatureFrom(r.Old) != nil {
		t.Errorf("at the end: %d anchors, issuer %s", len(r.Bundle.Anchors()), r.Issuer[0].Subject)
	}
}

// rotateForever takes one step after the other until it is killed.
func rotateForever(t *testing.T, path string) {
	now := newMeshDir(t).clock.now
	d, err := Open(path, Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := d.Rotation()
		if err != nil {
			t.Fatal(err)
		}
		r.Prepared, r.Activated = time.Time{}, time.Time{}
		if err := d.Rotate(r.Next(now()).Step); err != nil {
			t.Fatal(err)
		}
		fmt.Println("a step")
	}
}
