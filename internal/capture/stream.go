package capture

import (
	"bytes"
	"slices"
)

// stream places the bytes of one direction by their sequence numbers. Offsets
// count from its first byte and, unlike sequence numbers, never wrap.
type stream struct {
	begun bool
	wide  uint16 // KiB to keep, if more than Window
	base  uint32 // sequence number of offset 0
	top   int64  // end of the furthest byte known to have been sent
	acked int64  // end of the furthest byte the other side has acknowledged
	fin   int64  // offset of the FIN plus one, or 0

	spans []span // bytes that are in the file, ascending, never touching

	window []byte // the first bytes, up to limit
	marks  []mark // who brought them
}

// span is the bytes from one offset up to another.
type span struct{ from, to int64 }

// limit is how many bytes are kept.
func (s *stream) limit() int { return max(Window, int(s.wide)<<10) }

// room is how many bytes the stream takes up.
func (s *stream) room() int { return cap(s.window) + 8*cap(s.marks) + 16*cap(s.spans) }

// maxSpans bounds memory. Bytes that would need more spans count as missing.
const maxSpans = 256

// place turns a sequence number into an offset: of all it could mean, the one
// nearest to where the stream is.
func (s *stream) place(seq uint32) int64 {
	if !s.begun {
		s.begun, s.base = true, seq
	}
	return s.top + int64(int32(seq-s.base-uint32(s.top)))
}

// write keeps the bytes of one segment. It reports whether they contradict
// bytes that were seen before.
func (s *stream) write(offset int64, data []byte, packet int, rooms *rooms) (conflict bool) {
	if len(data) == 1 && offset == s.top-1 {
		return false // a keep-alive probe: its byte means nothing (RFC 9293, 3.8.4)
	}
	if offset < 0 { // before the first packet of a flow that was joined late
		data = data[min(int64(len(data)), -offset):]
		offset = 0
	}
	if len(data) == 0 {
		return false
	}
	if limit := int64(s.limit()); offset < limit {
		conflict = s.keep(int(offset), data[:min(int64(len(data)), limit-offset)], packet, rooms)
	}
	end := offset + int64(len(data))
	s.top = max(s.top, end)
	s.cover(span{offset, end})
	return conflict
}

// keep copies bytes into the window, but never over bytes that are there: the
// first to come stay. It reports whether others differ from those.
func (s *stream) keep(offset int, data []byte, packet int, rooms *rooms) (conflict bool) {
	if end := offset + len(data); end > len(s.window) {
		s.window = rooms.grow(s.window, end) // what lies in a gap is never shown
	}
	for len(data) > 0 {
		known, until := s.known(offset)
		n := len(data)
		if until > offset {
			n = min(n, until-offset)
		}
		if known {
			conflict = conflict || !bytes.Equal(s.window[offset:offset+n], data[:n])
		} else {
			copy(s.window[offset:], data[:n])
			s.marks = append(s.marks, markOf(offset, packet))
		}
		offset, data = offset+n, data[n:]
	}
	return conflict
}

// known reports whether the byte at offset was seen, and up to where that stays
// so; for ever if the answer is not beyond offset.
func (s *stream) known(offset int) (known bool, until int) {
	at := int64(offset)
	for _, sp := range s.spans {
		if at < sp.from {
			return false, int(sp.from)
		}
		if at < sp.to {
			return true, int(sp.to)
		}
	}
	return false, 0
}

// cover notes that the bytes of a span are in the file.
func (s *stream) cover(n span) {
	if len(s.spans) > 0 { // most often it goes on where the last left off
		last := &s.spans[len(s.spans)-1]
		if n.from >= last.from && n.from <= last.to {
			last.to = max(last.to, n.to)
			return
		}
	}
	first := slices.IndexFunc(s.spans, func(sp span) bool { return sp.to >= n.from })
	if first < 0 {
		first = len(s.spans)
	}
	last := first
	for last < len(s.spans) && s.spans[last].from <= n.to {
		n.from = min(n.from, s.spans[last].from)
		n.to = max(n.to, s.spans[last].to)
		last++
	}
	if first < last || len(s.spans) < maxSpans {
		s.spans = slices.Replace(s.spans, first, last, n)
	}
}

// acknowledge notes that the other side has everything before seq.
func (s *stream) acknowledge(seq uint32) {
	if !s.begun {
		s.begun, s.base = true, seq
	}
	s.acked = max(s.acked, s.place(seq))
}

// sent notes that there were bytes up to offset, be they here or not.
func (s *stream) sent(offset int64) { s.top = max(s.top, offset) }

// end notes a FIN behind the bytes up to offset.
func (s *stream) end(offset int64) {
	s.sent(offset)
	s.fin = offset + 1
}

// ended reports whether the other side has acknowledged the FIN.
func (s *stream) ended() bool { return s.fin > 0 && s.acked >= s.fin }

// missing counts the bytes that were sent but are not in the file.
func (s *stream) missing() int64 {
	sent := max(s.top, s.acked)
	if s.fin > 0 && sent == s.fin {
		sent-- // the FIN itself has a sequence number, and is no byte
	}
	for _, sp := range s.spans {
		sent -= sp.to - sp.from
	}
	return sent
}

// chunks appends the window, cut at its gaps.
func (s *stream) chunks(all []Chunk) []Chunk {
	if !slices.IsSorted(s.marks) {
		slices.Sort(s.marks)
	}
	for _, sp := range s.spans {
		if sp.from >= int64(len(s.window)) {
			break
		}
		from, to := int(sp.from), int(min(sp.to, int64(len(s.window))))
		all = append(all, Chunk{Offset: from, Data: s.window[from:to:to], marks: within(s.marks, from, to)})
	}
	return all
}

// within is the marks from one offset up to another; marks are in order.
func within(marks []mark, from, to int) []mark {
	first, _ := slices.BinarySearch(marks, markOf(from, 0))
	last, _ := slices.BinarySearch(marks, markOf(to, 0))
	return marks[first:last]
}
