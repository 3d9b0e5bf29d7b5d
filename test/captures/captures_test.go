package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

func goldens(t *testing.T) []golden {
	t.Helper()
	all, err := loadGoldens("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEveryGoldenIsJudgedAsItIsLabelled(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.name, func(t *testing.T) {
			all := judgeScene(g.scene, g.frames, theJudge)
			for _, j := range all {
				for _, d := range j.differences() {
					t.Error(d)
				}
			}
			for _, l := range g.flows {
				if !slices.ContainsFunc(all, func(j judged) bool { return j.label.at == l.at }) {
					t.Errorf("%s: no such flow in the capture", l.at)
				}
			}
		})
	}
}

func TestNoDamageMakesAVerdictFalse(t *testing.T) {
	for _, b := range measure(goldens(t), theJudge).broken() {
		t.Error(b)
	}
}

// The captures of other people, which we do not ship, with what tshark says.
func TestTheCorpusIsJudgedAsTsharkSeesIt(t *testing.T) {
	files, told, err := loadCorpus("../../"+corpusDir, filepath.Join("testdata", corpusLabels))
	if err != nil {
		t.Fatal(err)
	}
	if files == nil {
		t.Skipf("not run: the corpus is not here: ../../%s", corpusDir)
	}
	for _, tally := range measureCorpus(files, told, theJudge) {
		for _, w := range tally.wrong {
			t.Error(w)
		}
	}
}

// The broken twins: a matrix that finds nothing wrong with these proves nothing.
func TestTheMatrixFindsAJudgeOut(t *testing.T) {
	all := goldens(t)
	always := func(v verify.Verdict) judge {
		return func(f *capture.Flow) verify.Finding {
			found := theJudge(f)
			found.Verdict = v
			return found
		}
	}
	moody := func(f *capture.Flow) verify.Finding {
		found := theJudge(f)
		if f.Overlay != "" {
			found.Verdict = verify.Unknown
		}
		return found
	}
	for name, tc := range map[string]struct {
		by   judge
		says string
		// in are tallies that must hold such an error.
		in func(*tally) bool
	}{
		"everything is sealed": {always(verify.TLS), falseSealed, func(*tally) bool { return true }},
		"everything is plaintext": {always(verify.Plaintext), falsePlaintext, func(t *tally) bool {
			return !slices.ContainsFunc(variants, func(v variant) bool { return v.name == t.name && v.kind == ofClear })
		}},
		"tunnels are not looked into": {moody, "before it was", func(t *tally) bool { return strings.Contains(t.name, "VXLAN") || t.name == "Geneve" }},
	} {
		t.Run(name, func(t *testing.T) {
			for _, tally := range measure(all, tc.by).all() {
				found := slices.ContainsFunc(slices.Concat(tally.wrong, tally.changed), func(s string) bool { return strings.Contains(s, tc.says) })
				if tc.in(tally) && !found {
					t.Errorf("%s: nothing is %q", tally.name, tc.says)
				}
			}
		})
	}
}

// A capture without a scene is labelled by nobody.
func TestEveryCaptureHasAScene(t *testing.T) {
	files, err := filepath.Glob("testdata/*.pcap*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, err := sceneNamed(strings.TrimSuffix(filepath.Base(file), ".pcap")); err != nil {
			t.Error(err)
		}
	}
	seen := map[string]bool{}
	for _, s := range scenes {
		if seen[s.name] {
			t.Errorf("two scenes are called %s", s.name)
		}
		seen[s.name] = true
	}
}

// What a lossless variant is called by is true: each flow's bytes are the same.
func TestLosslessVariantsLoseNothing(t *testing.T) {
	for _, v := range variants {
		if v.kind != lossless {
			continue
		}
		t.Run(v.name, func(t *testing.T) {
			for i, g := range goldens(t) {
				before, after := payloads(g, g.frames), payloads(g, v.make(g.frames, chance(i)))
				if !slices.Equal(before, after) {
					t.Errorf("%s: %d payloads, were %d", g.name, len(after), len(before))
				}
			}
		})
	}
}

// payloads are what the flows of a scene carry, each once: of TCP a direction, of
// all else a datagram.
func payloads(g golden, frames []capture.Frame) []string {
	var all []string
	judgeScene(g.scene, frames, func(f *capture.Flow) verify.Finding {
		for _, d := range []capture.Direction{f.ToServer, f.ToClient} {
			var stream []byte
			for _, c := range d.Chunks {
				if f.Proto != capture.TCP {
					all = append(all, string(c.Data))
				}
				stream = append(stream, c.Data...)
			}
			if f.Proto == capture.TCP {
				all = append(all, string(stream))
			}
		}
		return verify.Finding{}
	})
	slices.Sort(all)
	return slices.Compact(all)
}
