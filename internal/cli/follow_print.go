package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/decrypt"
)

// printer writes a story. Every line that a flow has a say in begins with a mark of
// its side, so that no content can pass for a line of ours.
type printer struct {
	out     io.Writer
	hex     bool
	colours bool
}

// Marks and colours of the two sides.
var (
	sideMarks   = [...]string{decrypt.Client: "→", decrypt.Server: "←"}
	sideColours = [...]string{decrypt.Client: "\x1b[36m", decrypt.Server: "\x1b[33m"}
)

const plain = "\x1b[0m"

func (p printer) print(s story) error {
	out := bufio.NewWriter(p.out)
	for _, line := range s.head {
		fmt.Fprintln(out, line)
	}
	fmt.Fprintln(out)
	if len(s.turns) == 0 {
		fmt.Fprintln(out, "nothing was said")
	}
	for _, t := range append(s.turns, s.ends...) {
		p.turn(out, t)
	}
	return out.Flush()
}

func (p printer) turn(out io.Writer, t turn) {
	number := ""
	if t.packet > 0 {
		number = fmt.Sprint(t.packet)
	}
	line := func(number, text string) {
		head := fmt.Sprintf("%s %6s  ", sideMarks[t.from], number)
		text = strings.TrimRight(head+text, " ")
		if p.colours {
			text = sideColours[t.from] + text + plain
		}
		fmt.Fprintln(out, text)
	}
	switch {
	case t.note != "":
		line(number, "["+t.note+"]")
	case t.hidden > 0:
		line(number, fmt.Sprintf("[%d bytes not shown]", t.hidden))
	case p.hex:
		for at := 0; at < len(t.data); at += 16 {
			line(number, hexLine(t.offset+at, t.data[at:min(at+16, len(t.data))]))
			number = ""
		}
	default:
		for text := range strings.Lines(readable(t.data)) {
			line(number, strings.TrimSuffix(text, "\n"))
			number = ""
		}
	}
}

// readable is bytes as text: line ends and tabs are kept, whatever else is not to
// be seen as a character is escaped.
func readable(data []byte) string {
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	var b strings.Builder
	b.Grow(len(data))
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == '\n' || r == '\t' || r != utf8.RuneError && unicode.IsPrint(r):
			b.WriteRune(r)
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, data[0])
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
		data = data[n:]
	}
	return b.String()
}

// neutral is a text in one line.
func neutral(s string) string {
	return strings.NewReplacer("\n", `\x0a`, "\t", `\x09`).Replace(readable([]byte(s)))
}

// hexLine is up to 16 bytes as hexdump -C shows them.
func hexLine(offset int, data []byte) string {
	var digits, text strings.Builder
	for i := range 16 {
		if i == 8 {
			digits.WriteByte(' ')
		}
		if i >= len(data) {
			digits.WriteString("   ")
			continue
		}
		fmt.Fprintf(&digits, "%02x ", data[i])
		if c := data[i]; c >= ' ' && c < 0x7f {
			text.WriteByte(c)
		} else {
			text.WriteByte('.')
		}
	}
	return fmt.Sprintf("%08x  %s |%s|", offset, digits.String(), text.String())
}
