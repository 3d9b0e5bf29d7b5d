package capture

import "time"

// A flow of which nothing more would be kept is settled when memory is short: it
// is handed over, and what is left of it stays in the table, to tell when it ends
// and to take what comes without making a new flow of it. Whatever it still says
// is counted as Beyond, unless it is in a direction that had room for it: then it
// is a flow that continues the other.

// settled is what a table knows of such a flow.
type settled struct {
	yes  bool
	full [2]bool // by direction: to the server, to the client
}

// full reports whether nothing more of a direction would be kept.
func (s *stream) full(p Proto) bool {
	if p == TCP {
		return len(s.spans) > 0 && s.spans[0].from == 0 && s.spans[0].to >= int64(s.limit())
	}
	return len(s.marks) == maxDatagrams || len(s.window) >= Window && len(s.marks) >= manyDatagrams
}

// settle hands a flow over and gives up its bytes.
func (t *Table) settle(f *Flow) {
	t.render(f)
	f.state.settled = settled{true, [2]bool{f.ToServer.stream.full(f.Proto), f.ToClient.stream.full(f.Proto)}}
	t.done(f)
	t.unrender()
	for _, d := range [...]*Direction{&f.ToServer, &f.ToClient} {
		t.rooms.release(d.stream.window)
		d.stream.window, d.stream.marks, d.stream.spans = nil, nil, nil
	}
	t.measure(f)
	f.state.queue.remove(f)
	t.settled.push(f)
}

// beyond takes a packet of a settled flow. It reports false if the packet says
// something that there was still room for.
func (t *Table) beyond(f *Flow, p *packet, forward bool) bool {
	mine, theirs, full := &f.ToServer, &f.ToClient, f.state.settled.full[0]
	if forward != f.state.forward {
		mine, theirs, full = theirs, mine, f.state.settled.full[1]
	}
	speaks := len(p.payload) > 0 || p.cut > 0
	if p.proto != protoTCP {
		return full || !speaks
	}
	seq := p.seq
	if p.has(flagSYN) {
		seq++
	}
	offset := mine.stream.place(seq)
	probe := len(p.payload) == 1 && offset == mine.stream.top-1
	if speaks && !full && !probe {
		return false
	}
	end := offset + int64(len(p.payload)) + p.cut
	mine.stream.sent(end)
	if p.has(flagFIN) {
		mine.Ended = true
		mine.stream.end(end)
	}
	theirs.acknowledge(p)
	f.Reset = f.Reset || p.has(flagRST)
	return true
}

// relieve hands over what has ended a while ago. Under pressure it gives up what
// is missed least, but never the flow of the last packet.
func (t *Table) relieve(now time.Time) {
	for f := t.over.first; f != nil && now.Sub(f.Last) > lingering; f = t.over.first {
		t.handOver(f)
	}
	spare := func(q *queue) bool { return q.first != nil && q.first != t.last }
	for {
		tooMany, tooMuch := t.size() > t.limits.Flows, t.room > t.limits.Bytes
		switch {
		case !tooMany && !tooMuch:
			return
		case spare(&t.over):
			t.handOver(t.over.first)
		case tooMany && spare(&t.settled):
			t.handOver(t.settled.first)
		case tooMuch && !t.keep && spare(&t.full):
			t.settle(t.full.first)
		case spare(&t.live):
			t.evict(t.live.first, now)
		case spare(&t.full):
			t.evict(t.full.first, now)
		default:
			return
		}
	}
}

// evict gives a flow up before its end, if it has not gone quiet by itself.
func (t *Table) evict(f *Flow, now time.Time) {
	if f.abandoned(now) {
		f.Evicted = true
		t.counts.Evicted++
	}
	t.handOver(f)
}

// size is how many flows there are in the table.
func (t *Table) size() int { return t.live.n + t.full.n + t.settled.n + t.over.n }

// touch puts a flow behind all that have been idle for longer.
func (t *Table) touch(f *Flow) {
	q, next := f.state.queue, &t.live
	switch {
	case f.Proto == TCP && f.ended():
		next = &t.over
	case f.state.settled.yes:
		next = &t.settled
	case q == &t.full || f.ToServer.stream.full(f.Proto) || f.ToClient.stream.full(f.Proto):
		next = &t.full
	}
	if next == q && q.last == f {
		return
	}
	q.remove(f)
	next.push(f)
}
