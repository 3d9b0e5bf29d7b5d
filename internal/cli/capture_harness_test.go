package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/sealmesh/sealmesh/test/lab"
)

// shop is a lab of one node with two workloads, described by the directory mesh.
//
//	n1:  shop/web 10.77.1.11 ── cni0 ── shop/cart 10.77.1.12
type shop struct {
	*lab.Lab
	node      *lab.Node
	web, cart *lab.Workload
	mesh      string // directory
	cert, key string // of a TLS server
}

func newShop(t *testing.T) *shop {
	t.Helper()
	l := lab.T(t, lab.Config{Nodes: 1})
	s := &shop{Lab: l, node: l.Nodes[0], web: l.Workload(t, l.Nodes[0], "web"), cart: l.Workload(t, l.Nodes[0], "cart"), mesh: t.TempDir()}
	objects := fmt.Sprintf(`
apiVersion: sealmesh.io/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: demo.local}
---
apiVersion: sealmesh.io/v1alpha1
kind: Node
metadata: {name: n1}
spec: {addresses: [%s], netns: %s}
---
apiVersion: sealmesh.io/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {node: n1, addresses: [%s, "%s"], netns: %s}
---
apiVersion: sealmesh.io/v1alpha1
kind: Workload
metadata: {name: cart, namespace: shop}
spec: {node: n1, addresses: [%s], netns: %s}
---
apiVersion: sealmesh.io/v1alpha1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: web}, addresses: [10.99.0.1], ports: [{port: 80}]}
`, s.node.Addr4, s.node.Path(), s.web.Addr4, s.web.Addr6, s.web.Path(), s.cart.Addr4, s.cart.Path())
	if err := os.WriteFile(filepath.Join(s.mesh, "shop.yaml"), []byte(objects), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// need skips where a program is absent.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not run: %v", err)
		}
	}
}

// running is a command line that runs.
type runningCommand struct {
	t    *testing.T
	end  context.CancelFunc // Ctrl-C
	code chan int
	out  bytes.Buffer // read it after the end only

	mu     sync.Mutex
	stderr strings.Builder
	said   chan struct{} // closed and made anew when stderr has grown
}

// start runs "sealmesh args" with standard output going to out.
func start(t *testing.T, out io.Writer, args ...string) *runningCommand {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	r := &runningCommand{t: t, end: end, code: make(chan int, 1), said: make(chan struct{})}
	if out == nil {
		out = &r.out
	}
	go func() { r.code <- Run(ctx, "test", args, out, r) }()
	t.Cleanup(end)
	return r
}

// Write takes standard error.
func (r *runningCommand) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.said)
	r.said = make(chan struct{})
	return r.stderr.Write(b)
}

func (r *runningCommand) told() (string, chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stderr.String(), r.said
}

// await waits until standard error has a text.
func (r *runningCommand) await(text string) *runningCommand {
	r.t.Helper()
	for {
		said, more := r.told()
		if strings.Contains(said, text) {
			return r
		}
		select {
		case <-more:
		case code := <-r.code:
			said, _ := r.told()
			r.t.Fatalf("ended with %d before it said %q:\n%s", code, text, said)
		case <-r.t.Context().Done():
			r.t.Fatalf("never said %q:\n%s", text, said)
		}
	}
}

// wait returns the exit code and what was said.
func (r *runningCommand) wait() (code int, stderr string) {
	r.t.Helper()
	code = <-r.code
	stderr, _ = r.told()
	return code, stderr
}

// stop ends the command with Ctrl-C, and wants an exit code.
func (r *runningCommand) stop(want int) string {
	r.t.Helper()
	r.end()
	code, stderr := r.wait()
	if code != want {
		r.t.Fatalf("exit code %d, want %d:\n%s", code, want, stderr)
	}
	return stderr
}

// serve starts a program of a host and waits for a line of its output.
func serve(t *testing.T, h *lab.Host, line string, args ...string) {
	t.Helper()
	cmd := h.Command(t.Context(), args[0], args[1:]...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		r.Close()
	})
	w.Close()
	lines := bufio.NewScanner(r)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), line) {
			go io.Copy(io.Discard, r)
			return
		}
	}
	t.Fatalf("%q never said %q but %q", args, line, said)
}

func run(t *testing.T, h *lab.Host, input string, args ...string) {
	t.Helper()
	cmd := h.Command(t.Context(), args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// certificate makes one for web.
func (s *shop) certificate(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	s.cert, s.key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	run(t, s.web.Host, "", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
		"-subj", "/CN=web.shop.demo.local", "-keyout", s.key, "-out", s.cert)
}

// sealed has cart call web over TLS.
func (s *shop) sealed(t *testing.T) {
	t.Helper()
	need(t, "openssl")
	if s.cert == "" {
		s.certificate(t)
	}
	serve(t, s.web.Host, "ACCEPT", "openssl", "s_server", "-accept", "4433", "-cert", s.cert, "-key", s.key, "-naccept", "1", "-rev")
	run(t, s.cart.Host, "hello\n", "openssl", "s_client", "-connect", s.web.Addr4.String()+":4433", "-servername", "web.shop.demo.local")
}

// clear has cart call web in plaintext.
func (s *shop) clear(t *testing.T, words string) {
	t.Helper()
	need(t, "nc")
	serve(t, s.web.Host, "Listening", "nc", "-n", "-v", "-l", "2929")
	run(t, s.cart.Host, words, "nc", "-n", "-N", s.web.Addr4.String(), "2929")
}

// tshark reads fields of packets that a display filter passes.
func tshark(t *testing.T, path, filter string, fields ...string) string {
	t.Helper()
	need(t, "tshark")
	args := []string{"-r", path, "-N", "n", "-Y", filter, "-T", "fields", "-E", "separator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark %s: %v\n%s", path, err, stderr.String())
	}
	return string(out)
}

// packets of a file.
func packets(t *testing.T, path string) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		if _, _, err := r.ReadPacketData(); errors.Is(err, io.EOF) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
