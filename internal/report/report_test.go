package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/verify"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestEveryFormatIsAsItWas(t *testing.T) {
	for name, d := range documents() {
		for _, f := range Formats {
			t.Run(name+"/"+string(f), func(t *testing.T) { golden(t, name+"."+string(f), render(t, f, d, Style{})) })
		}
	}
	golden(t, "leaky.table-color", render(t, Table, documents()["leaky"], Style{Color: true, Width: 80}))
}

func render(t testing.TB, f Format, d *Document, s Style) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, f, d, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil { //nolint:gosec // a golden file is for everyone
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (write it anew with -update): %s", path, cmp.Diff(string(want), string(got)))
	}
}

func TestTheSameDocumentGivesTheSameBytes(t *testing.T) {
	for _, f := range Formats {
		first := render(t, f, documents()["leaky"], Style{})
		for range 20 {
			if !bytes.Equal(first, render(t, f, documents()["leaky"], Style{})) {
				t.Fatalf("%s differs from run to run", f)
			}
		}
	}
}

// What a stranger sent must not move a cursor, hide, or turn text around.
func TestNothingFromTheWireMovesACursor(t *testing.T) {
	harmlessInEveryFormat(t, trap)
	for _, width := range []int{20, 80, 1000} {
		for _, f := range []Format{Table, Wide} {
			out := render(t, f, hostile(trap), Style{Color: true, Width: width})
			out = regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAll(out, nil)
			if bytes.ContainsRune(out, '\x1b') {
				t.Errorf("%s: an escape sequence that is not ours: %q", f, out)
			}
		}
	}
}

func harmlessInEveryFormat(t *testing.T, trap string) {
	t.Helper()
	for _, f := range Formats {
		for _, r := range string(render(t, f, hostile(trap), Style{})) {
			if r != '\n' && !harmless(r) {
				t.Errorf("%s: prints %q", f, r)
			}
		}
	}
}

func FuzzNothingFromTheWireMovesACursor(f *testing.F) {
	f.Add(trap)
	f.Add("{{template \"page\"}}]]>-->\\u001b[31m")
	f.Fuzz(harmlessInEveryFormat)
}

func TestCleanTextStaysAndTheRestIsEscaped(t *testing.T) {
	for in, want := range map[string]string{
		"GET / HTTP/1.1":       "GET / HTTP/1.1",
		"Grüße, 世界 → €":        "Grüße, 世界 → €",
		"a\tb\r\n":             `a\x09b\x0d\x0a`,
		"\x1b[31m":             `\x1b[31m`,
		"\u202eabc":            `\u202eabc`,
		"e\u0301":              `e\u0301`,
		"שלום":                 `\u05e9\u05dc\u05d5\u05dd`,
		"\xff\u200b\U000e0041": `\xff\u200b\U000e0041`,
		"\u00a0\u2028\u3164":   `\u00a0\u2028\u3164`,
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		once := clean(s)
		for _, r := range once {
			if !harmless(r) {
				t.Fatalf("clean(%q) keeps %q", s, r)
			}
		}
		if again := clean(once); again != once {
			t.Fatalf("clean(%q) = %q, and again %q", s, once, again)
		}
	})
}

// JSON is the same value as without escapes of ours.
func TestJSONHoldsEveryFlowAsItIs(t *testing.T) {
	for name, d := range documents() {
		var got struct {
			summary
			Flows []json.RawMessage `json:"flows"`
		}
		if err := json.Unmarshal(render(t, JSON, d, Style{}), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := summary{d.Result, d.Doubts, d.Coverage, d.Expected, d.Exempted}
		if name != "hostile" { // bytes that are no UTF-8 have no place in JSON
			if diff := cmp.Diff(want, got.summary); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		flows := slices.Collect(d.Flows)
		if len(flows) != len(got.Flows) || got.Flows == nil {
			t.Fatalf("%s: %d flows in %d", name, len(flows), len(got.Flows))
		}
		for i, f := range flows {
			plain, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value(t, plain), value(t, got.Flows[i])); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

func value(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A page holds exactly the elements that its template has: nothing of what was
// captured becomes markup.
func TestAPageHoldsNoMarkupOfOthers(t *testing.T) {
	page := string(render(t, HTML, hostile(trap), Style{}))
	for _, bad := range []string{"<script", "javascript:", "{{", "<img", "http://", "https://", "url(", "@import", "<link", "src=", "href=\"h"} {
		if at := strings.Index(page, bad); at >= 0 && bad != "{{" {
			t.Errorf("page holds %q: %s", bad, page[max(at-60, 0):at+60])
		}
	}
	if !strings.Contains(page, "&lt;script&gt;alert(1)&lt;/script&gt;") {
		t.Error("the evidence is not shown")
	}
	elements := regexp.MustCompile(`</?([a-zA-Z0-9]+)`)
	known := map[string]bool{}
	for _, m := range elements.FindAllStringSubmatch(pageSource, -1) {
		known[m[1]] = true
	}
	for _, m := range elements.FindAllStringSubmatch(page, -1) {
		if !known[m[1]] {
			t.Errorf("page has an element <%s>, its template has none", m[1])
		}
	}
	balanced(t, page)
}

// balanced reads a page as XML, which it is but for its empty elements.
func balanced(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = true, []string{"meta", "br"}, xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("page: %v", err)
		}
	}
}

func TestJUnitCountsAsCIJobsDo(t *testing.T) {
	for name, d := range documents() {
		var got junitSuites
		if err := xml.Unmarshal(render(t, JUnit, d, Style{}), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := got.Suites[0]
		var n [4]int
		for _, c := range s.Cases {
			n[0]++
			for i, p := range []*junitProblem{c.Failure, c.Error, c.Skipped} {
				if p != nil {
					n[i+1]++
				}
			}
		}
		if n != [4]int{s.Tests, s.Failures, s.Errors, s.Skipped} {
			t.Errorf("%s: counts %v of %+v", name, n, s)
		}
		if pass := s.Failures+s.Errors == 0; pass != (d.Result == verify.Sealed) {
			t.Errorf("%s: the suite passes: %v, the result is %s", name, pass, d.Result)
		}
	}
}

func TestEdgesAreBoundedAndNothingIsLost(t *testing.T) {
	const flows = maxEdges + 5000
	edges := edgesOf(func(yield func(verify.Finding) bool) {
		for i := range flows {
			f := http(i+1, "10.1.0.3:51000")
			if i%2 == 0 {
				f = mtls(i+1, "")
			}
			f.Src = fmt.Sprintf("10.%d.%d.%d:4000", i>>16&255, i>>8&255, i&255)
			if !yield(f) {
				return
			}
		}
	})
	if len(edges) > maxEdges+4 {
		t.Errorf("%d edges", len(edges))
	}
	counted := tallies(edges)
	if counted[Leaks].Flows != flows/2 || counted[Holds].Flows != flows/2 {
		t.Errorf("flows: %v", counted)
	}
}

func TestTablesFitThePage(t *testing.T) {
	for _, width := range []int{60, 80, 100, 140} {
		for name, d := range documents() {
			for line := range strings.SplitSeq(string(render(t, Table, d, Style{Width: width})), "\n") {
				// Two IPv6 addresses with a port are wider than a narrow page.
				if n := utf8.RuneCountInString(line); n > width && (name != "ipv6" || width >= 100) && name != "hostile" {
					t.Errorf("%s at %d: a line of %d: %s", name, width, n, line)
				}
			}
		}
	}
}

func TestWordsReadWell(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	want := []string{"one two", "three"}
	if got := wrap("one two three", 20); len(got) != 1 {
		t.Errorf("wrapped %q", got)
	}
	if got := wrap("aaaaaaaaaa bbbbbbbbbbbb", 20); !slices.Equal(got, []string{"aaaaaaaaaa", "bbbbbbbbbbbb"}) {
		t.Errorf("wrapped %q, as in %q", got, want)
	}
	if _, err := ParseFormat("xml"); err == nil || err.Error() != "must be table, wide, json, junit, sarif or html" {
		t.Errorf("error: %v", err)
	}
}

// A full disk or a closed pipe is an error, not a short report.
func TestAWriterThatFailsIsAnError(t *testing.T) {
	for _, f := range Formats {
		if err := Write(failing{}, f, documents()["leaky"], Style{}); err == nil {
			t.Errorf("%s: no error", f)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The schema's own words for what must be there and what may be said.
func TestSARIFIsOfItsSchema(t *testing.T) {
	for name, d := range documents() {
		var got sarifLog
		dec := json.NewDecoder(bytes.NewReader(render(t, SARIF, d, Style{})))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Version != "2.1.0" || len(got.Runs) != 1 {
			t.Fatalf("%s: %+v", name, got)
		}
		run := got.Runs[0]
		for _, r := range run.Results {
			rule := run.Tool.Driver.Rules[r.RuleIndex]
			if rule.ID != r.RuleID || !slices.Contains([]string{"warning", "error"}, r.Level) || r.Kind != "fail" || r.Message.Text == "" {
				t.Errorf("%s: result %+v", name, r)
			}
			at := r.Locations[0].Physical
			if at == nil || at.Artifact.URI != run.Artifacts[*at.Artifact.Index].Location.URI {
				t.Errorf("%s: location %+v", name, at)
			} else if _, err := url.Parse(at.Artifact.URI); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, s := range r.Suppressions {
				if s.Kind != "external" || s.Status != "accepted" || s.Justification == "" {
					t.Errorf("%s: suppression %+v", name, s)
				}
			}
		}
		if clean := len(run.Results) == 0; clean != (d.Result == verify.Sealed) {
			t.Errorf("%s: %d results, and the result is %s", name, len(run.Results), d.Result)
		}
	}
}
