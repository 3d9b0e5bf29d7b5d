package report

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes a text from a capture safe to look at. What could move the cursor,
// change colours, hide, or turn around what stands beside it is written as an
// escape: control characters, invisible and combining ones, everything that is
// written from right to left, and bytes that are no UTF-8.
func clean(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case harmless(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// plain reports whether all of s is printable ASCII.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// harmless reports whether a character stands still in its own place.
func harmless(r rune) bool {
	return r == ' ' || unicode.In(r, unicode.L, unicode.N, unicode.P, unicode.S) && !rightToLeft(r) && !blank(r)
}

// rightToLeft covers the blocks of the scripts that Unicode's bidirectional
// algorithm turns around (DerivedBidiClass.txt: R and AL, by default too).
func rightToLeft(r rune) bool {
	return r >= 0x0590 && r <= 0x08ff || r >= 0xfb1d && r <= 0xfdff || r >= 0xfe70 && r <= 0xfeff ||
		r >= 0x10800 && r <= 0x10fff || r >= 0x1e800 && r <= 0x1efff
}

// blank covers letters and symbols that show nothing.
func blank(r rune) bool {
	switch r {
	case 0x115f, 0x1160, 0x2800, 0x3164, 0xffa0:
		return true
	}
	return false
}
