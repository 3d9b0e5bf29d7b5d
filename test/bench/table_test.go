package main

import (
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmesh/sealmesh/test/bench/load"
	"github.com/sealmesh/sealmesh/test/bench/usage"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is not what was rendered (-want +got), -update writes it:\n%s", file, diff)
	}
}

// observed is what a system might show: factor times as much work, done by
// proxies that used cpu.
func observed(factor float64, cpu time.Duration, memory int64) observation {
	return observation{
		client:  load.Report{Elapsed: time.Second, CPU: 200 * time.Millisecond, Operations: int64(10000 * factor), P50: 200 * time.Microsecond, P99: time.Duration(900/factor) * time.Microsecond},
		server:  load.Report{Elapsed: time.Second, CPU: 100 * time.Millisecond, Bytes: int64(8e8 * factor)},
		proxies: cpu, proxied: cpu > 0, elapsed: time.Second,
		machine: usage.Machine{Idle: 100 * time.Millisecond},
		idle:    [2]usage.Memory{{Resident: memory, Proportional: memory / 2}, {Resident: memory - 1, Proportional: memory / 2}},
		held:    [2]usage.Memory{{Resident: memory + 5e7}, {Resident: memory + 1e8}},
	}
}

// exampleResults are three rounds of four systems; in the first of them sealmesh
// was slower.
func exampleResults(systems ...string) *results {
	r := newResults(systems, measurements)
	examples := map[string]observation{
		"direct":  observed(3, 0, 0),
		"haproxy": observed(1, time.Second, 2e7),
		"nginx":   observed(0.9, 1100*time.Millisecond, 3e7),
		ours:      observed(1.4, 700*time.Millisecond, 1.4e7),
	}
	for round := range 3 {
		for _, m := range measurements {
			for _, system := range systems {
				o := examples[system]
				if system == ours && round == 0 {
					o.client.Operations /= 2
					o.proxies *= 2
				}
				r.add(m, system, o)
			}
		}
	}
	return r
}

func TestTheTableTellsMediansSpreadRatioAndVerdict(t *testing.T) {
	r := exampleResults("direct", "haproxy", "nginx", ours)
	golden(t, "figures.golden.txt", figureTable(r).text())
	golden(t, "shares.golden.txt", shareTable(r).text())
}

func TestTheTableJudgesOnlyWhatWasMeasured(t *testing.T) {
	golden(t, "peers.golden.txt", figureTable(exampleResults("direct", "nginx")).text())
}

func TestTheReportGoesBetweenTheMarks(t *testing.T) {
	machine := []fact{{"processor", "example"}, {"kernel", "Linux 1.2.3"}}
	r := exampleResults("direct", "haproxy", "nginx", ours)
	content := report("go run ./test/bench -rounds 3", machine, r, options{rounds: 3, window: 4 * time.Second})
	document, err := replaceGenerated("# Title\n\n"+markBegin+"\nold\n"+markEnd+"\n\nby hand\n", content)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "document.golden.md", document)
	again, err := replaceGenerated(document, content)
	if err != nil || again != document {
		t.Errorf("written twice it is another document (%v)", err)
	}
	for _, broken := range []string{"", markBegin, markEnd + markBegin} {
		if _, err := replaceGenerated(broken, content); err == nil {
			t.Errorf("document %q: no error", broken)
		}
	}
}

func TestTheVerdictIsAgainstTheBetterPeer(t *testing.T) {
	m := measurement{name: "m"}
	rate := figure{title: "rate", higherIsBetter: true, target: target{kind: ofBetterPeer, value: 1, aim: 1.3}}
	cost := figure{title: "cost", target: target{kind: ofBetterPeer, value: 1}}
	limit := figure{title: "limit", target: target{kind: atMost, value: 15}}
	for _, c := range []struct {
		f                    figure
		ours, haproxy, nginx float64
		want                 verdict
	}{
		{rate, 12, 10, 8, verdict{ratio: 1.2, judged: true, met: true}},
		{rate, 13, 8, 10, verdict{ratio: 1.3, judged: true, met: true, reached: true}},
		{rate, 9, 10, 8, verdict{ratio: 0.9, judged: true}},
		{cost, 9, 10, 8, verdict{ratio: 1.125, judged: true}},
		{cost, 8, 10, 8, verdict{ratio: 1, judged: true, met: true}},
		{limit, 15, 30, 60, verdict{ratio: 0.5, judged: true, met: true}},
		{limit, 16, 32, 60, verdict{ratio: 0.5, judged: true}},
	} {
		r := newResults([]string{ours, "haproxy", "nginx"}, []measurement{m})
		r.values[key(m, c.f)] = map[string][]float64{ours: {c.ours}, "haproxy": {c.haproxy}, "nginx": {c.nginx}}
		if got := r.judge(m, c.f); got != c.want {
			t.Errorf("%s of %v against %v and %v: %+v, want %+v", c.f.title, c.ours, c.haproxy, c.nginx, got, c.want)
		}
	}
	r := newResults([]string{ours}, []measurement{m})
	r.values[key(m, rate)] = map[string][]float64{ours: {1}}
	if v := r.judge(m, rate); v.judged || !math.IsNaN(v.ratio) {
		t.Errorf("without a peer: %+v, want no verdict", v)
	}
}

func TestASummaryIsTheMedianAndTheRange(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   summary
		spread float64
	}{
		{[]float64{105, 95, 100}, summary{100, 95, 105, 3}, 5},
		{[]float64{1, 2, 3, 4}, summary{2.5, 1, 4, 4}, 60},
		{[]float64{7, math.NaN()}, summary{7, 7, 7, 1}, 0},
		{[]float64{0}, summary{0, 0, 0, 1}, 0},
	} {
		given := slices.Clone(c.values)
		got := sumUp(c.values)
		if got != c.want || math.Abs(got.spread()-c.spread) > 1e-9 {
			t.Errorf("%v: %+v spread %v, want %+v spread %v", c.values, got, got.spread(), c.want, c.spread)
		}
		if !slices.EqualFunc(given, c.values, func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }) {
			t.Errorf("%v was changed to %v", given, c.values)
		}
	}
	if s := sumUp([]float64{math.NaN()}); s.known() || !math.IsNaN(s.median) {
		t.Errorf("of nothing: %+v", s)
	}
}

func TestNumbersHaveTheirThousandsApart(t *testing.T) {
	for want, got := range map[string]string{
		"0":            formatNumber(0, 0),
		"999":          formatNumber(999, 0),
		"1,000":        formatNumber(999.9, 0),
		"1,234,567.89": formatNumber(1234567.891, 2),
		"-123":         formatNumber(-123, 0),
		"-1,234.5":     formatNumber(-1234.5, 1),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTheCommandLineIsRefusedByName(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-only squid", `-only "squid": must be of direct,`},
		{"-figures speed", `-figures "speed": must be of memory,`},
		{"-rounds -1", "-rounds -1"},
		{"now", `argument "now"`},
	} {
		err := bench(t.Context(), strings.Fields(c.args), os.Stdout, new(strings.Builder))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.args, err, c.want)
		}
	}
}

func TestTheOrderTurns(t *testing.T) {
	list := []int{1, 2, 3}
	for by, want := range [][]int{{1, 2, 3}, {2, 3, 1}, {3, 1, 2}, {1, 2, 3}} {
		if got := turned(list, by); !slices.Equal(got, want) {
			t.Errorf("by %d: %v, want %v", by, got, want)
		}
	}
}
