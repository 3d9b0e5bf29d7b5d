package quic

import (
	"bytes"
	"errors"
	"slices"
)

// maxCrypto bounds the handshake messages of Initial packets: hellos, of which
// none is nearly as long.
const (
	maxCrypto = 64 << 10
	maxSpans  = 256 // with gaps between them
)

// Stream puts the pieces of the handshake of one side together, which may come
// in any order and more than once. The zero value is empty.
type Stream struct {
	data []byte
	have []span // in order, apart from each other
}

type span struct{ from, to int }

// Add takes a piece in. A piece of other bytes than came before is refused.
func (s *Stream) Add(p Piece) error {
	if p.Offset > maxCrypto || p.Offset+uint64(len(p.Data)) > maxCrypto || len(s.have) > maxSpans {
		return errors.New("a handshake of more than 64 KiB, or in more pieces than are kept")
	}
	from, to := int(p.Offset), int(p.Offset)+len(p.Data)
	if to > len(s.data) {
		s.data = append(s.data, make([]byte, to-len(s.data))...)
	}
	for _, h := range s.have {
		a, b := max(from, h.from), min(to, h.to)
		if a < b && !bytes.Equal(s.data[a:b], p.Data[a-from:b-from]) {
			return errors.New("bytes of the handshake were sent again with another content")
		}
	}
	copy(s.data[from:to], p.Data)
	s.join(span{from, to})
	return nil
}

// join adds a span and merges those that touch.
func (s *Stream) join(add span) {
	if add.from == add.to {
		return
	}
	at, _ := slices.BinarySearchFunc(s.have, add, func(a, b span) int { return a.from - b.from })
	s.have = slices.Insert(s.have, at, add)
	merged := s.have[:1]
	for _, h := range s.have[1:] {
		if last := &merged[len(merged)-1]; h.from <= last.to {
			last.to = max(last.to, h.to)
		} else {
			merged = append(merged, h)
		}
	}
	s.have = merged
}

// Bytes are those from the beginning up to the first that is missing.
func (s *Stream) Bytes() []byte {
	if len(s.have) == 0 || s.have[0].from != 0 {
		return nil
	}
	return s.data[:s.have[0].to]
}
