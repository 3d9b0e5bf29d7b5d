package verify

import (
	"encoding/binary"

	chance "github.com/sealmesh/sealmesh/internal/dissect/random"
)

// nonce is what stands where a cipher may send its nonce: in front of a sealed
// body, whose number in its session is known.
type nonce struct {
	number uint64
	bytes  []byte
}

// nonceStep is how far a counter may go from one message to the next of the same
// session: others may draw from it too.
const nonceStep = 256

// drawnOrCounted reports whether the nonces of one session could be drawn at
// random, as what is sealed is, or count its messages. Where nothing encrypts,
// ports or other fields of a header stand there, which do neither.
func drawnOrCounted(all []nonce) bool {
	heads := make([][]byte, 0, len(all))
	for _, n := range all {
		heads = append(heads, n.bytes)
	}
	return chance.Unrelated(heads) || counted(all)
}

// counted reports whether half of each nonce rises with the numbers of the
// messages, or is those with a mask, and the other half stays as it is: the last
// half, or the first where its last byte is the highest.
func counted(all []nonce) bool {
	big := func(b []byte) (uint32, string) { return binary.BigEndian.Uint32(b[4:]), string(b[:4]) }
	little := func(b []byte) (uint32, string) { return binary.LittleEndian.Uint32(b), string(b[4:8]) }
	for _, n := range all {
		if len(n.bytes) < nonceBytes {
			return false
		}
	}
	return countedAs(all, big) || countedAs(all, little)
}

func countedAs(all []nonce, read func([]byte) (count uint32, rest string)) bool {
	rises, masked := true, true
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		x, head := read(a.bytes)
		y, same := read(b.bytes)
		if head != same {
			return false
		}
		masked = masked && x^uint32(a.number) == y^uint32(b.number)
		steps, went := int64(b.number)-int64(a.number), int64(int32(y-x))
		if steps < 0 {
			steps, went = -steps, -went
		}
		rises = rises && went >= steps && went <= steps*nonceStep
	}
	return rises || masked
}
