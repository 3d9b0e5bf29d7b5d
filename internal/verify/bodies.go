package verify

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/capture"
	chance "github.com/sealmesh/sealmesh/internal/dissect/random"
)

// A body that claims to be sealed has no sealedRun readable bytes in a row, which
// random bytes of a whole window have once in 10^10, nor is it readable
// throughout, if it has as many as sealedWhole.
const (
	sealedRun   = 32
	sealedWhole = 20
)

// readableRunIn is the length of the longest run of printable ASCII and blanks.
func readableRunIn(b []byte) int {
	longest, n := 0, 0
	for _, c := range b {
		n++
		if (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			n = 0
		}
		longest = max(longest, n)
	}
	return longest
}

// allReadable reports whether a datagram is text, in whatever language.
func allReadable(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool {
		return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r >= 0x7f && r < 0xa0
	})
}

// refute says why bodies that claim to be sealed are not, or nil if nothing
// contradicts it; tag is the length of the authentication tag at the end of each.
// It proves nothing: compressed bytes pass too.
func refute(bodies [][]byte, tag int) error {
	var whole, content, tags []byte
	for _, b := range bodies {
		if n := readableRunIn(b); n >= sealedRun || n == len(b) && n >= sealedWhole {
			return fmt.Errorf("%d bytes that should be sealed are readable", n)
		}
		if !chance.Plausible(b) {
			return errNotRandom
		}
		inside := max(len(b)-tag, 0)
		whole = append(whole, b...)
		content = append(content, b[:inside]...)
		tags = append(tags, b[inside:]...)
	}
	for _, all := range [][]byte{whole, content, tags} {
		if !chance.Plausible(all) {
			return errNotRandom
		}
	}
	if !chance.Unrelated(bodies) {
		return errors.New("bytes that should be sealed are the same from one message to the next")
	}
	return nil
}

var errNotRandom = errors.New("bytes that should be sealed do not look random")

// datagrams are those of a direction that carry anything, each once: a packet may
// be captured twice on its way.
func datagrams(d *capture.Direction) iter.Seq[capture.Chunk] {
	return func(yield func(capture.Chunk) bool) {
		for i, c := range d.Chunks {
			again := func(before capture.Chunk) bool { return before.Cut == c.Cut && bytes.Equal(before.Data, c.Data) }
			if len(c.Data)+c.Cut == 0 || slices.ContainsFunc(d.Chunks[:i], again) {
				continue
			}
			if !yield(c) {
				return
			}
		}
	}
}

// firstDatagram is the first that carries anything, and its length on the wire.
func firstDatagram(d *capture.Direction) (captured []byte, length int) {
	for c := range datagrams(d) {
		return c.Data, len(c.Data) + c.Cut
	}
	return nil, 0
}
