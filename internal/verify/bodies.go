package verify

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sealmesh/sealmesh/internal/capture"
	chance "github.com/sealmesh/sealmesh/internal/dissect/random"
)

// refute says why bodies that claim to be sealed are not, or nil if nothing
// contradicts it; tag is the length of the authentication tag at the end of each.
// It proves nothing: compressed bytes pass too.
func refute(bodies [][]byte, tag int) error {
	var whole, content, tags []byte
	for _, b := range bodies {
		if _, n := run(b, readableSealed); n > 0 {
			return fmt.Errorf("%d readable bytes in a row", n)
		}
		if n := printablePrefix(b); n == len(b) && n >= readableWhole {
			return fmt.Errorf("%d bytes, all of them readable", n)
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

// datagrams are those of a direction that carry anything, without those that are
// the same as the one before: a packet may be captured twice on its way.
func datagrams(d *capture.Direction) []capture.Chunk {
	var all []capture.Chunk
	for _, c := range d.Chunks {
		if len(c.Data)+c.Cut == 0 {
			continue
		}
		if n := len(all); n > 0 && all[n-1].Cut == c.Cut && bytes.Equal(all[n-1].Data, c.Data) {
			continue
		}
		all = append(all, c)
	}
	return all
}
