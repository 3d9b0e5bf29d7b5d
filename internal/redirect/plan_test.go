package redirect

import (
	"flag"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/ports"
)

var update = flag.Bool("update", false, "rewrite the goldens in testdata")

// whole is a namespace that is one workload.
func whole(phase Phase) Config {
	return Config{ProxyUID: ports.ProxyUID, Workloads: []Workload{{
		Name: "shop/web", Phase: phase,
		Outbound: ports.Outbound, Inbound: ports.Inbound, Admin: ports.Admin,
	}}}
}

// host is a namespace with host workloads, whose proxies have ports in a row.
func host(workloads ...Workload) Config {
	for i := range workloads {
		n := uint16(10 * i)
		workloads[i].Outbound, workloads[i].Inbound, workloads[i].Admin = 16001+n, 16002+n, 16003+n
	}
	return Config{ProxyUID: ports.ProxyUID, Workloads: workloads}
}

// scenarios are the configurations that have a golden, by its name.
func scenarios() map[string]Config {
	remote4, remote6 := whole(Guard), whole(Guard)
	remote4.Control = netip.MustParseAddrPort("10.0.0.9:15012")
	remote6.Control = netip.MustParseAddrPort("[fd00::9]:15012")
	skip := whole(Redirect)
	skip.Workloads[0].SkipPorts = []uint16{22, 53}
	skip.Control = netip.MustParseAddrPort("10.0.0.9:15012")
	return map[string]Config{
		"whole-guard":          whole(Guard),
		"whole-guard-control4": remote4,
		"whole-guard-control6": remote6,
		"whole-redirect":       whole(Redirect),
		"whole-redirect-skip":  skip,
		"host-uid": host(
			Workload{Name: "shop/db", Selector: ByUID(1001), Phase: Redirect, Ports: []uint16{5432, 22}, SkipPorts: []uint16{22}},
			Workload{Name: "shop/new", Selector: ByUID(1002), Phase: Guard, Ports: []uint16{8080}},
		),
		"host-cgroup": host(Workload{
			Name: "shop/web", Phase: Redirect, Ports: []uint16{8080},
			Selector: Selector{kind: byCgroup, cgroup: "system.slice/web.service", id: 4711},
		}),
	}
}

func TestPlanIsTheGolden(t *testing.T) {
	for name, config := range scenarios() {
		t.Run(name, func(t *testing.T) {
			if err := config.Validate(); err != nil {
				t.Fatal(err)
			}
			got := Plan(config).String()
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s (run with -update if meant):\n%s", file, got)
			}
		})
	}
}

func TestABadConfigurationIsRefusedWithEveryReason(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   []string
	}{
		{"empty", Config{}, []string{"no workload: use Remove", "proxy uid is 0"}},
		{"no ports", Config{ProxyUID: 1, Workloads: []Workload{{}}},
			[]string{"has no name", "outbound, inbound and admin ports must be given"}},
		{"a whole namespace is not alone", Config{ProxyUID: 1, Workloads: []Workload{
			{Name: "a", Outbound: 1, Inbound: 2, Admin: 3}, {Name: "b", Selector: ByUID(5), Outbound: 4, Inbound: 5, Admin: 6}}},
			[]string{`"a" is the whole namespace and must be alone in it`}},
		{"a whole namespace lists ports", Config{ProxyUID: 1, Workloads: []Workload{{Name: "a", Outbound: 1, Inbound: 2, Admin: 3, Ports: []uint16{80}}}},
			[]string{"none can be listed"}},
		{"the proxy's own", Config{ProxyUID: 7, Workloads: []Workload{{Name: "a", Selector: ByUID(7), Outbound: 1, Inbound: 2, Admin: 3, SkipPorts: []uint16{2, 0}}}},
			[]string{"uid 7 is the proxy's", "port 2 is the proxy's and cannot be skipped", "port 0 is no port"}},
		{"shared", Config{ProxyUID: 7, Workloads: []Workload{
			{Name: "a", Selector: ByUID(1), Outbound: 1, Inbound: 2, Admin: 3, Ports: []uint16{80}},
			{Name: "a", Selector: ByUID(1), Outbound: 1, Inbound: 5, Admin: 6, Ports: []uint16{80}}}},
			[]string{`"a" is listed twice`, "are both uid 1", "port 1 is claimed", "port 80 is claimed"}},
	} {
		err := c.config.Validate()
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
		if Apply(c.config) == nil {
			t.Errorf("%s: applied", c.name)
		}
	}
}

func TestACgroupMustBeAPathBelowTheMount(t *testing.T) {
	mount := t.TempDir()
	if err := os.MkdirAll(filepath.Join(mount, "system.slice/web.service"), 0o755); err != nil {
		t.Fatal(err)
	}
	if s, err := byCgroupUnder(mount, "system.slice/web.service"); err != nil || s.String() != "cgroup system.slice/web.service" || s.id == 0 {
		t.Errorf("%v, %v", s, err)
	}
	for _, bad := range []string{"", "/system.slice", "../etc", "system.slice/", ".", "system.slice/none"} {
		if s, err := byCgroupUnder(mount, bad); err == nil {
			t.Errorf("%q is accepted as %s", bad, s)
		}
	}
}

// A host may list many ports; they are one transaction still.
func TestManyPortsAreAppliedAtOnce(t *testing.T) {
	config := host(Workload{Name: "shop/web", Selector: ByUID(1001), Phase: Redirect})
	for port := uint16(1); port <= 1000; port++ {
		config.Workloads[0].Ports = append(config.Workloads[0].Ports, port)
	}
	n := newNS(t, "app")
	n.apply(config)
	if drift := n.check(config); len(drift) > 0 {
		t.Errorf("drift: %q", drift)
	}
}

func TestKernelHoldsWhatPlanPrints(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed: nothing to compare with")
	}
	for name, config := range scenarios() {
		if name == "host-cgroup" {
			continue // nft prints no path for a cgroup that does not exist
		}
		t.Run(name, func(t *testing.T) {
			n := newNS(t, "app")
			n.apply(config)
			want := Plan(config)
			if got := n.run("nft", "-t", "list", "table", "inet", Table); got != want.table() {
				t.Errorf("nft lists\n%s\nPlan prints\n%s", got, want.table())
			}
			if drift := n.check(config); len(drift) > 0 {
				t.Errorf("drift right after Apply: %q", drift)
			}
		})
	}
}

func TestApplyingTwiceChangesNothing(t *testing.T) {
	for name, config := range scenarios() {
		t.Run(name, func(t *testing.T) {
			n := newNS(t, "app")
			n.apply(config)
			once := n.listing()
			n.apply(config)
			if twice := n.listing(); twice != once {
				t.Errorf("first\n%s\nsecond\n%s", once, twice)
			}
		})
	}
}

func TestRemovingLeavesNothing(t *testing.T) {
	for name, config := range scenarios() {
		t.Run(name, func(t *testing.T) {
			n := newNS(t, "app")
			before := n.listing()
			n.apply(config)
			if n.listing() == before {
				t.Fatal("Apply left no trace: the test sees nothing")
			}
			n.remove()
			if after := n.listing(); after != before {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
			n.remove() // nothing there is no error
		})
	}
}

func TestEveryPhaseFollowsEveryOther(t *testing.T) {
	n := newNS(t, "app")
	all := scenarios()
	names := slices.Sorted(maps.Keys(all))
	for _, from := range names {
		for _, to := range names {
			n.apply(all[from])
			n.apply(all[to])
			if drift := n.check(all[to]); len(drift) > 0 {
				t.Errorf("%s after %s: %q", to, from, drift)
			}
		}
	}
}

func TestDriftIsFoundAndRepaired(t *testing.T) {
	config := host(Workload{Name: "shop/db", Selector: ByUID(1001), Phase: Redirect, Ports: []uint16{5432}})
	for _, c := range []struct {
		name, want string
		damage     [][]string
	}{
		{"table flushed", "chain prerouting: rule 1", [][]string{{"nft", "flush", "table", "inet", Table}}},
		{"table deleted", "table sealmesh is missing", [][]string{{"nft", "delete", "table", "inet", Table}}},
		{"rule added", "chain output: 1 rules were added", [][]string{{"nft", "add", "rule", "inet", Table, "output", "accept"}}},
		{"rule put first", "chain output: rule 1", [][]string{{"nft", "insert", "rule", "inet", Table, "output", "accept"}}},
		{"chain added", "a chain was added", [][]string{{"nft", "add", "chain", "inet", Table, "mine"}}},
		{"policy changed", "chain output has another", [][]string{{"nft", "chain", "inet", Table, "output", "{ policy drop; }"}}},
		{"set added", "a set was added", [][]string{{"nft", "add", "set", "inet", Table, "mine", "{ type mark; }"}}},
		{"map deleted", "map flows4 is missing", [][]string{{"nft", "flush", "table", "inet", Table}, {"nft", "delete", "map", "inet", Table, "flows4"}}},
		{"ip rule deleted", "ipv4 rule for mark 0x5ea3 is missing", [][]string{{"ip", "rule", "del", "priority", "24225"}}},
		{"ip -6 rule deleted", "ipv6 rule for mark 0x5ea3 is missing", [][]string{{"ip", "-6", "rule", "del", "priority", "24225"}}},
		{"ip route deleted", "ipv4 route in table 24225 is missing", [][]string{{"ip", "route", "flush", "table", "24225"}}},
		{"ip -6 route deleted", "ipv6 route in table 24225 is missing", [][]string{{"ip", "-6", "route", "flush", "table", "24225"}}},
		{"lo down", "device lo is down", [][]string{{"ip", "link", "set", "lo", "down"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNS(t, "app")
			n.apply(config)
			for _, args := range c.damage {
				n.run(args...)
			}
			drift := n.check(config)
			if !slices.ContainsFunc(drift, func(s string) bool { return strings.Contains(s, c.want) }) {
				t.Errorf("drift is %q, want %q among it", drift, c.want)
			}
			n.apply(config)
			if drift := n.check(config); len(drift) > 0 {
				t.Errorf("not repaired: %q", drift)
			}
		})
	}
}

func TestAnotherPhaseIsDrift(t *testing.T) {
	n := newNS(t, "app")
	n.apply(whole(Guard))
	if drift := n.check(whole(Redirect)); len(drift) == 0 {
		t.Error("a guard is taken for a redirection")
	}
}

func TestWithoutIPv6OnlyItsRoutingIsLeftOut(t *testing.T) {
	n := newNS(t, "app")
	n.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0o644) })
	before := n.listing()
	n.apply(whole(Redirect))
	if drift := n.check(whole(Redirect)); len(drift) > 0 {
		t.Errorf("drift: %q", drift)
	}
	n.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("0"), 0o644) })
	if drift := n.check(whole(Redirect)); len(drift) != 2 {
		t.Errorf("IPv6 came back, and drift is %q: want its rule and its route", drift)
	}
	n.remove()
	n.do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6", []byte("1"), 0o644) })
	if after := n.listing(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}
