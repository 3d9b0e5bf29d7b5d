package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	Test        string
	Output      string
	Elapsed     float64 // seconds
	FailedBuild string
}

// test is one test or subtest while its package runs.
type test struct {
	name     string
	outcome  string // pass, fail or skip; "" while it runs
	parent   bool   // has subtests, which are counted instead of it
	failedIn bool   // a subtest of it failed, which is reported instead of it
	output   []string
}

// pkg is one package while its tests run.
type pkg struct {
	path   string
	tests  map[string]*test
	order  []*test
	output []string // of the package itself: panics, os.Exit, data races at its end
	seed   string   // that shuffled its tests, as go test takes it: "-shuffle=1"
}

// count is how many tests ended how.
type count struct{ passed, failed, skipped int }

func (c *count) add(o count) {
	c.passed += o.passed
	c.failed += o.failed
	c.skipped += o.skipped
}

// summary folds the events of a run. Only tests without subtests are counted,
// and a test that failed without a failing subtest.
type summary struct {
	print    *printer
	packages map[string]*pkg
	builds   map[string][]string // build output by import path
	said     map[string]bool     // lines of build output already printed
	total    count
	ran      int // packages that had tests
	failures []string
	skips    map[string][]string // tests by reason
	reasons  []string            // in the order met
}

func newSummary(p *printer) *summary {
	return &summary{print: p, packages: map[string]*pkg{}, builds: map[string][]string{}, said: map[string]bool{}, skips: map[string][]string{}}
}

// line takes one line of output. What is no event is printed as it is.
func (s *summary) line(b []byte) {
	var e event
	if err := json.Unmarshal(b, &e); err != nil || e.Action == "" {
		s.print.text(string(b) + "\n")
		return
	}
	switch {
	case e.Action == "build-output":
		s.builds[e.ImportPath] = append(s.builds[e.ImportPath], e.Output)
	case e.Package == "":
	case e.Test != "":
		s.testEvent(s.pkg(e.Package), e)
	default:
		s.packageEvent(s.pkg(e.Package), e)
	}
}

func (s *summary) pkg(path string) *pkg {
	p := s.packages[path]
	if p == nil {
		p = &pkg{path: path, tests: map[string]*test{}}
		s.packages[path] = p
	}
	return p
}

func (s *summary) testEvent(p *pkg, e event) {
	t := p.tests[e.Test]
	if t == nil {
		t = &test{name: e.Test}
		p.tests[e.Test] = t
		p.order = append(p.order, t)
		if parent := p.parentOf(t); parent != nil {
			parent.parent = true
		}
	}
	switch e.Action {
	case "output":
		if !isNoise(e.Output) {
			t.output = append(t.output, e.Output)
		}
	case "pass", "skip", "fail":
		t.outcome = e.Action
	}
}

// parentOf is the test that t is a subtest of, or nil.
func (p *pkg) parentOf(t *test) *test {
	if i := strings.LastIndexByte(t.name, '/'); i > 0 {
		return p.tests[t.name[:i]]
	}
	return nil
}

func (s *summary) packageEvent(p *pkg, e event) {
	switch e.Action {
	case "output":
		if seed, ok := strings.CutPrefix(e.Output, "-test.shuffle "); ok {
			p.seed = "-shuffle=" + strings.TrimSpace(seed)
			return
		}
		p.output = append(p.output, e.Output)
	case "pass", "skip":
		s.end(p, e)
	case "fail":
		if e.FailedBuild != "" {
			p.output = append(s.buildOutput(e.FailedBuild), p.output...)
		}
		s.end(p, e)
	}
}

// buildOutput is what the compiler said of an import path, without the lines it
// has said before: one mistake fails every package that imports it.
func (s *summary) buildOutput(path string) []string {
	return slices.DeleteFunc(s.builds[path], func(line string) bool {
		said := s.said[line]
		s.said[line] = true
		return said
	})
}

// end counts a package that has ended and prints what is to be said of it.
func (s *summary) end(p *pkg, e event) {
	delete(s.packages, p.path)
	c, failed := p.judge()
	if e.Action == "fail" && (c.failed == 0 || p.raced()) {
		// It did not build, was killed, or exited or raced outside its tests.
		c.failed++
		failed = append(failed, &test{output: p.output})
	}
	for _, t := range p.order {
		if t.outcome == "skip" {
			s.skip(skipReason(t.output), p.short()+" "+t.name)
		}
	}
	s.total.add(c)
	if c == (count{}) {
		return // a package without tests is not worth a line
	}
	s.ran++
	s.print.pkg(p.short(), c, time.Duration(e.Elapsed*float64(time.Second)))
	for _, t := range failed {
		name := strings.TrimSpace(p.short() + " " + t.name)
		s.failures = append(s.failures, name)
		s.print.failure(name, p.seed, t.output)
	}
}

// judge counts the tests of a package and returns those that failed.
func (p *pkg) judge() (c count, failed []*test) {
	for _, t := range slices.Backward(p.order) { // subtests stand after their parents
		switch {
		case t.outcome == "skip":
			c.skipped++
		case t.outcome == "pass" && !t.parent:
			c.passed++
		case t.outcome == "fail" && !t.failedIn, t.outcome == "" && !t.parent:
			if t.outcome == "" {
				t.output = append(t.output, "did not finish\n")
			}
			c.failed++
			failed = append(failed, t)
			for up := p.parentOf(t); up != nil; up = p.parentOf(up) {
				up.failedIn = true
			}
		}
	}
	slices.Reverse(failed)
	return c, failed
}

// raced reports whether there was a data race or a panic outside the tests.
func (p *pkg) raced() bool {
	return slices.ContainsFunc(p.output, func(line string) bool {
		return strings.Contains(line, "race detected outside of test") || strings.HasPrefix(line, "panic:")
	})
}

// short is the package's path within the module.
func (p *pkg) short() string {
	return strings.TrimPrefix(p.path, "github.com/sealmesh/sealmesh/")
}

func (s *summary) skip(reason, name string) {
	if s.skips[reason] == nil {
		s.reasons = append(s.reasons, reason)
	}
	s.skips[reason] = append(s.skips[reason], name)
}

// finish prints the end of the story and reports whether all is well.
func (s *summary) finish(took time.Duration) bool {
	for _, path := range sortedKeys(s.packages) { // go test itself died
		p := s.packages[path]
		s.end(p, event{Action: "fail"})
	}
	s.print.end(s, took)
	return s.total.failed == 0 && s.total.passed > 0
}

func sortedKeys(m map[string]*pkg) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// position is the "file_test.go:12: " that the testing package puts before a message.
var position = regexp.MustCompile(`^\s*[\w.-]+\.go:\d+: `)

// skipReason is the message a test skipped with: the last line that it logged.
func skipReason(output []string) string {
	for _, line := range slices.Backward(output) {
		if at := position.FindString(line); at != "" {
			return strings.TrimSpace(line[len(at):])
		}
	}
	return "no reason given"
}

// isNoise reports whether a line only says that a test began, paused or ended.
func isNoise(line string) bool {
	line = strings.TrimLeft(line, " ")
	for _, prefix := range [...]string{"=== RUN", "=== PAUSE", "=== CONT", "=== NAME", "--- PASS", "--- SKIP", "--- FAIL"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}
