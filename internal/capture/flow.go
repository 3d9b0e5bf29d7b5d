package capture

import (
	"bytes"
	"slices"
)

// state is what a table knows of a flow beside the flow.
type state struct {
	key     key
	scope   *scope
	reverse *scope // of the other direction, where overlays number it otherwise
	// forward: the client is the first of the key's two ends.
	forward    bool
	settled    settled
	queue      *queue
	prev, next *Flow
	room       int
}

// reset makes a flow one that has not begun. Small slices are kept.
func (f *Flow) reset() {
	up, down := f.ToServer, f.ToClient
	*f = Flow{ToServer: up.emptied(), ToClient: down.emptied()}
}

func (d *Direction) emptied() (e Direction) {
	e.stream.spans, e.stream.marks = small(d.stream.spans, 16), small(d.stream.marks, 64)
	return e
}

// small is an empty slice with the room of s, if that is for no more than n.
func small[T any](s []T, n int) []T {
	if cap(s) > n {
		return nil
	}
	return s[:0]
}

// addSegment counts a segment of this direction and keeps its bytes. It reports
// whether there were any.
func (d *Direction) addSegment(p *packet, rooms *rooms) (stored bool) {
	d.Packets++
	d.Bytes += int64(len(p.payload)) + p.cut
	d.stale = true
	seq := p.seq
	if p.has(flagSYN) {
		seq++
	}
	offset := d.stream.place(seq)
	d.Began = d.Began || p.has(flagSYN) && offset == 0
	end := offset + int64(len(p.payload)) + p.cut
	if len(p.payload) > 0 {
		d.Conflict = d.stream.write(offset, p.payload, p.number, rooms) || d.Conflict
	}
	if p.cut > 0 {
		d.stream.sent(end)
	}
	if p.has(flagFIN) {
		d.Ended = true
		d.stream.end(end)
	}
	return len(p.payload) > 0
}

// acknowledge takes note of what the other side says it has of this direction.
func (d *Direction) acknowledge(p *packet) {
	if p.has(flagACK) && !p.has(flagRST) {
		d.stale = true
		d.stream.acknowledge(p.acknowledged)
	}
}

// addDatagram counts a datagram of this direction and keeps it. It reports
// whether it did.
func (d *Direction) addDatagram(p *packet, rooms *rooms) (stored bool) {
	stored = d.stream.keepDatagram(p, d.Bytes, rooms)
	d.stale = d.stale || stored
	d.Packets++
	d.Bytes += int64(len(p.payload)) + p.cut
	d.Missing += p.cut
	return stored
}

// render turns what is held into chunks and counts.
func (f *Flow) render() {
	for _, d := range [...]*Direction{&f.ToServer, &f.ToClient} {
		if !d.stale {
			continue
		}
		d.stale = false
		if f.Proto == TCP {
			d.Chunks, d.Missing = d.stream.chunks(d.Chunks[:0]), d.stream.missing()
		} else {
			d.Chunks = d.stream.datagrams(d.Chunks[:0])
		}
	}
}

// Clone is a copy that stays as it is when the flow goes on or is used again.
func (f *Flow) Clone() *Flow {
	c := *f
	c.state = state{}
	for _, d := range [...]*Direction{&c.ToServer, &c.ToClient} {
		d.stream, d.stale = stream{}, false
		d.Chunks = slices.Clone(d.Chunks)
		for i := range d.Chunks {
			d.Chunks[i].Data = bytes.Clone(d.Chunks[i].Data)
			d.Chunks[i].marks = slices.Clone(d.Chunks[i].marks)
		}
	}
	return &c
}

// queue is a list of flows, the one that has been idle for longest first.
type queue struct {
	first, last *Flow
	n           int
}

func (q *queue) push(f *Flow) {
	f.state.queue, f.state.prev, f.state.next = q, q.last, nil
	if q.last != nil {
		q.last.state.next = f
	} else {
		q.first = f
	}
	q.last = f
	q.n++
}

func (q *queue) remove(f *Flow) {
	if prev := f.state.prev; prev != nil {
		prev.state.next = f.state.next
	} else {
		q.first = f.state.next
	}
	if next := f.state.next; next != nil {
		next.state.prev = f.state.prev
	} else {
		q.last = f.state.prev
	}
	f.state.queue, f.state.prev, f.state.next = nil, nil, nil
	q.n--
}
