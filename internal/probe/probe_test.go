package probe

// Two workloads on two nodes, watched at both ends and on both uplinks:
//
//	alice ○── n1 ──○ underlay ○── n2 ──○ bob

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/verify"
	"github.com/sealmesh/sealmesh/test/lab"
)

// stage is a lab and a probe of it.
func stage(t *testing.T) (*lab.Lab, Config) {
	t.Helper()
	l := lab.T(t, lab.Config{Nodes: 2})
	alice, bob := l.Workload(t, l.Nodes[0], "alice"), l.Workload(t, l.Nodes[1], "bob")
	cfg := Config{
		Ends: [2]End{
			{Name: "alice", Netns: alice.Path(), Addr: alice.Addr4},
			{Name: "bob", Netns: bob.Path(), Addr: bob.Addr4},
		},
		Protos:  []capture.Proto{capture.TCP, capture.UDP},
		Mark:    ports.Mark,
		Timeout: 10 * time.Second,
	}
	for _, h := range []*lab.Host{alice.Host, l.Nodes[0].Host, l.Nodes[1].Host, bob.Host} {
		cfg.Vantages = append(cfg.Vantages, Vantage{Name: h.Name, Netns: h.Path(), Interface: "eth0"})
	}
	return l, cfg
}

func TestWhatIsInClearIsSeenEverywhere(t *testing.T) {
	_, cfg := stage(t)
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verify.Leaked || len(r.Doubts) > 0 {
		t.Errorf("%s, doubts %q", r.Verdict, r.Doubts)
	}
	if len(r.Control) != 2 || len(r.Legs) != 4 || len(r.Watched) != 4 {
		t.Fatalf("%d controls, %d legs, %d captures", len(r.Control), len(r.Legs), len(r.Watched))
	}
	for _, leg := range slices.Concat(r.Control, r.Legs) {
		if !leg.Carried {
			t.Errorf("%s %s to %s: %s", leg.Proto, leg.From, leg.To, leg.Error)
		}
		for _, v := range cfg.Vantages {
			if !slices.ContainsFunc(leg.Seen, func(s Sighting) bool { return s.Vantage == v.Name }) {
				t.Errorf("%s %s to %s was not seen by %s", leg.Proto, leg.From, leg.To, v.Name)
			}
		}
	}
}

// TestACaptureThatSeesNothingProvesNothing watches where nothing comes by.
func TestACaptureThatSeesNothingProvesNothing(t *testing.T) {
	_, cfg := stage(t)
	cfg.Vantages = []Vantage{{Name: "nowhere", Netns: cfg.Vantages[0].Netns, Interface: "lo"}}
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != verify.Inconclusive || !strings.Contains(strings.Join(r.Doubts, "\n"), "nowhere did not see the control from alice to bob") {
		t.Errorf("%s, doubts %q", r.Verdict, r.Doubts)
	}
}

// TestAMarkerThatDoesNotArriveProvesNothing cuts one of the ends off.
func TestAMarkerThatDoesNotArriveProvesNothing(t *testing.T) {
	l, cfg := stage(t)
	cut := l.Nodes[1].Command(t.Context(), "ip", "route", "add", "prohibit", cfg.Ends[0].Addr.String())
	if out, err := cut.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cfg.Timeout = time.Second
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict == verify.Sealed || len(r.Doubts) == 0 {
		t.Errorf("%s, doubts %q", r.Verdict, r.Doubts)
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	err := Config{}.Validate()
	for _, part := range []string{"no address", "no network namespace", "same workload", "nowhere to watch", "no protocol", "timeout"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
}
