// Package report shows a judgement: to a person, to a program, to a CI job, to an
// auditor. It judges nothing itself and changes no verdict.
//
//	verify.Report ──► Document ──► edges ──► table, junit, sarif, html
//	                  report.go    edge.go
//	                     └──► every flow ──► wide, json
//
// Flows are read one by one and never held: only edges are, and of these a bounded
// number. What a capture holds was written by strangers: every text that came from
// it passes through clean (clean.go) on its way to a terminal and through
// html/template on its way to a page.
//
// Nothing here knows the time or the machine. The same document gives the same
// bytes.
package report

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// Format is how a judgement is written.
type Format string

// The formats.
const (
	// Table is for a person: one row for each edge, what matters most first.
	Table Format = "table"
	// Wide has one row for each flow and every column.
	Wide Format = "wide"
	// JSON is one object with every flow, for programs.
	JSON Format = "json"
	// JUnit has one test case for each edge, for CI jobs.
	JUnit Format = "junit"
	// SARIF 2.1.0 has one result for each finding, for code scanning.
	SARIF Format = "sarif"
	// HTML is one page that needs nothing else, for auditors.
	HTML Format = "html"
)

// Formats are all there are.
var Formats = []Format{Table, Wide, JSON, JUnit, SARIF, HTML}

// ParseFormat takes the name of a format.
func ParseFormat(s string) (Format, error) {
	names := make([]string, len(Formats))
	for i, f := range Formats {
		if string(f) == s {
			return f, nil
		}
		names[i] = string(f)
	}
	last := len(names) - 1
	return "", fmt.Errorf("must be %s or %s", strings.Join(names[:last], ", "), names[last])
}

// Document is a judgement and what is to be said about how it came about.
type Document struct {
	Meta     Meta
	Result   verify.Result
	Doubts   []string
	Coverage verify.Coverage
	// Flows in the order of their numbers; it may be ranged over again.
	Flows iter.Seq[verify.Finding]
	// Expected is how each expectation came out, Exempted how much each exemption
	// covers, both in the order of the file that asked for them.
	Expected []verify.Outcome
	Exempted []verify.Use
}

// Of is the document of a judgement.
func Of(r *verify.Report, m Meta) *Document {
	return &Document{
		Meta: m, Result: r.Result, Doubts: r.Doubts, Coverage: r.Coverage,
		Flows: r.Flows(), Expected: r.Expected, Exempted: r.Exemptions,
	}
}

// Meta says where a document comes from.
type Meta struct {
	// Command that repeats it, as typed in a shell.
	Command string
	Version string
	// First and Last packet. No document says when it was written: the same packets
	// are to give the same bytes.
	First, Last time.Time
	// Where the packets were taken from, in words, if not from files.
	Where string
	Files []File
}

// File is one capture file that was read.
type File struct {
	Name string
	// SHA256 of the whole file in hex, empty if it was not read to its end.
	SHA256 string
	Size   int64 // bytes
}

// Style is how a document is laid out on a terminal.
type Style struct {
	Color bool
	// Width in columns; 0 means 100.
	Width int
}

// Write writes a document.
func Write(w io.Writer, f Format, d *Document, s Style) error {
	if s.Width == 0 {
		s.Width = 100
	}
	b := bufio.NewWriterSize(w, 64<<10)
	if err := write(b, f, d, s); err != nil {
		return fmt.Errorf("writing the report as %s: %w", f, err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("writing the report as %s: %w", f, err)
	}
	return nil
}

func write(w *bufio.Writer, f Format, d *Document, s Style) error {
	switch f {
	case Table:
		return writeTable(w, d, s)
	case Wide:
		return writeWide(w, d, s)
	case JSON:
		return writeJSON(w, d)
	case JUnit:
		return writeJUnit(w, d)
	case SARIF:
		return writeSARIF(w, d)
	case HTML:
		return writeHTML(w, d)
	}
	return fmt.Errorf("%q is no format of a report", f)
}
