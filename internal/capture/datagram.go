package capture

// What is kept of each direction of datagrams: all up to Window, and of the
// first ones the beginning in any case, as handshakes are told by it.
const (
	manyDatagrams = 16
	datagramBytes = 2 << 10
	maxDatagrams  = 512
)

// A stream keeps datagrams in the same places as segments, to take up no room of
// its own: the window holds one behind the other; the marks say where each begins
// in it, and its packet; the spans say how much was sent before, and how many
// bytes of it were cut off.

// keepDatagram keeps as much of a datagram as there is room for. It reports
// whether it did.
func (s *stream) keepDatagram(p *packet, sent int64, rooms *rooms) bool {
	used, length, limit := len(s.window), len(p.payload), s.limit()
	switch {
	case length == 0 || len(s.marks) == maxDatagrams*(limit/Window):
		return false
	case used+length <= limit:
	case len(s.marks) < manyDatagrams:
		length = max(min(length, datagramBytes), min(length, limit-used))
	case used < limit:
		length = limit - used
	default:
		return false
	}
	s.window = rooms.grow(s.window, used+length)
	copy(s.window[used:], p.payload[:length])
	s.marks = append(s.marks, markOf(used, p.number))
	s.spans = append(s.spans, span{from: sent, to: int64(len(p.payload)-length) + p.cut})
	return true
}

// datagrams appends the datagrams.
func (s *stream) datagrams(all []Chunk) []Chunk {
	for i, m := range s.marks {
		to := len(s.window)
		if i+1 < len(s.marks) {
			to = s.marks[i+1].offset()
		}
		sent, cut := s.spans[i].from, s.spans[i].to
		all = append(all, Chunk{Offset: int(sent), Data: s.window[m.offset():to:to], Cut: int(cut), packet: m.packet()})
	}
	return all
}
