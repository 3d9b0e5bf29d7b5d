package control_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

var domain = must(id.ParseTrustDomain("demo.local"))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func identity(account string) id.Identity { return must(id.New(domain, "shop", account)) }

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// logs keeps what was logged, to be looked at while it still grows.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// awaitLog waits for a line that holds all the words.
func (l *logs) await(t *testing.T, words ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a line with %q in the log", words), func() bool { return l.count(words...) > 0 })
}

func (l *logs) count(words ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		holds := true
		for _, w := range words {
			holds = holds && strings.Contains(line, w)
		}
		if holds {
			n++
		}
	}
	return n
}

// world is a mesh in a directory, the control plane on it, and where it listens.
type world struct {
	t      *testing.T
	dir    string
	socket string
	logs   *logs
	cfg    control.Config // for the next start
	stop   func()         // of the control plane that runs
}

const meshYAML = `apiVersion: sealmesh.io/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: demo.local, mtls: {inbound: Strict, outbound: Strict}}
`

// workloadYAML is a workload of namespace shop.
func workloadYAML(name, addr, more string) string {
	return fmt.Sprintf(`apiVersion: sealmesh.io/v1alpha1
kind: Workload
metadata: {name: %s, namespace: shop}
spec: {addresses: [%s]%s}
`, name, addr, more)
}

// newWorld makes a mesh of the workloads curl, web and legacy (not sealed), and
// starts its control plane.
func newWorld(t *testing.T) *world {
	t.Helper()
	path, err := os.MkdirTemp("", "sm") //nolint:usetesting // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	w := &world{t: t, dir: path, socket: filepath.Join(path, "control.sock"), logs: &logs{}}
	w.write("mesh.yaml", meshYAML)
	w.write("curl.yaml", workloadYAML("curl", "10.1.0.2", ""))
	w.write("web.yaml", workloadYAML("web", "10.1.1.2", ""))
	w.write("legacy.yaml", workloadYAML("legacy", "10.1.1.9", ", seal: Disabled"))
	w.start()
	t.Cleanup(func() { w.stop() })
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("control plane logged:\n%s", w.logs)
		}
	})
	return w
}

func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

// start runs a control plane on the directory until stop.
func (w *world) start() {
	w.t.Helper()
	objects, err := dir.Open(w.dir, dir.Config{Log: w.logs.logger(), Resync: 50 * time.Millisecond, Settle: 5 * time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := w.cfg
	cfg.Platform, cfg.Socket, cfg.Log = objects, w.socket, w.logs.logger()
	w.stop = run(w.t, cfg)
}

// run runs a control plane until it is stopped, and waits until it is ready.
func run(t *testing.T, cfg control.Config) (stop func()) {
	t.Helper()
	server, err := control.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	select {
	case <-server.Ready():
	case err := <-ended:
		cancel()
		t.Fatalf("control plane ended: %v", err)
	}
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("control plane: %v", err)
		}
	})
}

// anchors are the trust anchors of the mesh as its directory has them.
func (w *world) anchors() *snapshot.Bundle {
	w.t.Helper()
	var b mesh.TrustBundle
	text, err := os.ReadFile(filepath.Join(w.dir, "trustbundle-demo.local.yaml"))
	if err == nil {
		err = yaml.Unmarshal(text, &b)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return must(snapshot.ParseBundle(domain, []byte(b.Spec.Anchors)))
}

// setAnchors writes the trust bundle.
func (w *world) setAnchors(certs ...*x509.Certificate) {
	w.t.Helper()
	b := mesh.TrustBundle{
		Header: mesh.Header{APIVersion: mesh.GroupVersion, Kind: mesh.KindTrustBundle, Metadata: mesh.Metadata{Name: domain.Name()}},
		Spec:   mesh.TrustBundleSpec{Anchors: string(must(snapshot.NewBundle(domain, certs)).PEM())},
	}
	w.write("trustbundle-demo.local.yaml", string(must(yaml.Marshal(b))))
}

// setIssuer puts another issuer in force.
func (w *world) setIssuer(issuer ca.Authority) {
	w.t.Helper()
	key := must(x509.MarshalPKCS8PrivateKey(issuer.Key))
	w.write(".sealmesh/issuer.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	w.write(".sealmesh/issuer.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Cert.Raw})))
}

func (w *world) admin() controlv1connect.AdminServiceClient {
	w.t.Helper()
	service, hangUp := feed.Admin(w.socket, w.anchors())
	w.t.Cleanup(hangUp)
	return service
}

// token makes a join token for a workload of namespace shop.
func (w *world) token(workload string) string {
	w.t.Helper()
	resp, err := w.admin().CreateJoinToken(context.Background(), &controlv1.CreateJoinTokenRequest{Namespace: "shop", Workload: workload})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.Token
}

// proxy is a feed with its store, as a proxy has them.
type proxy struct {
	t     *testing.T
	store *snapshot.Store
	feed  *feed.Feed
	logs  *logs
	stop  func()
}

// proxy starts a feed with a token for a workload of namespace shop; change may
// alter its configuration.
func (w *world) proxy(workload string, change ...func(*feed.Config)) *proxy {
	w.t.Helper()
	cfg := feed.Config{
		Control:     "unix://" + w.socket,
		TrustDomain: domain,
		Anchors:     w.anchors(),
		Token:       once(w.token(workload)),
		Version:     "test",
	}
	for _, c := range change {
		c(&cfg)
	}
	return startProxy(w.t, cfg)
}

func startProxy(t *testing.T, cfg feed.Config) *proxy {
	t.Helper()
	p := &proxy{t: t, store: snapshot.NewStore(), logs: &logs{}}
	cfg.Store, cfg.Log = p.store, p.logs.logger()
	f, err := feed.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.feed = f
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = f.Run(ctx) }()
	p.stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(p.stop)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("proxy logged:\n%s", p.logs)
		}
	})
	return p
}

// once is a source of one token, for one use.
func once(token string) func() (string, error) {
	var mu sync.Mutex
	return func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		now := token
		token = ""
		return now, nil
	}
}

// ready waits for the first snapshot.
func (p *proxy) ready() *snapshot.Snapshot {
	p.t.Helper()
	select {
	case <-p.feed.Ready():
	case <-time.After(patience):
		p.t.Fatal("proxy is not ready")
	}
	return p.store.Load()
}

// await waits until the store holds a snapshot that is as wanted.
func (p *proxy) await(what string, holds func(*snapshot.Snapshot) bool) *snapshot.Snapshot {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		changed := p.store.Changed()
		if s := p.store.Load(); holds(s) {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			p.t.Fatalf("not within %s: a snapshot with %s", patience, what)
		}
	}
}

// memory is a platform that keeps everything in memory: for tests that need a
// clock of their own, or states no directory would pass.
type memory struct {
	mu      sync.Mutex
	state   *platform.State
	changed chan struct{}
	tokens  map[[32]byte]platform.Token
	anchor  ca.Authority
	release chan struct{} // TakeToken waits for it, if not nil
}

var _ platform.Platform = (*memory)(nil)

// newMemory makes a mesh of one workload, web, as of now.
func newMemory(t *testing.T, now time.Time, lifetime time.Duration) *memory {
	t.Helper()
	m := &memory{changed: make(chan struct{}), tokens: map[[32]byte]platform.Token{}}
	m.anchor = must(ca.NewAnchor(domain, now))
	issuer := must(ca.NewIssuer(domain, m.anchor, now))
	web := mesh.Workload{Spec: mesh.WorkloadSpec{ServiceAccount: "web", Addresses: []string{"10.1.1.2"}, Seal: platform.SealEnabled}}
	web.Metadata = mesh.Metadata{Name: "web", Namespace: "shop"}
	m.state = &platform.State{
		Mesh: mesh.Mesh{Spec: mesh.MeshSpec{
			TrustDomain: domain.Name(), LeafLifetime: lifetime.String(),
			MTLS: mesh.MTLSSpec{Inbound: "Strict", Outbound: "Strict"},
		}},
		Workloads: []mesh.Workload{web},
		Issuer:    platform.Issuer{Chain: []*x509.Certificate{issuer.Cert}, Key: issuer.Key},
	}
	m.state.Bundles = []mesh.TrustBundle{{Spec: mesh.TrustBundleSpec{Anchors: string(m.bundle().PEM())}}}
	m.state.Bundles[0].Metadata.Name = domain.Name()
	return m
}

func (m *memory) bundle() *snapshot.Bundle {
	return must(snapshot.NewBundle(domain, []*x509.Certificate{m.anchor.Cert}))
}

// set puts a changed copy of the state in force.
func (m *memory) set(change func(*platform.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := *m.state
	change(&next)
	m.state = &next
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *memory) Watch(ctx context.Context, apply func(*platform.State)) error {
	for ctx.Err() == nil {
		m.mu.Lock()
		state, changed := m.state, m.changed
		m.mu.Unlock()
		apply(state)
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
	return nil
}

func (m *memory) AddToken(_ context.Context, t platform.Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens[t.Hash] = t
	return nil
}

// hold makes TakeToken wait until release is closed.
func (m *memory) hold(release chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.release = release
}

func (m *memory) TakeToken(_ context.Context, hash [32]byte) (platform.Token, error) {
	m.mu.Lock()
	release := m.release
	m.mu.Unlock()
	if release != nil {
		<-release
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.tokens[hash]
	if !ok {
		return platform.Token{}, platform.ErrNoToken
	}
	delete(m.tokens, hash)
	return t, nil
}

// token makes a join token for web.
func (m *memory) token(now time.Time) string {
	secret, t := attest.NewToken("shop", "web", time.Hour, now)
	_ = m.AddToken(context.Background(), t)
	return secret
}

// pipes is a network without sockets: Dial on one side, Accept on the other.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, fmt.Errorf("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }
