package capture

// Behind is the direction without its first n bytes, as if it had begun there:
// what follows when a stream changes its protocol. Bytes in the file keep the
// packets that brought them. Of a direction with a gap before n nothing is left.
func (d *Direction) Behind(n int) Direction {
	rest := Direction{Packets: d.Packets, Bytes: max(0, d.Bytes-int64(n)), Missing: d.Missing, Conflict: d.Conflict, Began: d.Began, Ended: d.Ended}
	for _, c := range d.Chunks {
		skip := max(0, n-c.Offset)
		if skip >= len(c.Data) {
			continue
		}
		marks := make([]mark, len(c.marks))
		for i, m := range c.marks {
			marks[i] = markOf(max(0, m.offset()-n), m.packet())
		}
		rest.Chunks = append(rest.Chunks, Chunk{Offset: c.Offset + skip - n, Data: c.Data[skip:], Cut: c.Cut, marks: marks, packet: c.packet})
	}
	return rest
}
