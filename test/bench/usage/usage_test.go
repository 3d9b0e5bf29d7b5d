package usage

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestATreeHoldsChildrenOfChildren(t *testing.T) {
	// The outer shell waits for the inner one, which waits for cat.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `sh -c 'cat; :'; :`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if _, err := io.WriteString(in, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // cat runs
		t.Fatal(err)
	}
	tree, err := Tree(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) != 3 || tree[0] != cmd.Process.Pid {
		t.Errorf("tree of %d is %v, want it and two more", cmd.Process.Pid, tree)
	}
	whole, err := Tree(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range tree {
		if !slices.Contains(whole, pid) {
			t.Errorf("tree of the test %v lacks %d", whole, pid)
		}
	}
}

func TestProcessorTimeIsFinerThanATick(t *testing.T) {
	own := []int{os.Getpid()}
	before, err := CPU(own)
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < time.Millisecond; {
		continue // spend it
	}
	after, err := CPU(own)
	if err != nil {
		t.Fatal(err)
	}
	if after <= before {
		t.Errorf("after a busy millisecond %v, before it %v", after, before)
	}
	if _, err := CPU([]int{1 << 24}); err == nil {
		t.Error("no error for a process that cannot exist")
	}
}

func TestOwnMemoryIsRead(t *testing.T) {
	m, err := Sizes([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	if m.Resident < 1<<20 || m.Proportional < 1<<19 || m.Proportional > m.Resident {
		t.Errorf("memory of the test is %+v", m)
	}
}

func TestTheFormsOfProcAreParsed(t *testing.T) {
	pid, parent, err := parseStat("77 (a (b) c 1) S 12 77 77 0")
	if err != nil || pid != 77 || parent != 12 {
		t.Errorf("stat: %d %d %v", pid, parent, err)
	}
	for _, bad := range []string{"", "77 a S 12", "77 (a)", "x (a) S 12", "77 (a) S x"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("stat %q: no error", bad)
		}
	}
	m, err := parseRollup([]byte("55d0-7ffd ---p 0 00:00 0 [rollup]\nRss:  1024 kB\nPss: 512 kB\nPss_Dirty: 3 kB\n"))
	if err != nil || m != (Memory{Resident: 1 << 20, Proportional: 512 << 10}) {
		t.Errorf("rollup: %+v %v", m, err)
	}
	if _, err := parseRollup([]byte("Rss: 1024 kB\n")); err == nil {
		t.Error("rollup without Pss: no error")
	}
	machine, err := parseMachine("cpu  100 200 300 400 500 600 700 800 0 0\ncpu0 1 2 3\n")
	if err != nil || machine != (Machine{Busy: 19 * time.Second, Idle: 9 * time.Second, Stolen: 8 * time.Second}) {
		t.Errorf("machine: %+v %v", machine, err)
	}
	if _, err := parseMachine("cpu 1 2 3\n"); err == nil {
		t.Error("short /proc/stat: no error")
	}
}
