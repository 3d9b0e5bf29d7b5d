package arch

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a person may meet in a log, a metric or an error is explained in docs/,
// and docs/ explains nothing that does not exist.
func TestDocsListEveryCodeReasonAndMetric(t *testing.T) {
	for document, words := range map[string][]string{
		"docs/identity.md": constants(t, "internal/ca", "Code"),
		"docs/metrics.md":  slices.Concat(constants(t, "internal/policy", "Reason"), metricNames(t)),
	} {
		slices.Sort(words)
		if diff := cmp.Diff(words, tableWords(t, document)); diff != "" {
			t.Errorf("%s: -code +docs:\n%s", document, diff)
		}
	}
}

// constants returns the values of the string constants of a type, but "".
func constants(t *testing.T, dir, typeName string) []string {
	t.Helper()
	var words []string
	for _, path := range module(t)["./"+dir].Files {
		f, err := readFile(path)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if named, ok := spec.Type.(*ast.Ident); !ok || named.Name != typeName {
				return true
			}
			for _, v := range spec.Values {
				if literal, ok := v.(*ast.BasicLit); ok && literal.Kind == token.STRING && literal.Value != `""` {
					words = append(words, unquote(t, literal.Value))
				}
			}
			return true
		})
	}
	return words
}

// metricNames returns every string of the module's code that names a metric.
func metricNames(t *testing.T) []string {
	t.Helper()
	name := regexp.MustCompile(`^"sealmesh_[a-z_]+"$`)
	var words []string
	for _, p := range module(t) {
		for _, path := range p.Files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := readFile(path)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f.tree, func(n ast.Node) bool {
				if literal, ok := n.(*ast.BasicLit); ok && name.MatchString(literal.Value) {
					words = append(words, unquote(t, literal.Value))
				}
				return true
			})
		}
	}
	return words
}

// tableWords returns what the rows of a document's tables begin with, where that
// is one word in code.
func tableWords(t *testing.T, document string) []string {
	t.Helper()
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	var words []string
	for _, m := range row.FindAllStringSubmatch(read(t, filepath.Join(root, document)), -1) {
		words = append(words, m[1])
	}
	slices.Sort(words)
	return words
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	word, err := strconv.Unquote(s)
	if err != nil {
		t.Fatal(err)
	}
	return word
}
