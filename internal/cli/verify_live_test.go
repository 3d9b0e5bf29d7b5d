package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asCommand makes this test's program the sealmesh command, in a process that can
// be stopped.
const asCommand = "SEALMESH_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT)
	code := Run(ctx, "test", os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// judgement is what the tests read of a report.
type judgement struct {
	Result   string   `json:"result"`
	Doubts   []string `json:"doubts"`
	Coverage struct {
		Packets, Dropped, Flows int
	} `json:"coverage"`
	Flows []struct {
		Vantage, Verdict string
	} `json:"flows"`
}

func (r *runningCommand) judgement() judgement {
	r.t.Helper()
	var j judgement
	if err := json.Unmarshal(r.out.Bytes(), &j); err != nil {
		r.t.Fatalf("%v in %s", err, r.out.Bytes())
	}
	return j
}

func TestVerifyLiveSealed(t *testing.T) {
	s := newShop(t)
	r := start(t, nil, "verify", "--workload", "shop/web,shop/cart", "--node", "n1", "-f", s.mesh, "-o", "json").
		await("capturing shop/web/eth0, shop/cart/eth0, n1/eth0\nloopback is left out")
	s.sealed(t)
	r.stop(0)
	j := r.judgement()
	if j.Result != "sealed" || j.Coverage.Flows != 2 || j.Flows[0].Verdict != "tls" || j.Flows[0].Vantage == j.Flows[1].Vantage {
		t.Errorf("%s", r.out.Bytes())
	}
}

func TestVerifyLivePlaintext(t *testing.T) {
	s := newShop(t)
	r := start(t, nil, "verify", "--netns", s.web.Path(), "-o", "json").await("capturing")
	s.sealed(t)
	s.clear(t, "the quick brown fox jumps over the lazy dog\n")
	r.stop(1)
	if j := r.judgement(); j.Result != "plaintext" || j.Coverage.Flows != 2 || j.Flows[0].Vantage != "" {
		t.Errorf("%s", r.out.Bytes())
	}
}

// Nothing was seen: that proves nothing.
func TestVerifyLiveOfNothingIsInconclusive(t *testing.T) {
	s := newShop(t)
	r := start(t, nil, "verify", "--workload", "shop/web", "-f", s.mesh, "--for", "50ms", "-o", "json")
	if code, said := r.wait(); code != 3 {
		t.Errorf("exit code %d:\n%s\n%s", code, said, r.out.Bytes())
	}
}

// The capture dies: what was seen of it is sealed, and what came after is not known.
func TestVerifyLiveThatEndedEarlyIsInconclusive(t *testing.T) {
	s := newShop(t)
	r := start(t, nil, "verify", "--workload", "shop/web", "-f", s.mesh, "-o", "json").await("capturing")
	s.sealed(t)
	run(t, s.web.Host, "", "ip", "link", "del", "eth0")
	code, said := r.wait()
	j := r.judgement()
	if code != 3 || j.Result != "inconclusive" || !strings.Contains(strings.Join(j.Doubts, "\n"), "the interface went away") || j.Flows[0].Verdict != "tls" {
		t.Errorf("exit code %d:\n%s\n%s", code, said, r.out.Bytes())
	}
}

// One of two interfaces dies: the other is captured to its end.
func TestVerifyLiveThatLostOneOfTwoIsInconclusive(t *testing.T) {
	s := newShop(t)
	r := start(t, nil, "verify", "--workload", "shop/web", "--node", "n1", "-f", s.mesh, "-o", "json").await("capturing")
	s.sealed(t)
	run(t, s.node.Host, "", "ip", "link", "set", "eth0", "down")
	r.stop(3)
	if j := r.judgement(); !strings.Contains(strings.Join(j.Doubts, "\n"), "n1/eth0: the interface went away") {
		t.Errorf("%s", r.out.Bytes())
	}
}

// startProcess starts the command as a process of its own.
func startProcess(t *testing.T, args ...string) (cmd *exec.Cmd, out *bytes.Buffer, told *runningCommand) {
	t.Helper()
	out, told = &bytes.Buffer{}, &runningCommand{t: t, code: make(chan int, 1), said: make(chan struct{})}
	cmd = exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdout, cmd.Stderr = out, told
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		told.code <- cmd.ProcessState.ExitCode()
	}()
	return cmd, out, told
}

// The reader is stopped while more comes than its buffer holds: what was dropped is
// counted, in the verdict and in the file, and nothing is called sealed.
func TestDropsAreCountedAndInconclusive(t *testing.T) {
	s := newShop(t)
	pc, err := s.web.ListenPacket("udp", ":4001")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	file := filepath.Join(t.TempDir(), "drops.pcapng")
	judging, report, judged := startProcess(t, "verify", "--workload", "shop/web", "-f", s.mesh, "-o", "json")
	writing, _, wrote := startProcess(t, "capture", "shop/web", "-f", s.mesh, "-w", file)
	judged.await("capturing")
	wrote.await("capturing")
	s.sealed(t)
	for _, cmd := range []*exec.Cmd{judging, writing} {
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.cart.Dial(t.Context(), "udp", netip.AddrPortFrom(s.web.Addr4, 4001).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 300_000 { // empty ones, so that nothing but drops is in doubt; 32 MiB do not hold them
		if _, err := c.Write(nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, cmd := range []*exec.Cmd{judging, writing} {
		for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGCONT} {
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	code, said := judged.wait()
	var j judgement
	if err := json.Unmarshal(report.Bytes(), &j); err != nil || code != 3 || j.Result != "inconclusive" || j.Coverage.Dropped == 0 {
		t.Errorf("exit code %d, %v:\n%s\n%s", code, err, said, report.Bytes())
	}
	if code, said := wrote.wait(); code != 0 || strings.Contains(said, " 0 dropped") {
		t.Errorf("exit code %d:\n%s", code, said)
	}
	// And whoever reads the file knows, too.
	again := start(t, nil, "verify", "--read", file, "-o", "json")
	if code, said := again.wait(); code != 3 || again.judgement().Coverage.Dropped == 0 {
		t.Errorf("exit code %d:\n%s\n%s", code, said, again.out.Bytes())
	}
}

func TestVerifyLiveRefusesWhatMakesNoSense(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"--for", "30s"}, "--for: nothing is to be captured"},
		{[]string{"--loopback", "--read", "x"}, "--loopback: nothing is to be captured"},
		{[]string{"--iface", "lo", "--for", "-1s"}, "--for: must not be negative"},
		{[]string{"--iface", "lo", "--read", "x"}, `--read x: packets are either read or captured`},
		{[]string{"--iface", "lo", "eth1"}, `"eth1": nothing says what to do with it`},
		{[]string{"--workload", "web"}, `--workload "web": must be NAMESPACE/NAME`},
		{[]string{"--iface", "nosuch0"}, "nosuch0"},
		{[]string{"--workload", "shop/web"}, "workload shop/web: no mesh directory to find it in"},
	} {
		r := start(t, nil, append([]string{"verify"}, tc.args...)...)
		if code, said := r.wait(); code != 2 || !strings.Contains(said, tc.want) {
			t.Errorf("%q: exit code %d, want 2 and %q:\n%s", tc.args, code, tc.want, said)
		}
	}
}

// A capture that was killed looks whole to others: every packet in it is.
func TestFileOfACaptureThatWasKilledIsInconclusive(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "killed.pcapng")
	cmd, _, told := startProcess(t, "capture", "shop/web", "-f", s.mesh, "-w", file, "--port", "4433")
	told.await("capturing")
	beside := filepath.Join(filepath.Dir(file), "whole.pcapng")
	whole := start(t, nil, "capture", "shop/web", "-f", s.mesh, "-w", beside, "--port", "4433", "--count", "10").await("capturing")
	s.sealed(t)
	if code, said := whole.wait(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, said)
	}
	s.sealed(t) // what was said before has left the kernel by now
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-told.code
	r := start(t, nil, "verify", "--read", file, "-o", "json")
	if code, said := r.wait(); code != 3 || !strings.Contains(strings.Join(r.judgement().Doubts, "\n"), "has no end") {
		t.Errorf("exit code %d:\n%s\n%s", code, said, r.out.Bytes())
	}
	r = start(t, nil, "verify", "--read", beside, "-o", "json")
	if code, said := r.wait(); code == 2 || strings.Contains(r.out.String(), "has no end") {
		t.Errorf("exit code %d:\n%s\n%s", code, said, r.out.Bytes())
	}
}
