package dir

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

const meshYAML = `apiVersion: sealmesh.io/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: demo.local}
`

func workloadYAML(name, address string) string {
	return `apiVersion: sealmesh.io/v1alpha1
kind: Workload
metadata: {name: ` + name + `, namespace: shop}
spec: {addresses: ["` + address + `"]}
`
}

// logged is a log that a test reads while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// meshDir is a directory under test.
type meshDir struct {
	t     testing.TB
	path  string
	log   *logged
	clock *clock
}

func newMeshDir(t testing.TB) meshDir {
	m := meshDir{t: t, path: t.TempDir(), log: &logged{}, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	m.write("mesh.yaml", meshYAML)
	return m
}

func (m meshDir) config() Config {
	return Config{Log: slog.New(slog.NewTextHandler(m.log, nil)), Settle: time.Millisecond, Resync: 20 * time.Millisecond, Now: m.clock.now}
}

func (m meshDir) open() *Dir {
	m.t.Helper()
	d, err := Open(m.path, m.config())
	if err != nil {
		m.t.Fatal(err)
	}
	return d
}

func (m meshDir) write(name, content string) {
	m.t.Helper()
	path := filepath.Join(m.path, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m meshDir) remove(name string) {
	m.t.Helper()
	if err := os.RemoveAll(filepath.Join(m.path, name)); err != nil {
		m.t.Fatal(err)
	}
}

func (m meshDir) read(name string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.path, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// until waits for a condition; the deadline of the test ends it otherwise.
func (m meshDir) until(what string, condition func() bool) {
	m.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			m.t.Fatalf("never saw: %s; log:\n%s", what, m.log.buf.String())
		case <-poll.C:
		}
	}
}

func TestFirstUseMakesTrustThatLasts(t *testing.T) {
	m := newMeshDir(t)
	first := m.open().State()
	for name, mode := range map[string]fs.FileMode{
		".sealmesh": 0o700 | fs.ModeDir, ".sealmesh/anchor.key": 0o600, ".sealmesh/issuer.key": 0o600, "trustbundle-demo.local.yaml": 0o644,
	} {
		info, err := os.Stat(filepath.Join(m.path, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v; want %v", name, info.Mode(), err, mode)
		}
	}
	bundle, err := first.Bundle(first.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.SelfIssue(first.Issuer, bundle, time.Hour, m.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	second := m.open().State()
	if second.Version != first.Version {
		t.Errorf("version %s after opening again, was %s", second.Version, first.Version)
	}
	bundle, err = second.Bundle(second.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	trusted := map[id.TrustDomain]*snapshot.Bundle{bundle.Domain(): bundle}
	chain := []*x509.Certificate{leaf.Leaf, second.Issuer.Chain[0]}
	if _, err := mtls.Verify(chain, trusted, m.clock.now()); err != nil {
		t.Errorf("leaf issued before does not verify after opening again: %v", err)
	}
}

// TestFirstUseCutOffAnywhereIsFinishedNextTime removes what a crash would have
// left unwritten, latest first.
func TestFirstUseCutOffAnywhereIsFinishedNextTime(t *testing.T) {
	written := []string{".sealmesh/anchor.key", ".sealmesh/anchor.crt", ".sealmesh/issuer.key", ".sealmesh/issuer.crt", "trustbundle-demo.local.yaml"}
	for cut := range written {
		t.Run(written[cut], func(t *testing.T) {
			m := newMeshDir(t)
			m.open()
			for _, name := range written[cut:] {
				m.remove(name)
			}
			state := m.open().State()
			bundle, err := state.Bundle(state.TrustDomain())
			if err != nil {
				t.Fatal(err)
			}
			if err := ca.CheckIssuer(state.Issuer, bundle, m.clock.now()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenedByManyAtOnceThereIsOneIssuer(t *testing.T) {
	m := newMeshDir(t)
	var group sync.WaitGroup
	versions := make([]string, 8)
	for i := range versions {
		group.Go(func() {
			if d, err := Open(m.path, m.config()); err == nil {
				versions[i] = d.State().Version
			} else {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, v := range versions {
		if v != versions[0] {
			t.Fatalf("versions %v: more than one issuer was made", versions)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	bundle := func(m meshDir) { m.open(); m.remove(".sealmesh") }
	tests := map[string]struct {
		prepare func(meshDir)
		domain  string
		wants   string
	}{
		"no directory":                {prepare: func(m meshDir) { m.remove("") }, wants: "no such file"},
		"no Mesh":                     {prepare: func(m meshDir) { m.remove("mesh.yaml") }, wants: "there is no Mesh"},
		"every problem":               {prepare: func(m meshDir) { m.write("a.yaml", "kind: X"); m.write("sub/b.yaml", "kind: Y") }, wants: "sub/b.yaml"},
		"another trust domain":        {domain: "other.example", wants: `must be "other.example"`},
		"bundle whose key is away":    {prepare: bundle, wants: "key of TrustBundle demo.local is elsewhere"},
		"trust domain of the anchor":  {prepare: func(m meshDir) { m.open(); m.write("mesh.yaml", strings.Replace(meshYAML, "demo", "new", 1)) }, wants: "cannot change"},
		"key that others can read":    {prepare: func(m meshDir) { m.open(); m.chmod(".sealmesh/issuer.key", 0o644) }, wants: "must be 0600"},
		"key of another issuer":       {prepare: func(m meshDir) { m.open(); m.write(".sealmesh/issuer.key", m.read(".sealmesh/anchor.key")) }, wants: "key is not that of issuer"},
		"expired issuer":              {prepare: func(m meshDir) { m.open(); m.clock.add(ca.IssuerLifetime) }, wants: "issuer_expired"},
		"pipe among the objects":      {prepare: func(m meshDir) { m.pipe("p.yaml") }, wants: "must be a regular file"},
		"file too large":              {prepare: func(m meshDir) { m.write("big.yaml", strings.Repeat("#", maxFile+1)) }, wants: "must be at most"},
		"link to nowhere":             {prepare: func(m meshDir) { m.link("/nowhere", "l.yaml") }, wants: "l.yaml"},
		"anchor that signs no leaves": {prepare: func(m meshDir) { m.open(); m.write(".sealmesh/issuer.crt", "hello") }, wants: "no certificate in PEM"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMeshDir(t)
			if test.prepare != nil {
				test.prepare(m)
			}
			cfg := m.config()
			cfg.TrustDomain = test.domain
			_, err := Open(m.path, cfg)
			if err == nil || !strings.Contains(err.Error(), test.wants) {
				t.Errorf("got %v, want an error that says %q", err, test.wants)
			}
		})
	}
}

func TestDirectoryBehindALinkAndHiddenEntries(t *testing.T) {
	m := newMeshDir(t)
	m.write(".git/x.yaml", "kind: Nonsense")
	m.write(".hidden.yaml", "kind: Nonsense")
	m.write("web.yaml~", "kind: Nonsense")
	m.write("sub/web.yml", workloadYAML("web", "10.0.0.1"))
	link := filepath.Join(t.TempDir(), "mesh")
	if err := os.Symlink(m.path, link); err != nil {
		t.Fatal(err)
	}
	d, err := Open(link, m.config())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.State().Workloads); n != 1 {
		t.Errorf("%d workloads, want the one in sub/", n)
	}
}

func (m meshDir) chmod(name string, mode fs.FileMode) {
	if err := os.Chmod(filepath.Join(m.path, name), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m meshDir) link(to, name string) {
	if err := os.Symlink(to, filepath.Join(m.path, name)); err != nil {
		m.t.Fatal(err)
	}
}

// putIssuer writes an issuer as a tool of somebody else's would: the certificate
// first.
func (m meshDir) putIssuer(issuer ca.Authority) {
	m.t.Helper()
	der, err := x509.MarshalECPrivateKey(issuer.Key.(*ecdsa.PrivateKey))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(".sealmesh/issuer.crt", string(certPEM(issuer.Cert)))
	m.write(".sealmesh/issuer.key", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
}

// putBundle writes the trust bundle.
func (m meshDir) putBundle(anchors ...*x509.Certificate) {
	m.t.Helper()
	text := "apiVersion: sealmesh.io/v1alpha1\nkind: TrustBundle\nmetadata: {name: demo.local}\nspec:\n  anchors: |\n"
	for _, a := range anchors {
		for line := range strings.Lines(string(certPEM(a))) {
			text += "    " + line
		}
	}
	m.write("trustbundle-demo.local.yaml", text)
}

func newAnchor(t testing.TB, m meshDir) ca.Authority {
	t.Helper()
	td, err := id.ParseTrustDomain("demo.local")
	if err != nil {
		t.Fatal(err)
	}
	anchor, err := ca.NewAnchor(td, m.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	return anchor
}

func newIssuer(t testing.TB, m meshDir, anchor ca.Authority) ca.Authority {
	t.Helper()
	td, err := id.ParseTrustDomain("demo.local")
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := ca.NewIssuer(td, anchor, m.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func otherKey(t testing.TB) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func anchorOf(t testing.TB, s *platform.State) *x509.Certificate {
	t.Helper()
	bundle, err := s.Bundle(s.TrustDomain())
	if err != nil {
		t.Fatal(err)
	}
	return bundle.Anchors()[0]
}
