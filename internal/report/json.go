package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// summary is what stands before the flows.
type summary struct {
	Result   verify.Result    `json:"result"`
	Doubts   []string         `json:"doubts,omitempty"`
	Coverage verify.Coverage  `json:"coverage"`
	Expected []verify.Outcome `json:"expected,omitempty"`
	Exempted []verify.Use     `json:"exempted,omitempty"`
}

// writeJSON writes one object: the summary, and every flow as it comes.
func writeJSON(w *bufio.Writer, d *Document) error {
	head, err := marshal(summary{d.Result, d.Doubts, d.Coverage, d.Expected, d.Exempted}, "")
	if err != nil {
		return err
	}
	if err := writePlain(w, bytes.TrimSuffix(head, []byte("\n}"))); err != nil {
		return err
	}
	if _, err := w.WriteString(",\n  \"flows\": ["); err != nil {
		return err
	}
	separator, end := "\n    ", "]\n}\n"
	for f := range d.Flows {
		b, err := marshal(f, "    ")
		if err != nil {
			return fmt.Errorf("flow %d: %w", f.Number, err)
		}
		if _, err := w.WriteString(separator); err != nil {
			return err
		}
		if err := writePlain(w, b); err != nil {
			return err
		}
		separator, end = ",\n    ", "\n  ]\n}\n"
	}
	_, err = w.WriteString(end)
	return err
}

// marshal indents a value by two blanks for each level, below a prefix, and leaves
// two numbers on one line.
func marshal(v any, prefix string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, "  ")
	err := e.Encode(v)
	return joinPairs(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), err
}

// joinPairs puts lists of two numbers on one line, in place. No string looks like
// one: a line break in a string is escaped.
func joinPairs(b []byte) []byte {
	out := b[:0]
	for {
		at := bytes.Index(b, []byte("[\n"))
		if at < 0 {
			return append(out, b...)
		}
		out = append(out, b[:at+1]...)
		b = b[at+1:]
		first, rest := number(b)
		second, rest := number(bytes.TrimPrefix(rest, []byte(",")))
		rest = bytes.TrimLeft(rest, "\n ")
		if len(first) > 0 && len(second) > 0 && len(rest) > 0 && rest[0] == ']' {
			out = append(append(append(out, first...), ", "...), second...)
			b = rest
		}
	}
}

// number is the digits behind white space.
func number(b []byte) (digits, rest []byte) {
	b = bytes.TrimLeft(b, "\n ")
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return b[:n], b[n:]
}

// writePlain writes JSON with every character escaped that clean would escape:
// the value is the same, and a terminal shows it as it is. Such characters stand
// within strings only.
func writePlain(w *bufio.Writer, b []byte) error {
	for len(b) > 0 {
		n := 0
		for n < len(b) && (b[n] >= ' ' && b[n] <= '~' || b[n] == '\n') {
			n++
		}
		if _, err := w.Write(b[:n]); err != nil || n == len(b) {
			return err
		}
		r, size := utf8.DecodeRune(b[n:])
		if harmless(r) {
			if _, err := w.Write(b[n : n+size]); err != nil {
				return err
			}
		} else if err := writeEscaped(w, r); err != nil {
			return err
		}
		b = b[n+size:]
	}
	return nil
}

// writeEscaped writes a character by its number, as RFC 8259, section 7, has it.
func writeEscaped(w *bufio.Writer, r rune) error {
	if r > 0xffff {
		r -= 0x10000
		_, err := fmt.Fprintf(w, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		return err
	}
	_, err := fmt.Fprintf(w, `\u%04x`, r)
	return err
}
