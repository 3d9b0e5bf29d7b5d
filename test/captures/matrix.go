package main

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// seed makes every run the same.
const seed = 3

// chance is a scene's own.
func chance(scene int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(scene))) }

// classes of verdicts, as columns.
var classes = []string{"sealed", "plaintext", "unknown", "silent"}

// class of a verdict.
func class(v verify.Verdict) string {
	if v.Seals() {
		return "sealed"
	}
	return string(v)
}

// truths in the order of rows. The empty one is of flows without a label.
var truths = []truth{sealed, inClear, mixed, neither, mimic, untold, nothing, ""}

// tally is what one kind of capture came to.
type tally struct {
	name   string
	counts map[truth]map[string]int
	// wrong are false verdicts, changed those that a lossless variant changed.
	wrong, changed []string
}

func newTally(name string) *tally {
	return &tally{name: name, counts: map[truth]map[string]int{}}
}

// add counts a flow, and holds it against the rule.
func (t *tally) add(in string, j judged, whole bool) {
	t.count(j.label.truth, class(j.found.Verdict))
	if wrong := j.wrong(whole); wrong != "" {
		t.wrong = append(t.wrong, fmt.Sprintf("%s: %s: %s: %s (%s) is in truth %s",
			wrong, in, j.label.at, j.found.Verdict, cmp.Or(j.found.Reason, excerpt(j.found)), cmp.Or(string(j.label.truth), "without a label")))
	}
}

func (t *tally) count(in truth, as string) {
	if t.counts[in] == nil {
		t.counts[in] = map[string]int{}
	}
	t.counts[in][as]++
}

// excerpt is what a finding leans on.
func excerpt(f verify.Finding) string {
	switch {
	case f.Evidence != nil:
		return fmt.Sprintf("%s %.40q", f.Protocol, f.Evidence.Text)
	case f.TLS != nil:
		return "handshake " + f.TLS.Handshake
	}
	return "no reason given"
}

// join adds another tally's counts and errors.
func (t *tally) join(other *tally) {
	for in, as := range other.counts {
		for c, n := range as {
			for range n {
				t.count(in, c)
			}
		}
	}
	t.wrong = append(t.wrong, other.wrong...)
	t.changed = append(t.changed, other.changed...)
}

// flows in a class, or all if it is empty, of some truths.
func (t *tally) flows(class string, of ...truth) int {
	n := 0
	for _, in := range of {
		for c, k := range t.counts[in] {
			if class == "" || c == class {
				n += k
			}
		}
	}
	return n
}

// measurement is everything that was judged.
type measurement struct {
	goldens, merged *tally
	damaged         []*tally
	corpora         []*tally
}

// measure judges every golden, and each variant of it.
func measure(goldens []golden, by judge) measurement {
	m := measurement{goldens: newTally("as captured"), merged: newTally("all in one file")}
	before := map[string][]string{}
	for _, g := range goldens {
		all := judgeScene(g.scene, g.frames, by)
		for _, j := range all {
			m.goldens.add(g.name, j, true)
		}
		before[g.name] = verdicts(all)
	}
	for _, v := range variants {
		t := newTally(v.name)
		for i, g := range goldens {
			if v.kind == ofClear && !g.clear() {
				continue
			}
			all := judgeScene(g.scene, v.make(g.frames, chance(i)), by)
			for _, j := range all {
				t.add(g.name+", "+v.name, j, v.kind == lossless)
			}
			if v.kind == lossless {
				t.compare(g.name+", "+v.name, before[g.name], verdicts(all))
			}
		}
		m.damaged = append(m.damaged, t)
	}
	for name, all := range judgeMerged(goldens, by) {
		for _, j := range all {
			m.merged.add(name+", merged", j, true)
		}
		m.merged.compare(name+", merged", before[name], verdicts(all))
	}
	slices.Sort(m.merged.wrong)
	slices.Sort(m.merged.changed)
	return m
}

// clear reports whether all of a scene's flows are in clear.
func (s scene) clear() bool {
	return !slices.ContainsFunc(s.flows, func(l label) bool { return l.truth != inClear })
}

// verdicts of a scene's flows, in an order that does not depend on time.
func verdicts(all []judged) []string {
	var found []string
	for _, j := range all {
		found = append(found, fmt.Sprintf("%s %s", j.label.at, j.found.Verdict))
	}
	slices.Sort(found)
	return found
}

func (t *tally) compare(in string, before, after []string) {
	if !slices.Equal(before, after) {
		t.changed = append(t.changed, fmt.Sprintf("%s: %s, before it was %s", in, strings.Join(after, ", "), strings.Join(before, ", ")))
	}
}

// judgeMerged judges all goldens as one capture in which everything happens at
// once, and returns the findings by scene.
func judgeMerged(goldens []golden, by judge) map[string][]judged {
	const firstNumber = 256 // 10.1.0.x
	var frames []capture.Frame
	for i, g := range goldens {
		if len(g.frames) == 0 {
			continue
		}
		began := g.frames[0].Time
		for _, f := range readdressed(g.frames, firstNumber+i) {
			f.Time = time.Unix(0, 0).Add(f.Time.Sub(began))
			frames = append(frames, f)
		}
	}
	slices.SortStableFunc(frames, func(a, b capture.Frame) int { return a.Time.Compare(b.Time) })
	found := map[string][]judged{}
	flowsOf(frames, by, func(f *capture.Flow, v verify.Finding) {
		b := f.Server.Addr().AsSlice()
		number := int(b[1])<<8 | int(b[2])
		if len(b) == 16 {
			number = int(b[2])<<8 | int(b[3])
		}
		g := goldens[number-firstNumber]
		found[g.name] = append(found[g.name], g.labelled(f, v))
	})
	return found
}

// broken are all false verdicts and changes, in order.
func (m measurement) broken() []string {
	var all []string
	for _, t := range m.all() {
		all = append(all, t.wrong...)
		all = append(all, t.changed...)
	}
	return all
}

func (m measurement) all() []*tally {
	return slices.Concat([]*tally{m.goldens}, m.damaged, []*tally{m.merged}, m.corpora)
}

// print writes the matrices.
func (m measurement) print(out io.Writer) {
	printMatrix(out, m.goldens)
	sum := newTally("damaged, wrapped and merged")
	for _, t := range m.damaged {
		sum.join(t)
	}
	sum.join(m.merged)
	printMatrix(out, sum)
	for _, t := range m.corpora {
		printMatrix(out, t)
	}
	fmt.Fprintf(out, "%-28s %6s %16s %16s %8s %8s %8s\n", "variant", "flows", "sealed, seen so", "clear, seen so", "false", "false", "changed")
	fmt.Fprintf(out, "%-28s %6s %16s %16s %8s %8s\n", "", "", "", "", "sealed", "plain")
	for _, t := range m.all() {
		fmt.Fprintf(out, "%-28s %6d %16s %16s %8d %8d %8d\n", t.name, t.flows("", truths...),
			share(t.flows("sealed", sealed), t.flows("", sealed)),
			share(t.flows("plaintext", inClear, mixed), t.flows("", inClear, mixed)),
			t.wrongs(falseSealed), t.wrongs(falsePlaintext), len(t.changed))
	}
}

// wrongs counts the wrong ones of a kind.
func (t *tally) wrongs(kind string) int {
	n := 0
	for _, w := range t.wrong {
		if strings.HasPrefix(w, kind) {
			n++
		}
	}
	return n
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d %3d %%", n, of, n*100/of)
}

func printMatrix(out io.Writer, t *tally) {
	fmt.Fprintf(out, "%s: %d flows\n\n", t.name, t.flows("", truths...))
	fmt.Fprintf(out, "  %-16s", "in truth")
	for _, c := range classes {
		fmt.Fprintf(out, "%11s", c)
	}
	fmt.Fprintln(out)
	for _, in := range truths {
		if len(t.counts[in]) == 0 {
			continue
		}
		fmt.Fprintf(out, "  %-16s", cmp.Or(string(in), "no label"))
		for _, c := range classes {
			fmt.Fprintf(out, "%11d", t.counts[in][c])
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
}
