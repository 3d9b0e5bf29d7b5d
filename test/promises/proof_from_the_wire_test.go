package promises

// The verifier is run as a user runs it, on a mesh that runs, and must tell sealed
// from plaintext from not enough seen; each time the protection or the capture is
// taken away, and it must say so.
//
//	sender ── n1 ══ underlay ══ n2 ── receiver
//	   └ verify --workload      └ verify --node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sealmesh/sealmesh/test/lab"
)

// judgement is what `sealmesh verify -o json` prints, as far as it matters here.
type judgement struct {
	Result   string
	Doubts   []string
	Coverage struct{ Packets, Dropped, Flows int }
	Flows    []struct {
		Src, Dst, Proto, Verdict, Seal, Reason string
		TLS                                    *struct{ Version, SNI string }
		Attested                               *struct{ Client, Server, By string }
		Evidence                               *struct{ Text string }
		Notes                                  []string
	}
}

// verifier is a `sealmesh verify` that runs.
type verifier struct {
	cmd    *exec.Cmd
	stdout bytes.Buffer
	stderr *lines
}

// verify begins to judge, and returns once packets are being captured.
func (m *mesh) verify(tb testing.TB, args ...string) *verifier {
	tb.Helper()
	v := &verifier{}
	v.cmd = exec.CommandContext(context.WithoutCancel(tb.Context()), filepath.Join(bin, "sealmesh"), append([]string{"verify", "-o", "json", "-f", m.dir}, args...)...)
	v.cmd.Stdout = &v.stdout
	v.stderr = follow(tb, v.cmd)
	tb.Cleanup(func() {
		if v.cmd.ProcessState == nil {
			_ = v.cmd.Process.Kill()
			_ = v.cmd.Wait()
		}
	})
	v.stderr.await(tb, 0, "capturing", func(line string) bool { return strings.HasPrefix(line, "capturing ") })
	return v
}

// follow starts a command whose standard error is read line by line.
func follow(tb testing.TB, cmd *exec.Cmd) *lines {
	tb.Helper()
	said := newLines()
	r, w := io.Pipe()
	cmd.Stderr = w
	must(tb, cmd.Start())
	tb.Cleanup(func() { w.Close() })
	go said.follow(r)
	return said
}

// stop is Ctrl-C.
func (v *verifier) stop(tb testing.TB) (judgement, int) {
	tb.Helper()
	must(tb, v.cmd.Process.Signal(os.Interrupt))
	return v.wait(tb)
}

// wait is the verdict and the exit code.
func (v *verifier) wait(tb testing.TB) (judgement, int) {
	tb.Helper()
	code := 0
	if err := v.cmd.Wait(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			tb.Fatal(err)
		}
		code = exit.ExitCode()
	}
	var j judgement
	if err := json.Unmarshal(v.stdout.Bytes(), &j); err != nil {
		said, _, _ := v.stderr.since(0)
		tb.Fatalf("exit code %d, %v: %s\n%s", code, err, v.stdout.String(), strings.Join(said, "\n"))
	}
	return j, code
}

// to is the flows to a port.
func (j judgement) to(port int) judgement {
	out := j
	out.Flows = nil
	for _, f := range j.Flows {
		if strings.HasSuffix(f.Dst, ":"+strconv.Itoa(port)) {
			out.Flows = append(out.Flows, f)
		}
	}
	return out
}

// say sends a line from the sender to a port of the receiver, which reads it to
// its end.
func (m *mesh) say(tb testing.TB, port int, text string) {
	tb.Helper()
	address := net.JoinHostPort(m.Receiver.Addr4.String(), strconv.Itoa(port))
	ln, err := m.Receiver.Listen("tcp", address)
	must(tb, err)
	defer ln.Close()
	heard := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.Copy(io.Discard, c)
		}
		heard <- err
	}()
	c, err := m.Sender.Dial(tb.Context(), "tcp", address)
	must(tb, err)
	_, err = io.WriteString(c, text)
	must(tb, err)
	must(tb, c.Close())
	must(tb, <-heard)
}

func TestSealedIsSeenAndAttested(t *testing.T) {
	m := startMesh(t)
	for _, where := range [][]string{
		{"--workload", "demo/sender"}, {"--workload", "demo/receiver"}, {"--node", "n1"}, {"--node", "n2"},
		{"--netns", m.Receiver.Name}, {"--netns", m.Receiver.Path()},
	} {
		t.Run(strings.Join(where, " "), func(t *testing.T) {
			if where[0] == "--netns" && !strings.HasPrefix(where[1], "/") {
				where[1] = m.Receiver.Host.Name
			}
			v := m.verify(t, where...)
			m.say(t, 2929, "sealed, and nobody reads it\n")
			j, code := v.stop(t)
			if j.Result != "sealed" || code != 0 {
				t.Errorf("%s, exit code %d, doubts %q: %+v", j.Result, code, j.Doubts, j.Flows)
			}
			flows := j.to(2929).Flows
			if len(flows) == 0 {
				t.Fatalf("no flow to port 2929 in %+v", j.Flows)
			}
			f := flows[0]
			if f.Verdict != "tls" || f.Seal != "mtls" || f.Attested == nil || f.Attested.By != "both" ||
				!strings.HasSuffix(f.Attested.Client, "/sa/sender") || !strings.HasSuffix(f.Attested.Server, "/sa/receiver") {
				t.Errorf("%+v, attested %+v", f, f.Attested)
			}
		})
	}
}

// TestEncryptionOffIsFound is the broken twin: the same words in a mesh that does
// not run.
func TestEncryptionOffIsFound(t *testing.T) {
	m := newMesh(t)
	v := m.verify(t, "--workload", "demo/sender", "--node", "n2")
	m.say(t, 2929, "everyone can read this\n")
	j, code := v.stop(t)
	if j.Result != "plaintext" || code != 1 {
		t.Fatalf("%s, exit code %d", j.Result, code)
	}
	for _, f := range j.to(2929).Flows {
		if f.Verdict != "plaintext" || f.Evidence == nil || !strings.Contains(f.Evidence.Text, "everyone can read this") {
			t.Errorf("%+v, evidence %+v", f, f.Evidence)
		}
	}
}

func TestNothingSeenProvesNothing(t *testing.T) {
	m := startMesh(t)
	v := m.verify(t, "--workload", "demo/receiver")
	j, code := v.stop(t)
	if j.Result != "inconclusive" || code != 3 {
		t.Errorf("%s, exit code %d, doubts %q", j.Result, code, j.Doubts)
	}
}

// TestACaptureThatIsKilledProvesNothing takes away the interface, and then the
// process itself.
func TestACaptureThatIsKilledProvesNothing(t *testing.T) {
	t.Run("interface", func(t *testing.T) {
		m := startMesh(t)
		v := m.verify(t, "--workload", "demo/receiver")
		m.say(t, 2929, "sealed, but what came after?\n")
		must(t, m.Receiver.Do(func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.LinkSetDown(link)
		}))
		j, code := v.wait(t)
		if j.Result != "inconclusive" || code != 3 {
			t.Errorf("%s, exit code %d, doubts %q", j.Result, code, j.Doubts)
		}
	})
	t.Run("process", func(t *testing.T) {
		m := startMesh(t)
		file := filepath.Join(t.TempDir(), "cut.pcapng")
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "sealmesh"), "capture", "demo/receiver", "-f", m.dir, "-w", file)
		stderr := follow(t, cmd)
		stderr.await(t, 0, "capturing", func(line string) bool { return strings.HasPrefix(line, "capturing ") })
		m.say(t, 2929, "sealed, but what came after?\n")
		must(t, cmd.Process.Signal(syscall.SIGKILL))
		_ = cmd.Wait() // killed
		b, err := os.ReadFile(file)
		must(t, err)
		if len(b) > 3 {
			must(t, os.WriteFile(file, b[:len(b)-3], 0o600)) // as it stands when the disk did not get all
		}
		code := exitCode(t, exec.CommandContext(t.Context(), filepath.Join(bin, "sealmesh"), "verify", "--read", file))
		if code != 3 {
			t.Errorf("exit code %d", code)
		}
	})
}

func exitCode(tb testing.TB, cmd *exec.Cmd) int {
	tb.Helper()
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return 0
}

// experiment runs `sealmesh verify --probe`.
func (m *mesh) experiment(ctx context.Context, tb testing.TB, args ...string) (string, int) {
	tb.Helper()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sealmesh"), append([]string{"verify", "--probe", "-f", m.dir}, args...)...)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	must(tb, err)
	return string(out), 0
}

// TestTheProbe makes the experiment in a mesh that is up, by the protocol that it
// seals and by the one that it does not, and in one that is not up.
func TestTheProbe(t *testing.T) {
	t.Run("sealed", func(t *testing.T) {
		m := startMesh(t)
		if out, code := m.experiment(t.Context(), t, "--proto", "tcp"); code != 0 || !strings.Contains(out, "seen by none of 4") {
			t.Errorf("exit code %d\n%s", code, out)
		}
		out, code := m.experiment(t.Context(), t)
		if code != 1 || !strings.Contains(out, "only UDP was in clear") {
			t.Errorf("exit code %d\n%s", code, out)
		}
		t.Log(out)
	})
	t.Run("encryption off", func(t *testing.T) {
		m := newMesh(t)
		if out, code := m.experiment(t.Context(), t, "--proto", "tcp"); code != 1 || !strings.Contains(out, "in clear at") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	})
	t.Run("a wire without the workloads", func(t *testing.T) {
		m := startMesh(t)
		// A third node watches: it sees neither the markers nor the control.
		elsewhere := lab.T(t, lab.Config{Nodes: 1})
		m.objects.addNode(elsewhere.Nodes[0])
		m.objects.nodes[len(m.objects.nodes)-1].Metadata.Name = "elsewhere"
		m.write(t)
		if out, code := m.experiment(t.Context(), t, "--proto", "tcp", "--node", "elsewhere"); code != 3 || !strings.Contains(out, "did not see the control") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	})
}
