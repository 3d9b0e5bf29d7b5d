package demo

// The demo is played in full, with the real programs, in a lab of its own; and
// then against a sealmesh that seals nothing, which it must find out.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// liarEnv makes this test binary a sealmesh that claims everything and does
// nothing.
const liarEnv = "SEALMESH_DEMO_LIAR"

func TestMain(m *testing.M) {
	if os.Getenv(liarEnv) != "" {
		lie(os.Args[1])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func lie(command string) {
	names := []string{"sender", "receiver", "thief"}
	var identities []identity
	var stati []status
	for i, name := range names {
		identities = append(identities, identity{Workload: namespace + "/" + name, Identity: spiffe(name), Serial: "1", NotAfter: time.Now()})
		stati = append(stati, status{Workload: namespace + "/" + name, PID: 1, Rules: 19, Admin: uint16(i + 1)})
	}
	switch command {
	case "up":
		for _, name := range names {
			fmt.Printf("sealed %s/%s: 19 rules, proxy pid 1\n", namespace, name)
		}
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
	case "identity":
		_ = json.NewEncoder(os.Stdout).Encode(identities)
	case "status":
		_ = json.NewEncoder(os.Stdout).Encode(stati)
	}
}

// build builds the real programs and returns the path of sealmesh.
func build(t *testing.T) string {
	t.Helper()
	lab.NeedRoot(t)
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "../../cmd/sealmesh", "../../cmd/sealmesh-proxy").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "sealmesh")
}

func TestEverythingHolds(t *testing.T) {
	program, dir := build(t), t.TempDir()
	var told bytes.Buffer
	if err := Run(t.Context(), Config{Out: &told, Program: program, Dir: dir}); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "up.log")) // it may not exist yet
		t.Fatalf("%v\n%s\n%s", err, told.String(), log)
	}
	for _, want := range []string{"746573740a is", "TLS 1.3", "X25519MLKEM768", "SNI receiver.shop.demo.local",
		"746573740a is nowhere", "plaintext", "unknown_destination", "wrong_identity", "Sealed"} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("%q is not told:\n%s", want, told.String())
		}
	}
	left(t, program, dir, "after.pcap", "before.pcap")
}

// left reports what there is beyond certain files: the lab, files, processes.
func left(t *testing.T, program, dir string, files ...string) {
	t.Helper()
	namespaces, err := filepath.Glob(fmt.Sprintf("/run/netns/sm%d*", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if len(namespaces) > 0 {
		t.Errorf("namespaces are left: %v", namespaces)
	}
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, files) {
		t.Errorf("files %q are left, want %q", got, files)
	}
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, filepath.Dir(program)) {
			t.Errorf("%s is left: %s", target, link)
		}
	}
}

func TestASealThatIsNoneIsFoundOut(t *testing.T) {
	lab.NeedRoot(t)
	t.Setenv(liarEnv, "1")
	dir := t.TempDir()
	var told bytes.Buffer
	err := Run(t.Context(), Config{Out: &told, Program: os.Args[0], Dir: dir})
	if !errors.Is(err, ErrNotHeld) {
		t.Fatalf("error %v\n%s", err, told.String())
	}
	for _, want := range []string{"✗ the wire carries TLS 1.3", "✗ 746573740a is nowhere", "Not shown to be sealed"} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("%q is not told:\n%s", want, told.String())
		}
	}
	if strings.Contains(told.String(), "Intruders") {
		t.Error("the demo goes on after what it stands on did not hold")
	}
}

func TestADirectoryOfTheUserIsNotRemoved(t *testing.T) {
	lab.NeedRoot(t)
	t.Setenv(liarEnv, "1")
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "mesh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), Config{Out: io.Discard, Program: os.Args[0], Dir: dir}); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mesh")); err != nil {
		t.Error(err)
	}
}

// interrupter ends a context as soon as something is told.
type interrupter struct {
	io.Writer
	at  string
	end context.CancelFunc
}

func (i interrupter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(i.at)) {
		i.end()
	}
	return i.Writer.Write(b)
}

func TestAnInterruptLeavesNothing(t *testing.T) {
	program, parent := build(t), t
	for _, at := range []string{"two nodes, two", "1  Before", "receiver prints it", "2  Sealing", "sealmesh up -f", "sealed within", "3  After", "tshark agrees", "a stranger is", "takes the address", "5  Verdict"} {
		t.Run(at, func(t *testing.T) {
			temporary := parent.TempDir()                                    // without the name of this test: at must not be part of a path
			if err := os.Chmod(filepath.Dir(temporary), 0o711); err != nil { // proxies run as another user
				t.Fatal(err)
			}
			t.Setenv("TMPDIR", temporary)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var told bytes.Buffer
			err := Run(ctx, Config{Out: interrupter{&told, at, cancel}, Program: program})
			if at == "5  Verdict" {
				if err != nil { // too late to interrupt anything
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v\n%s", err, told.String())
			}
			left(t, program, temporary)
		})
	}
}

func TestKeepGoesOnUntilInterrupted(t *testing.T) {
	program, dir := build(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := newJournal()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, Config{Out: told, Program: program, Dir: dir, Keep: true}) }()
	way, err := told.wait(t.Context(), 0, func(line string) bool { return strings.Contains(line, "send something") })
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(way, "send something")
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if _, err := told.wait(t.Context(), 0, func(line string) bool { return strings.Contains(line, "prints hello") }); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	left(t, program, dir, "after.pcap", "before.pcap")
}
