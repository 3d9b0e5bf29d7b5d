package promises

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/enrol"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/internal/ports"
)

// apart is a mesh whose control plane and proxies are programs of their own, so
// that one can be away while the others are there.
type apart struct {
	*mesh
	runtime string   // where they meet
	output  *os.File // what all of them say, read into mesh.stderr
	control *exec.Cmd
}

// startApart starts the control plane, then a proxy beside each workload.
func startApart(tb testing.TB, m *mesh) *apart {
	tb.Helper()
	a := &apart{mesh: m}
	m.stdout, m.stderr = newLines(), newLines()
	read, write, err := os.Pipe()
	must(tb, err)
	a.output = write
	go m.stderr.follow(read)
	tb.Cleanup(func() { write.Close() })
	a.runtime, err = os.MkdirTemp("", "sealmesh-apart-") // short, and open to the proxies' user
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(a.runtime) })
	must(tb, os.Chmod(a.runtime, 0o711))
	a.startControl(tb)
	must(tb, os.WriteFile(filepath.Join(a.runtime, "anchors.pem"), []byte(m.anchors(tb)), 0o644))
	a.enrol(tb)
	return a
}

func (a *apart) socket() string { return filepath.Join(a.runtime, "control.sock") }

// startControl runs sealmesh-control until it is killed, and waits until it serves.
func (a *apart) startControl(tb testing.TB) {
	tb.Helper()
	from := a.mark()
	a.control = exec.CommandContext(context.Background(), filepath.Join(bin, "sealmesh-control"),
		"--dir", a.dir, "--socket", a.socket(), "--socket-group", strconv.Itoa(ports.ProxyUID), "--log-format", "json")
	a.control.Stderr = a.output
	must(tb, a.control.Start())
	tb.Cleanup(func() { a.killControl() })
	a.waitLog(tb, from, "control plane", has("msg", "own certificate made"))
	eventually(tb, "its socket", func() bool {
		conn, err := net.Dial("unix", a.socket())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (a *apart) killControl() {
	_ = a.control.Process.Kill()
	_ = a.control.Wait()
}

// enrol seals the workloads as `sealmesh up` does, and waits until they are.
func (a *apart) enrol(tb testing.TB) {
	tb.Helper()
	objects, err := dir.Open(a.dir, dir.Config{Log: slog.New(slog.DiscardHandler)})
	must(tb, err)
	enroller, err := enrol.New(enrol.Config{
		Proxy: filepath.Join(bin, "sealmesh-proxy"),
		Args: []string{
			"--control", "unix://" + a.socket(), "--trust-domain", trustDomain,
			"--anchors", filepath.Join(a.runtime, "anchors.pem"), "--drain", "1s", "--log-format", "json",
		},
		Tokens: func(ctx context.Context, namespace, name string) (string, error) {
			secret, kept := attest.NewToken(namespace, name, time.Minute, time.Now())
			return secret, objects.AddToken(ctx, kept)
		},
		Drain: 3 * time.Second, Output: a.output, Log: slog.New(slog.DiscardHandler),
	})
	must(tb, err)
	var local []enrol.Workload
	for _, object := range a.objects.workloads {
		if w, ours := enrol.FromObject(object); ours {
			local = append(local, w)
		}
	}
	must(tb, enroller.Apply(local))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- enroller.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	eventually(tb, "all workloads sealed", func() bool {
		status := enroller.Status()
		return len(status) == len(local) && !slices.ContainsFunc(status, func(s enrol.Status) bool { return s.Phase != "redirect" })
	})
}

// While the control plane is away everything goes on with what was known: old
// connections, new ones, and new lanes. When it is back, so are changes of the
// mesh and new certificates.
//
//	control plane ──────╳ killed              ✓ started again
//	sender ══▶ receiver ═══════════════════════════════════════
//	edits, a new issuer      (nobody hears)   taken
//
// Broken twin: an edit that is not taken while nobody is there to take it.
func TestControlPlaneDown(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 1, "outsider", stranger)
	a := startApart(t, m)
	serve(t, m.Receiver, appPort, echo)
	l := startLoad(t, m.Sender, at(m.Receiver, appPort), 2)
	before := converse(t, m.Sender, m.Receiver)
	l.more(t, 100)

	from := m.mark()
	a.killControl()
	m.waitLog(t, from, "its loss", has("msg", "control plane lost, the last snapshot serves on"))
	l.more(t, 500)
	before.goesOn(t, "while the control plane is away")
	handshakes := metrics(t, m.Sender)[`sealmesh_handshakes_total{direction="outbound",result="ok"}`]
	for range 20 { // at a time, so that each needs a lane
		converse(t, m.Sender, m.Receiver)
	}
	if now := metrics(t, m.Sender)[`sealmesh_handshakes_total{direction="outbound",result="ok"}`]; now <= handshakes {
		t.Errorf("%v handshakes, %v before: no lane was made", now, handshakes)
	}

	issuer := m.replaceIssuer(t)
	m.objects.mesh.Spec.MTLS.Inbound = permissive
	m.write(t)
	if err := tryEcho(t, outsider, m.Receiver, appPort); err == nil {
		t.Error("an edit is in force, yet the control plane is away")
	}

	from = m.mark()
	a.startControl(t)
	for _, w := range []string{"demo/sender", "demo/receiver"} {
		m.waitLog(t, from, "renewal of "+w, has("msg", "certificate issued", "proof", "certificate",
			"workload", w, "issuer", issuer.Subject.String()))
	}
	eventually(t, "the edit in force", func() bool { return tryEcho(t, outsider, m.Receiver, appPort) == nil })
	before.goesOn(t, "when the control plane is back")
	l.more(t, 100)
	l.wantNoneFailed(t, 700)
}
