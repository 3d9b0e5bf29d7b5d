package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// ownerEnv makes this test binary a process that builds a lab, prints its
// prefix and waits to be killed.
const ownerEnv = "SEALMESH_LAB_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		os.Exit(own())
	}
	os.Exit(m.Run())
}

func own() int {
	l, err := New(context.Background(), Config{Nodes: 1})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	w, err := l.AddWorkload(l.Nodes[0], "sender")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c := w.Command(context.Background(), "sleep", "600")
	if err := c.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(l.Prefix, c.Process.Pid)
	_, err = io.Copy(io.Discard, os.Stdin) // for ever: the parent never closes it
	fmt.Println(err)
	return 1
}

// pair is two workloads on two nodes.
func pair(t *testing.T, cfg Config) (l *Lab, sender, receiver *Workload) {
	t.Helper()
	l = T(t, cfg)
	return l, l.Workload(t, l.Nodes[0], "sender"), l.Workload(t, l.Nodes[1], "receiver")
}

func TestWorkloadsReachEachOther(t *testing.T) {
	l, sender, receiver := pair(t, Config{Nodes: 2})
	neighbour := l.Workload(t, l.Nodes[1], "neighbour")
	for _, tc := range []struct {
		name     string
		from, to *Host
	}{
		{"across nodes", sender.Host, receiver.Host},
		{"and back", receiver.Host, sender.Host},
		{"on one node", neighbour.Host, receiver.Host},
		{"from the underlay", l.Underlay, receiver.Host},
		{"to the underlay", receiver.Host, l.Underlay},
		{"itself by its own address", receiver.Host, receiver.Host},
		{"the node it is on", receiver.Host, l.Nodes[1].Host},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, addr := range []netip.Addr{tc.to.Addr4, tc.to.Addr6} {
				reachTCP(t, tc.from, tc.to, addr)
				reachUDP(t, tc.from, tc.to, addr)
			}
		})
	}
}

// reachTCP carries a greeting and finds the client's own address unchanged.
func reachTCP(t *testing.T, from, to *Host, addr netip.Addr) {
	t.Helper()
	ln, err := to.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := from.Dial(timeout(t), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello\n")
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if line, err := bufio.NewReader(s).ReadString('\n'); line != "hello\n" {
		t.Errorf("received %q, %v", line, err)
	}
	if got := s.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != from.Addr4 && got != from.Addr6 {
		t.Errorf("the client's address is %s, want %s or %s", got, from.Addr4, from.Addr6)
	}
}

func reachUDP(t *testing.T, from, to *Host, addr netip.Addr) {
	t.Helper()
	pc, err := to.ListenPacket("udp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c, err := from.Dial(timeout(t), "udp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "hello")
	if err := pc.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, _, err := pc.ReadFrom(buf); string(buf[:n]) != "hello" {
		t.Errorf("received %q, %v", buf[:n], err)
	}
}

func TestATakenAddressLeadsToTheThiefUntilItIsGivenBack(t *testing.T) {
	l, sender, receiver := pair(t, Config{Nodes: 2})
	thief := l.Workload(t, l.Nodes[1], "thief")
	reachTCP(t, sender.Host, receiver.Host, receiver.Addr4)
	giveBack, err := l.TakeAddress(thief, receiver)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []netip.Addr{receiver.Addr4, receiver.Addr6} {
		reachTCP(t, sender.Host, thief.Host, addr)
	}
	if err := giveBack(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []netip.Addr{receiver.Addr4, receiver.Addr6} {
		reachTCP(t, sender.Host, receiver.Host, addr)
	}
	if _, err := l.TakeAddress(sender, receiver); err == nil {
		t.Error("an address was taken from another node")
	}
}

func TestIPv4OnlyHasNoIPv6(t *testing.T) {
	_, sender, receiver := pair(t, Config{Nodes: 2, IPv4Only: true})
	reachTCP(t, sender.Host, receiver.Host, receiver.Addr4)
	if receiver.Addr6.IsValid() {
		t.Errorf("the receiver has %s", receiver.Addr6)
	}
	if ln, err := receiver.Listen("tcp", "[::1]:0"); err == nil {
		ln.Close()
		t.Error("a socket could listen on ::1")
	}
}

func TestCaptureSeesPlaintext(t *testing.T) {
	l, sender, receiver := pair(t, Config{Nodes: 2})
	file := filepath.Join(t.TempDir(), "plain.pcap")
	capture, err := l.Nodes[1].Capture(t.Context(), "eth0", file, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	reachTCP(t, sender.Host, receiver.Host, receiver.Addr4)
	stats, err := capture.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Captured < 5 || stats.Captured != stats.Received || stats.Dropped != 0 {
		t.Errorf("counts %+v", stats)
	}
	packets, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(packets), "hello\n") {
		t.Errorf("%d bytes were captured, without the greeting", len(packets))
	}
}

func TestCaptureOfAnUnknownInterfaceSaysSo(t *testing.T) {
	l := T(t, Config{Nodes: 1})
	_, err := l.Nodes[0].Capture(t.Context(), "eth7", filepath.Join(t.TempDir(), "x.pcap"), "")
	if err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Errorf("error %v, must name the interface", err)
	}
}

func TestCommandRunsInside(t *testing.T) {
	_, sender, _ := pair(t, Config{Nodes: 2})
	out, err := sender.Command(t.Context(), "cat", "/proc/self/net/fib_trie").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), sender.Addr4.String()) {
		t.Errorf("the command does not see the workload's address:\n%s", out)
	}
	if _, err := sender.Command(t.Context(), "sh", "-c", "echo no >&2; exit 3").Output(); err == nil || !strings.Contains(err.Error(), "no") {
		t.Errorf("error %v, must say what the command said", err)
	}
}

func TestNamesThatWouldMisleadAreRefused(t *testing.T) {
	l := T(t, Config{Nodes: 1})
	l.Workload(t, l.Nodes[0], "web")
	for _, name := range []string{"", "Web", "we_b", "ul", "n1", "../x", "web"} {
		if _, err := l.AddWorkload(l.Nodes[0], name); err == nil {
			t.Errorf("workload %q was accepted", name)
		}
	}
	if _, err := New(t.Context(), Config{}); err == nil {
		t.Error("a lab without nodes was accepted")
	}
	if _, err := l.Nodes[0].Dial(t.Context(), "tcp", "localhost:80"); err == nil {
		t.Error("a name was dialled")
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	NeedRoot(t)
	links := linkNames(t)
	l, err := New(t.Context(), Config{Nodes: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := l.Workload(t, l.Nodes[0], "sender")
	c := w.Command(t.Context(), "sh", "-c", "sleep 600 & sleep 600")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if got := leftovers(t, l.Prefix); len(got) != 5 {
		t.Errorf("the lab consists of %v, want 4 namespaces and a claim", got)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := leftovers(t, l.Prefix); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
	if got := linkNames(t); got != links {
		t.Errorf("links on the machine were %q and are %q", links, got)
	}
	if err := c.Process.Kill(); err == nil {
		t.Error("the command still runs")
	}
	if err := w.Command(t.Context(), "true").Start(); err == nil {
		t.Error("a closed lab started a command")
	}
}

func TestLeftoversOfAKilledOwnerAreSwept(t *testing.T) {
	NeedRoot(t)
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerEnv+"=1")
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var prefix string
	var sleeper int
	if _, err := fmt.Fscan(stdout, &prefix, &sleeper); err != nil {
		t.Fatal(err)
	}

	T(t, Config{Nodes: 1})
	if got := leftovers(t, prefix); len(got) != 4 {
		t.Errorf("a living owner's lab was swept: only %v is left", got)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // it was killed
	if got := leftovers(t, prefix); len(got) != 4 {
		t.Errorf("only %v was left behind, so this test shows nothing", got)
	}
	T(t, Config{Nodes: 1})
	if got := leftovers(t, prefix); len(got) != 0 {
		t.Errorf("not swept: %v", got)
	}
	ctx, tick := timeout(t), time.Tick(time.Millisecond)
	for lives := true; lives; {
		select {
		case <-tick:
			_, err := startTime(sleeper)
			lives = err == nil
		case <-ctx.Done():
			t.Fatalf("process %d of the swept lab still runs", sleeper)
		}
	}
}

func TestOwnerIsTheProcessAndItsStart(t *testing.T) {
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]bool{
		fmt.Sprintf("%d %s\n", os.Getpid(), start):  true,
		fmt.Sprintf("%d %s1\n", os.Getpid(), start): false,
		fmt.Sprintf("%d\n", os.Getpid()):            false,
		"4194305 1\n":                               false,
		"":                                          false,
		"me 1":                                      false,
	} {
		if got := ownerLives(content); got != want {
			t.Errorf("ownerLives(%q) = %t, want %t", content, got, want)
		}
	}
}

// leftovers lists the namespaces and the claim of a prefix.
func leftovers(t *testing.T, prefix string) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{filepath.Join(netnsDir, prefix+"-*"), filepath.Join(ownersDir, prefix)} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// linkNames is the lab's kind of links on the machine itself. Names that begin
// with "sm" belong to tests of other packages, which may run at the same time.
func linkNames(t *testing.T) string {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		name := l.Attrs().Name
		if (l.Type() == "veth" || l.Type() == "bridge") && !strings.HasPrefix(name, "sm") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}
