package dir

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"

	"github.com/sealmesh/sealmesh/internal/platform"
)

var update = flag.Bool("update", false, "write what Parse says into the goldens")

// TestParseSaysWhatIsWrongAndWhatIsAllowed compares with testdata/parse: files
// of a directory, and last "want", the problems or the state.
func TestParseSaysWhatIsWrongAndWhatIsAllowed(t *testing.T) {
	for _, path := range goldens(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			archive, files, want := readGolden(t, path)
			got := outcome(t, files)
			if *update {
				want.Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(want.Data), got); diff != "" {
				t.Errorf("-want +got (run with -update if got is right):\n%s", diff)
			}
		})
	}
}

func goldens(t testing.TB) []string {
	paths, err := filepath.Glob("testdata/parse/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	return paths
}

func readGolden(t testing.TB, path string) (a *txtar.Archive, files map[string][]byte, want *txtar.File) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	for i, f := range a.Files {
		if f.Name == "want" {
			want = &a.Files[i]
			continue
		}
		files[f.Name] = f.Data
	}
	if want == nil {
		t.Fatalf("%s has no section want", path)
	}
	return a, files, want
}

// outcome is what Parse says: its problems, or the state as JSON.
func outcome(t *testing.T, files map[string][]byte) string {
	t.Helper()
	state, err := Parse(files)
	if err != nil {
		return err.Error() + "\n"
	}
	text, err := json.MarshalIndent(map[string]any{
		"mesh": state.Mesh, "nodes": state.Nodes, "workloads": state.Workloads, "services": state.Services, "bundles": len(state.Bundles),
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// BenchmarkParse reads a large mesh: 5,000 workloads in one file.
func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "---\n%s", strings.Replace(workloadYAML(fmt.Sprintf("w%d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)), "spec: {", fmt.Sprintf("spec: {netns: /run/netns/w%d, ", i), 1))
	}
	files := map[string][]byte{"mesh.yaml": []byte(meshYAML), "workloads.yaml": []byte(text.String())}
	for b.Loop() {
		if _, err := Parse(files); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzParse: never panics, is the same each time, and what it accepts, written
// out again, is the same state.
func FuzzParse(f *testing.F) {
	for _, path := range goldens(f) {
		_, files, _ := readGolden(f, path)
		for _, content := range files {
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		first, err := Parse(map[string][]byte{"a.yaml": content})
		_, again := Parse(map[string][]byte{"a.yaml": content})
		if diff := cmp.Diff(err, again); diff != "" {
			t.Fatalf("two answers:\n%s", diff)
		}
		if err != nil {
			return
		}
		written := encode(t, first)
		second, err := Parse(written)
		if err != nil {
			t.Fatalf("refuses what it accepted: %v\n%s", err, written)
		}
		if diff := cmp.Diff(encode(t, first), encode(t, second)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// encode writes a state as a directory.
func encode(t *testing.T, s *platform.State) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	add := func(name string, object any) {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = text
	}
	add("mesh.yaml", s.Mesh)
	for _, o := range s.Bundles {
		add("b-"+o.Metadata.Name+".yaml", o)
	}
	for _, o := range s.Nodes {
		add("n-"+o.Metadata.Name+".yaml", o)
	}
	for _, o := range s.Workloads {
		add("w-"+o.Metadata.Namespace+"-"+o.Metadata.Name+".yaml", o)
	}
	for _, o := range s.Services {
		add("s-"+o.Metadata.Namespace+"-"+o.Metadata.Name+".yaml", o)
	}
	return files
}
