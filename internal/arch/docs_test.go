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

// documents are what people read here, by path.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no documents: %v", pattern, err)
		}
		all = append(all, found...)
	}
	return all
}

// A link that leads nowhere misleads.
func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(#[^)]*)?\)`)
	for _, document := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, document), -1) {
			target := document
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(document), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", document, err)
			} else if m[2] != "" && !slices.Contains(anchorsOf(read(t, target)), m[2]) {
				t.Errorf("%s: %s has no heading %s", document, target, m[2])
			}
		}
	}
}

// anchorsOf are what a document's headings are linked by.
func anchorsOf(text string) []string {
	var anchors []string
	noWord := regexp.MustCompile(`[^\w -]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		words := noWord.ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, "#"+strings.ReplaceAll(words, " ", "-"))
	}
	return anchors
}

// A claim is as good as the test that is named for it.
func TestDocsNameOnlyTestsThatExist(t *testing.T) {
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)
	for _, p := range module(t) {
		for _, path := range p.Files {
			for _, m := range declared.FindAllStringSubmatch(read(t, path), -1) {
				exist[m[1]] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")
	for _, document := range documents(t) {
		for _, m := range named.FindAllStringSubmatch(read(t, document), -1) {
			if !exist[m[1]] {
				t.Errorf("%s: no test is called %s", document, m[1])
			}
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
