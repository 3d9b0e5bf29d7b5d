package promises

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sealmesh/sealmesh/internal/keylog"
	"github.com/sealmesh/sealmesh/test/lab"
)

// keySockets are where the proxies of a mesh are asked for session secrets, by
// workload.
func (m *mesh) keySockets(tb testing.TB) map[string]string {
	tb.Helper()
	text, err := m.sealmesh(tb.Context(), "status", "-o", "json")
	must(tb, err)
	var list []struct{ Workload, Keys string }
	must(tb, json.Unmarshal([]byte(text), &list))
	sockets := map[string]string{}
	for _, s := range list {
		sockets[s.Workload] = s.Keys
	}
	return sockets
}

// askKeys asks the proxy of a workload for all secrets it has.
func (m *mesh) askKeys(tb testing.TB, w *lab.Workload) (text string, count int, err error) {
	tb.Helper()
	log, count, err := keylog.Ask(tb.Context(), m.keySockets(tb)[namespace+"/"+w.Name], nil)
	return string(log), count, err
}

// allowKeys is change for debug.keyLog.
func (m *mesh) allowKeys(tb testing.TB, word string) {
	tb.Helper()
	m.change(tb, func(o *objects) { o.mesh.Spec.Debug.KeyLog = word })
}

// refusedWith reports whether an error is a refusal with a code.
func refusedWith(err error, code keylog.Code) bool {
	r, ok := errors.AsType[*keylog.Refusal](err)
	return ok && r.Code == code
}

// capturing is a `sealmesh capture` that runs.
type capturing struct {
	cmd  *exec.Cmd
	said *lines
	file string
}

func (m *mesh) startCapture(tb testing.TB, args ...string) *capturing {
	tb.Helper()
	c := &capturing{said: newLines(), file: filepath.Join(tb.TempDir(), "lanes.pcapng")}
	c.cmd = exec.CommandContext(tb.Context(), filepath.Join(bin, "sealmesh"), append([]string{"capture", "-f", m.dir, "-w", c.file}, args...)...)
	said, err := c.cmd.StderrPipe()
	must(tb, err)
	must(tb, c.cmd.Start())
	go c.said.follow(said)
	c.said.await(tb, 0, "capturing", func(line string) bool { return strings.HasPrefix(line, "capturing ") })
	return c
}

// stop ends it as Ctrl-C does.
func (c *capturing) stop(tb testing.TB) *wire {
	tb.Helper()
	must(tb, c.cmd.Process.Signal(syscall.SIGINT))
	if err := c.cmd.Wait(); err != nil {
		said, _, _ := c.said.since(0)
		tb.Fatalf("sealmesh capture: %v: %s", err, strings.Join(said, "\n"))
	}
	return &wire{file: c.file}
}

// inside is what tshark reads inside TLS, with no other keys than those in the file.
func (w *wire) inside(tb testing.TB) string {
	tb.Helper()
	out, err := exec.CommandContext(context.Background(), "tshark", "-r", w.file, "-d", "tcp.port==2929,tls", "-q", "-z", "follow,tls,ascii,0").Output()
	must(tb, err)
	return string(out)
}

// Session secrets are denied unless the Mesh allows them: a capture with --decrypt is
// refused and says why, and a proxy has nothing to tell.
//
//	sender ── lane ─┬─▶ receiver
//	                └ sealmesh capture demo/receiver --decrypt
//
// Broken twin: with debug.keyLog Allowed the same capture shows the plaintext, to
// tshark and to `sealmesh follow`, of the lane that was made from then on.
func TestKeyLogIsDeniedByDefault(t *testing.T) {
	needs(t, "tshark")
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	before := converse(t, m.Sender, m.Receiver)

	from := m.mark()
	_, err := m.sealmesh(t.Context(), "capture", namespace+"/receiver", "--decrypt", "--for", "1s", "-w", filepath.Join(t.TempDir(), "x.pcapng"))
	if err == nil || !strings.Contains(err.Error(), "exit status 2") || !strings.Contains(err.Error(), "debug.keyLog") {
		t.Errorf("capture --decrypt, denied: %v", err)
	}
	m.waitLog(t, from, "the refusal", has("msg", "key log refused", "code", "denied", "uid", strconv.Itoa(os.Getuid())))
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		if text, count, err := m.askKeys(t, w); !refusedWith(err, keylog.CodeDenied) || count != 0 || text != "" {
			t.Errorf("%s tells %d sessions, %v", w.Name, count, err)
		}
	}

	m.allowKeys(t, "Allowed")
	if _, count, err := m.askKeys(t, m.Receiver); count != 0 || err != nil {
		t.Errorf("%d lanes from before it was allowed are told, %v", count, err)
	}
	from = m.mark()
	c := m.startCapture(t, namespace+"/receiver", "--decrypt")
	const secret = "attack-at-dawn-7391"
	during := dial(t, m.Sender, at(m.Receiver, appPort)) // the other lane is busy
	say(t, during, secret)
	heard := make([]byte, len(secret))
	_, err = io.ReadFull(during, heard)
	must(t, err)
	must(t, during.CloseWrite())
	before.goesOn(t, "beside it")
	w := c.stop(t)
	use := m.waitLog(t, from, "the use", func(e entry) bool { return e.text("msg") == "key log read" && e.text("count") == "1" })
	if use.text("uid") != strconv.Itoa(os.Getuid()) || use.text("pid") != strconv.Itoa(c.cmd.Process.Pid) {
		t.Errorf("the use is logged as %v", use)
	}
	if w.shows(t, secret) {
		t.Error("the secret is on the wire in clear")
	}
	if text := w.inside(t); strings.Count(text, secret) != 2 {
		t.Errorf("tshark reads:\n%s", text)
	}
	if rows := w.tshark(t, `frame.comment contains "decryption secrets of 1 sessions embedded for uid"`, "frame.number"); len(rows) != 1 {
		t.Errorf("%d packets tell of the use", len(rows))
	}
	raw, err := os.ReadFile(w.file)
	must(t, err)
	if n := bytes.Count(raw, []byte("# decryption secrets of 1 sessions embedded for uid")); n != 1 || bytes.Count(raw, []byte("CLIENT_TRAFFIC_SECRET_0 ")) != 1 {
		t.Errorf("the secrets are noted %d times in the file, and there %d times", n, bytes.Count(raw, []byte("CLIENT_TRAFFIC_SECRET_0 ")))
	}
	m.wantFollowed(t, w, secret)
	judged, err := exec.CommandContext(t.Context(), filepath.Join(bin, "sealmesh"), "verify", "--read", w.file, "-o", "json").Output()
	report := string(judged)
	for _, want := range []string{`"decrypted": {`, `"client": "spiffe://promises.test/ns/demo/sa/sender"`, `"server": "spiffe://promises.test/ns/demo/sa/receiver"`} {
		if !strings.Contains(report, want) {
			t.Errorf("verify does not say %s: %v\n%s", want, err, report)
		}
	}
}

// wantFollowed fails unless `sealmesh follow` shows a secret that went there and back
// between sender and receiver, and who they are.
func (m *mesh) wantFollowed(tb testing.TB, w *wire, secret string) {
	tb.Helper()
	const found = "decrypted with its session secrets"
	for number := range 4 {
		out, err := exec.CommandContext(tb.Context(), filepath.Join(bin, "sealmesh"), "follow", strconv.Itoa(number+1), "--read", w.file).Output()
		if err != nil || !bytes.Contains(out, []byte(found)) {
			continue
		}
		for _, want := range []string{
			"client spiffe://" + trustDomain + "/ns/demo/sa/sender, proven",
			"server spiffe://" + trustDomain + "/ns/demo/sa/receiver, proven",
			"opens to " + at(m.Receiver, appPort).String(),
			"  " + secret + "\n←",
		} {
			if !bytes.Contains(out, []byte(want)) {
				tb.Errorf("sealmesh follow does not say %q:\n%s", want, out)
			}
		}
		return
	}
	tb.Errorf("sealmesh follow decrypts no flow")
}

// Denied again, all is forgotten at once, and stays so; the connections go on.
func TestDenialForgetsAllSecrets(t *testing.T) {
	m := newMesh(t)
	m.objects.mesh.Spec.Debug.KeyLog = "Allowed"
	m.write(t)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	c := converse(t, m.Sender, m.Receiver)
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		if text, count, err := m.askKeys(t, w); err != nil || count != 1 || !strings.Contains(text, "CLIENT_TRAFFIC_SECRET_0 ") {
			t.Fatalf("%s tells %d sessions, %v", w.Name, count, err)
		}
	}
	m.allowKeys(t, "Denied")
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		if _, _, err := m.askKeys(t, w); !refusedWith(err, keylog.CodeDenied) {
			t.Errorf("%s, denied: %v", w.Name, err)
		}
	}
	m.allowKeys(t, "Allowed")
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		if text, count, err := m.askKeys(t, w); err != nil || count != 0 || text != "" {
			t.Errorf("%s remembers %d sessions, %v", w.Name, count, err)
		}
	}
	c.goesOn(t, "all the while")
}

// Only root and the user who runs the mesh are told secrets. Another user is
// refused, even the proxies' own, and each use is logged with who it was. Nothing
// else a proxy says holds a secret.
func TestSecretsAreForWhoRunsTheMesh(t *testing.T) {
	needs(t, "nc.openbsd")
	m := newMesh(t)
	m.objects.mesh.Spec.Debug.KeyLog = "Allowed"
	m.write(t)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	converse(t, m.Sender, m.Receiver)
	socket := m.keySockets(t)[namespace+"/sender"]
	for _, uid := range []uint32{24999, 24225} {
		from := m.mark()
		cmd := m.Sender.As(uid).Command(t.Context(), "nc.openbsd", "-U", "-d", socket) // refused before it asks
		out, err := cmd.Output()
		must(t, err)
		if !strings.Contains(string(out), `"code":"caller"`) || strings.Contains(string(out), "SECRET") {
			t.Errorf("user %d is told %s", uid, out)
		}
		m.waitLog(t, from, "the refusal", has("msg", "key log refused", "code", "caller", "uid", strconv.Itoa(int(uid))))
	}
	text, count, err := m.askKeys(t, m.Sender) // who runs the mesh
	if err != nil || count != 1 {
		t.Fatalf("root is told %d sessions, %v", count, err)
	}
	_, metrics := ask(t, m.Sender, "/metrics")
	_, lanes := ask(t, m.Sender, "/connections")
	log, _, _ := m.stderr.since(0)
	everything := string(metrics) + string(lanes) + strings.Join(log, "\n")
	for line := range strings.Lines(text) {
		if secret := strings.Fields(line)[2]; strings.Contains(everything, secret) {
			t.Errorf("%s is told elsewhere, too", strings.Fields(line)[0])
		}
	}
}
