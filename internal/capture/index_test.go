package capture

import (
	"testing"

	"pgregory.net/rapid"
)

// TestTheIndexIsAMap puts and removes at random, and holds the index against
// Go's map. Few slots make for long probes.
func TestTheIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		model := make(map[key]*Flow)
		for range rapid.IntRange(0, 2000).Draw(t, "steps") {
			k := key{scope: uint32(rapid.IntRange(1, 3).Draw(t, "scope"))}
			k.ends.aPort = uint16(rapid.IntRange(0, 400).Draw(t, "port"))
			switch f := model[k]; {
			case f == nil || rapid.Bool().Draw(t, "replace"):
				f = &Flow{state: state{key: key{ends: k.ends}}}
				model[k] = f
				x.put(&k, f)
			default:
				x.remove(&k, &Flow{}) // another's: nothing happens
				x.remove(&k, f)
				delete(model, k)
			}
			if x.find(&k) != model[k] || x.n != len(model) {
				t.Fatalf("%d entries, want %d", x.n, len(model))
			}
		}
		for k, f := range model {
			if x.find(&k) != f {
				t.Fatalf("a flow is not found")
			}
		}
	})
}
