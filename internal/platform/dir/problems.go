package dir

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that keeps objects from being a state.
type Problem struct {
	File     string // relative to the directory; empty if it is about none
	Document int    // of the file, from 1
	Object   string // "Kind namespace/name" as far as it can be told
	Key      string // path of the field, such as spec.ports[0]
	Message  string // the value, and what is allowed
}

// String is the problem in one line.
func (p Problem) String() string {
	var parts []string
	if p.File != "" {
		parts = append(parts, p.File)
	}
	if p.Document > 0 {
		parts = append(parts, fmt.Sprintf("document %d", p.Document))
	}
	for _, s := range []string{p.Object, p.Key, p.Message} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Problems is every problem at once, as an error of one line each, ordered by
// file and document.
type Problems []Problem

// Error lists all problems.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err is the problems in order, or nil if there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.Document - b.Document
	})
	return ps
}

// place is where an object stands.
type place struct {
	file     string
	document int
	object   string
}

// String is how another object's problem refers to this one.
func (at place) String() string {
	return fmt.Sprintf("%s (%s document %d)", at.object, at.file, at.document)
}

func (at place) problem(key, format string, args ...any) Problem {
	return Problem{File: at.file, Document: at.document, Object: at.object, Key: key, Message: fmt.Sprintf(format, args...)}
}
