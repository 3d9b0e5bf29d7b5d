package capture

import "iter"

// Pieces yields the chunk's bytes in order, those that one packet brought at a
// time, with its number in the file.
func (c Chunk) Pieces() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		at, packet := 0, c.packet
		for _, m := range c.marks {
			next := min(max(0, m.offset()-c.Offset), len(c.Data))
			if next > at && !yield(packet, c.Data[at:next]) {
				return
			}
			at, packet = max(at, next), m.packet()
		}
		if at < len(c.Data) {
			yield(packet, c.Data[at:])
		}
	}
}
