package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
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
	separator := "\n    "
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
		separator = ",\n    "
	}
	if separator[0] == ',' {
		separator = "\n  "
	} else {
		separator = ""
	}
	_, err = w.WriteString(separator + "]\n}\n")
	return err
}

// pairs are two numbers on lines of their own. No string holds such: a line break
// in one is escaped.
var pairs = regexp.MustCompile(`\[\n *(\d+),\n *(\d+)\n *\]`)

// marshal indents a value by two blanks for each level, below a prefix, and leaves
// two numbers on one line.
func marshal(v any, prefix string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, "  ")
	err := e.Encode(v)
	return pairs.ReplaceAll(bytes.TrimSuffix(b.Bytes(), []byte("\n")), []byte("[$1, $2]")), err
}

// writePlain writes JSON with every character escaped that clean would escape:
// the value is the same, and a terminal shows it as it is. Such characters stand
// within strings only.
func writePlain(w *bufio.Writer, b []byte) error {
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == '\n' || harmless(r) {
			if _, err := w.Write(b[:n]); err != nil {
				return err
			}
		} else if err := writeEscaped(w, r); err != nil {
			return err
		}
		b = b[n:]
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
