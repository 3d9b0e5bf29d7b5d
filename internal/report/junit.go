package report

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// The elements of JUnit's XML that CI systems read.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Name    string       `xml:"name,attr"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr,omitempty"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitProblem `xml:"failure"`
	Error   *junitProblem `xml:"error"`
	Skipped *junitProblem `xml:"skipped"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitProblem struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes one suite: a case for each edge, for each expectation, and
// for the capture itself, which errs where it did not see enough. An edge that
// is not sealed fails; one that is in doubt errs; one that is exempt is skipped.
func writeJUnit(w *bufio.Writer, d *Document) error {
	s := junitSuite{Name: "sealmesh verify", Time: "0", Timestamp: timestamp(d.Meta.First), Properties: junitProperties(d)}
	for _, e := range edgesOf(d.Flows) {
		s.add(junitEdge(e))
	}
	for _, o := range d.Expected {
		c := junitCase{Class: "expectation", Name: clean(o.Name + ": " + o.Seal), Output: countFlows(o.Flows)}
		if problem := outcomeWords(o); problem != "" {
			c.Failure = &junitProblem{Message: problem, Type: "expectation"}
		}
		s.add(c)
	}
	s.add(junitCapture(d))
	if _, err := w.WriteString(xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(junitSuites{Name: "sealmesh", Suites: []junitSuite{s}}); err != nil {
		return err
	}
	return w.WriteByte('\n')
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
	c.Time = "0"
	s.Cases = append(s.Cases, c)
}

func junitEdge(e *Edge) junitCase {
	c := junitCase{Class: "edge", Name: clean(edgeName(e)), Output: edgeText(e)}
	p := &junitProblem{Message: clean(edgeProblem(e)), Type: string(e.Verdict), Text: edgeText(e)}
	switch e.Class {
	case Leaks:
		c.Failure = p
	case Doubtful:
		c.Error = p
	case Quiet:
		c.Skipped = &junitProblem{Message: "no payload in either direction"}
	case Excused:
		c.Skipped = &junitProblem{Message: clean("exempt: " + e.Exempt)}
	}
	if c.Failure != nil || c.Error != nil {
		c.Output = ""
	}
	return c
}

// junitCapture says whether enough was seen.
func junitCapture(d *Document) junitCase {
	c := junitCase{Class: "capture", Name: "enough was seen", Output: factLine(facts(d.Coverage))}
	switch {
	case d.Result == verify.Inconclusive:
		c.Error = &junitProblem{Message: "inconclusive", Type: "inconclusive", Text: clean(strings.Join(d.Doubts, "; "))}
	case len(d.Doubts) > 0:
		c.Output += "; " + clean(strings.Join(d.Doubts, "; "))
	}
	return c
}

func junitProperties(d *Document) []junitProperty {
	all := []junitProperty{{"result", string(d.Result)}, {"sealmesh.version", d.Meta.Version}, {"command", clean(d.Meta.Command)}}
	for _, f := range d.Meta.Files {
		all = append(all, junitProperty{"file", clean(f.Name)})
	}
	return all
}

// timestamp is a moment as RFC 3339 has it, or nothing.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// edgeName tells an edge from others.
func edgeName(e *Edge) string {
	name := fmt.Sprintf("%s → %s %s (%s)", e.Client, e.Server, e.Proto, sealedHow(e))
	if where := whereWords(e); where != "" {
		name += " at " + where
	}
	return name
}

// edgeProblem says in a line what is wrong with an edge.
func edgeProblem(e *Edge) string {
	switch {
	case e.Violates != "":
		return "not as expected: " + e.Violates
	case e.Verdict == verify.Plaintext:
		return "plaintext " + e.Protocol + evidenceTail(e)
	case e.Weak != "":
		return "weak: " + e.Weak
	case e.Verdict.Seals():
		return e.Notes.String()
	}
	return cmp.Or(e.Reasons.String(), string(e.Verdict))
}

// evidenceTail is the evidence of an edge behind a colon.
func evidenceTail(e *Edge) string {
	if len(e.Examples) == 0 || e.Examples[0].Evidence == nil {
		return ""
	}
	return ": " + evidenceWords(e.Examples[0].Evidence)
}

// edgeText says of an edge what the table says of it.
func edgeText(e *Edge) string {
	lines := []string{fmt.Sprintf("%s, %s", countFlows(e.Flows), Size(e.Bytes[0]+e.Bytes[1]))}
	line := func(what, text string) {
		if text != "" {
			lines = append(lines, what+": "+text)
		}
	}
	line("cipher", e.Cipher)
	line("group", e.Group)
	line("weak", e.Weak)
	if e.Attested != nil {
		line("attested by "+byWords(e.Attested.By), e.Attested.Client+" → "+e.Attested.Server)
	}
	if e.Decrypted != nil {
		line("decrypted", peersWords(e.Decrypted))
	}
	line("seen", e.Names.String())
	for _, f := range e.Examples {
		if f.Evidence != nil {
			line(fmt.Sprintf("evidence of flow %d", f.Number), evidenceWords(f.Evidence))
		}
	}
	line("because", e.Reasons.String())
	line("note", e.Notes.String())
	for i, l := range lines {
		lines[i] = clean(l)
	}
	return strings.Join(lines, "\n")
}
