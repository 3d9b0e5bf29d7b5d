package redirect

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	labs "github.com/sealmesh/sealmesh/test/lab"
)

// The lab of these tests: two namespaces and a wire between them.
//
//	┌── app ──────────────┐            ┌── peer ──────────────┐
//	│ eth0 10.99.0.2      ├────────────┤ eth0 10.99.0.1       │
//	│      fd99::2        │    veth    │      fd99::1         │
//	└─────────────────────┘            └──────────────────────┘
const (
	app4, peer4 = "10.99.0.2", "10.99.0.1"
	app6, peer6 = "fd99::2", "fd99::1"
)

// All tests share one wire, which takes seconds to come up; they do not run in
// parallel, and leave no rules behind.
var shared struct{ app, peer string }

func TestMain(m *testing.M) {
	m.Run()
	for _, name := range made {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip netns del %s: %v: %s", name, err, out)
		}
	}
}

// made are the namespaces to delete in the end.
var made []string

// ns is a network namespace, as one test sees it.
type ns struct {
	t    *testing.T
	name string
}

// newNS makes an empty namespace with lo up.
func newNS(t *testing.T, role string) ns {
	t.Helper()
	labs.NeedRoot(t)
	n := ns{t, fmt.Sprintf("sm%d-%d-%s", os.Getpid(), len(made), role)}
	command(t, "ip", "netns", "add", n.name)
	made = append(made, n.name)
	n.ip("link", "set", "lo", "up")
	return n
}

// lab is the lab above, without any rules.
func lab(t *testing.T) (app, peer ns) {
	t.Helper()
	if shared.app == "" {
		app, peer = newWire(t)
		shared.app, shared.peer = app.name, peer.name
	}
	app, peer = ns{t, shared.app}, ns{t, shared.peer}
	t.Cleanup(app.remove)
	return app, peer
}

func newWire(t *testing.T) (app, peer ns) {
	t.Helper()
	app, peer = newNS(t, "app"), newNS(t, "peer")
	app.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer.name)
	for _, side := range []struct {
		n      ns
		v4, v6 string
	}{{app, app4, app6}, {peer, peer4, peer6}} {
		side.n.ip("address", "add", side.v4+"/24", "dev", "eth0")
		side.n.ip("address", "add", side.v6+"/64", "dev", "eth0", "nodad")
		side.n.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/accept_dad", []byte("0"), 0o644) })
		side.n.ip("link", "set", "eth0", "up")
		// What strict distributions set.
		side.n.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0o644) })
	}
	meet(app, peer)
	return app, peer
}

// meet returns when both families work, so that what is watched later waits for
// no carrier, ARP or neighbour discovery.
func meet(app, peer ns) {
	app.t.Helper()
	s := peer.listen(0, ":9")
	defer s.Close()
	for _, to := range []string{peer4, peer6} {
		err := errors.New("untried")
		for range 20 {
			if _, err = app.dial(0, join(to, 9)); err == nil {
				s.accept().Close()
				break
			}
		}
		if err != nil {
			app.t.Fatalf("the lab does not work: %v", err)
		}
	}
}

func (n ns) path() string { return "/run/netns/" + n.name }

// do runs fn in the namespace.
func (n ns) do(fn func() error) {
	n.t.Helper()
	if err := InNamespace(n.path(), fn); err != nil {
		n.t.Fatalf("in %s: %v", n.name, err)
	}
}

func (n ns) ip(args ...string) {
	n.t.Helper()
	command(n.t, "ip", append([]string{"-n", n.name}, args...)...)
}

// run runs a program in the namespace and returns what it prints.
func (n ns) run(args ...string) string {
	n.t.Helper()
	return command(n.t, "ip", append([]string{"netns", "exec", n.name}, args...)...)
}

func (n ns) apply(c Config) { n.t.Helper(); n.do(func() error { return Apply(c) }) }
func (n ns) remove()        { n.t.Helper(); n.do(Remove) }

func (n ns) check(c Config) (drift []string) {
	n.t.Helper()
	n.do(func() (err error) { drift, err = Check(c); return err })
	return drift
}

// listing is everything the kernel holds that we may have touched.
func (n ns) listing() string {
	n.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{
		{"nft", "-t", "list", "ruleset"}, {"ip", "rule"}, {"ip", "-6", "rule"},
		{"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
	} {
		fmt.Fprintf(&b, "# %s\n%s\n", strings.Join(args, " "), n.run(args...))
	}
	return b.String()
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
