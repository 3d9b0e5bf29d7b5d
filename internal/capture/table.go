package capture

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"time"
)

// Limits bound what a table holds; zero means the default.
type Limits struct {
	// Flows that are live at a time: 65,536.
	Flows int
	// Bytes kept of them: 32 MiB.
	Bytes int64
	// Keep says, of a flow that begins, how many bytes of each direction to keep, up
	// to MaxWindow; Window of every flow if it is nil.
	Keep func(*Flow) int
}

// What a table does unless told otherwise. Lingering flows have ended, but late
// segments of theirs may still come. Resting ones are datagrams that nobody will
// miss.
const (
	defaultFlows = 64 << 10
	defaultBytes = 32 << 20
	lingering    = 10 * time.Second
	resting      = 2 * time.Minute
)

// Table turns frames into flows. Nothing in it depends on the clock or on chance:
// time is what the frames say.
//
//	first packet       a window is full              FINs acknowledged, RST
//	───────────► live ─────────────────► full ────────► (of any) ────► over
//	              │ longest idle,         │ pressure of bytes           │ 10 s, or pressure,
//	              ▼ under pressure        ▼                             ▼ or a new SYN
//	            done(evicted)           done ──► settled               done
//
// Memory: at most Limits.Flows of 640 bytes each, Limits.Bytes of what they said, the
// fragments (4 MiB), and a few MiB of what waits to be used again.
type Table struct {
	limits Limits
	done   func(*Flow)
	keep   bool // flows stay with who got them: nothing of them is used again

	decoder decoder
	flows   index
	scopes  scopes
	live    queue
	full    queue // as live, but of one direction at least no more is kept
	settled queue // handed over, and here to see their end
	over    queue
	number  int
	room    int64 // bytes that live and over hold
	last    *Flow

	rooms    rooms
	free     []*Flow
	gone     gone
	rendered *Flow // has the chunks
	chunks   [2][]Chunk

	counts Counts
	unread map[reason]int
}

// NewTable makes a table that calls done with each flow once: when it has ended,
// when it was given up to bound memory, or at Close. The flow and its bytes may
// be used until done returns.
func NewTable(l Limits, done func(*Flow)) *Table {
	if l.Flows <= 0 {
		l.Flows = defaultFlows
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultBytes
	}
	return &Table{limits: l, done: done, rooms: rooms{limit: l.Bytes + l.Bytes/4}, unread: make(map[reason]int)}
}

// Read adds every frame of a source, and counts what the source dropped. It
// returns nil at its end, and io.ErrUnexpectedEOF, wrapped, where it breaks off;
// what came before that stands.
func (t *Table) Read(src Source) error {
	if d, ok := src.(Dropping); ok {
		before := d.Dropped()
		defer func() { t.counts.Dropped += d.Dropped() - before }()
	}
	var f Frame
	for {
		switch err := src.Next(&f); {
		case err == nil:
			t.Add(&f)
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err //nolint:wrapcheck // a source says itself which packet it was
		}
	}
}

// Add decodes a frame and gives it to its flow.
func (t *Table) Add(f *Frame) {
	t.last = nil
	t.counts.Packets++
	switch t.decoder.decode(f) {
	case isFlow:
		if t.decoder.packet.number == 0 {
			t.decoder.packet.number = t.counts.Packets
		}
		t.add(&t.decoder.packet)
	case isNotIP:
		t.counts.NotIP++
	case isControl:
		t.counts.Control++
	case isUndecoded:
		t.counts.Undecoded++
		if why := t.decoder.why; len(t.unread) < maxReasons || t.unread[why] > 0 {
			t.unread[why]++
		}
	}
}

// maxReasons bounds how many kinds of undecoded packets are told apart.
const maxReasons = 64

// Last is the flow of the frame that was added last, as far as it has come, or
// nil if it has none or has been handed over. It may be read until the next Add.
func (t *Table) Last() *Flow {
	if t.last == nil || t.last.state.settled.yes {
		return nil
	}
	t.render(t.last)
	return t.last
}

// render makes the chunks of a flow. There is one place for chunks, which the
// flow before it gives up, unless flows are kept.
func (t *Table) render(f *Flow) {
	if f != t.rendered && !t.keep {
		t.unrender()
		f.ToServer.Chunks, f.ToClient.Chunks = t.chunks[0], t.chunks[1]
		f.ToServer.stale, f.ToClient.stale = true, true
		t.rendered = f
	}
	f.render()
}

// unrender takes the chunks back from the flow that has them.
func (t *Table) unrender() {
	if f := t.rendered; f != nil {
		t.chunks = [2][]Chunk{f.ToServer.Chunks[:0], f.ToClient.Chunks[:0]}
		f.ToServer.Chunks, f.ToClient.Chunks = nil, nil
		t.rendered = nil
	}
}

// Close hands over what is left, in order of Number. The table is empty then.
func (t *Table) Close() Counts {
	left := make([]*Flow, 0, t.size())
	for _, q := range []*queue{&t.live, &t.full, &t.settled, &t.over} {
		for f := q.first; f != nil; f = f.state.next {
			left = append(left, f)
		}
	}
	slices.SortFunc(left, func(a, b *Flow) int { return cmp.Compare(a.Number, b.Number) })
	for _, f := range left {
		t.handOver(f)
	}
	t.decoder.fragments.close()
	return t.Counts()
}

// Counts are those so far. Fragments that may still be put together are in none.
func (t *Table) Counts() Counts {
	c := t.counts
	c.Flows = t.number
	c.Fragments, c.Reassembled = t.decoder.fragments.lost, t.decoder.fragments.joined
	if len(t.unread) > 0 {
		c.Unread = make(map[string]int)
		for why, n := range t.unread {
			c.Unread[why.String()] += n
		}
	}
	return c
}

// add gives a packet to its flow.
func (t *Table) add(p *packet) {
	s := t.scopes.of(t.decoder.vantage, &p.path)
	k, forward := keyOf(p, s.id)
	f := t.find(&k, s, forward)
	if f != nil && p.proto == protoTCP && f.reopenedBy(p, forward) {
		t.handOver(f)
		f, s = nil, t.scopes.of(t.decoder.vantage, &p.path) // the old one may have been the flow's alone
		k.scope = s.id
	}
	if f != nil && f.state.settled.yes {
		if t.beyond(f, p, forward) {
			t.counts.Beyond++
			t.moved(f, p)
			return
		}
		t.counts.Evicted++
		t.handOver(f)
		f, s = nil, t.scopes.of(t.decoder.vantage, &p.path)
		k.scope = s.id
	}
	if f == nil {
		before := t.gone.find(&k)
		if before != nil && !before.evicted && p.proto == protoTCP && !p.has(flagSYN) && len(p.payload) == 0 && p.cut == 0 {
			t.counts.Late++
			return
		}
		f = t.begin(p, &k, s, forward)
		if before != nil && before.evicted {
			f.Continues = before.number
		}
	}
	mine, theirs := &f.ToServer, &f.ToClient
	if forward != f.state.forward {
		mine, theirs = theirs, mine
	}
	var stored bool
	if p.proto == protoTCP {
		stored = mine.addSegment(p, &t.rooms)
		theirs.acknowledge(p)
		f.Reset = f.Reset || p.has(flagRST)
	} else {
		stored = mine.addDatagram(p, &t.rooms)
	}
	if stored {
		t.measure(f)
	}
	t.moved(f, p)
}

// moved notes that a flow is alive.
func (t *Table) moved(f *Flow, p *packet) {
	t.last = f
	f.Last = p.at
	t.touch(f)
	t.relieve(p.at)
}

// begin makes a flow of its first packet.
func (t *Table) begin(p *packet, k *key, s *scope, forward bool) *Flow {
	f := t.blank()
	t.number++
	f.Number, f.Proto, f.First = t.number, protos[p.proto], p.at
	f.Vantage, f.Overlay = s.vantage, s.overlay
	sent := f.orient(p)
	f.state.key, f.state.scope, f.state.forward = *k, s, forward == sent
	if t.limits.Keep != nil {
		wide := uint16(max(0, min(t.limits.Keep(f), MaxWindow)) >> 10)
		f.ToServer.stream.wide, f.ToClient.stream.wide = wide, wide
	}
	s.flows++
	t.flows.put(k, f)
	if s.any != 0 {
		anywhere := *k
		anywhere.scope = s.any
		t.flows.put(&anywhere, f)
	}
	t.live.push(f)
	t.measure(f)
	return f
}

// blank is a flow that has not begun.
func (t *Table) blank() *Flow {
	n := len(t.free)
	if n == 0 {
		return &Flow{}
	}
	f := t.free[n-1]
	t.free = t.free[:n-1]
	return f
}

// orient decides who the client is. It reports whether the packet's sender is.
func (f *Flow) orient(p *packet) (sent bool) {
	client, server := &p.src, &p.dst
	if p.proto == protoTCP {
		f.Opened = p.has(flagSYN)
		answer := p.has(flagSYN) && p.has(flagACK)
		guess := !p.has(flagSYN) && p.src.port < p.dst.port
		sent = !answer && !guess
	} else {
		f.Opened = p.request
		sent = !p.reply
	}
	if !sent {
		client, server = server, client
	}
	f.Client, f.Server = client.addrPort(), server.addrPort()
	if client.family == familyMAC {
		f.ClientMAC, f.ServerMAC = [6]byte(client.addr[:6]), [6]byte(server.addr[:6])
	}
	return sent
}

// reopenedBy reports whether p opens a new connection between the ends of f. A SYN
// that is sent again does not, nor one that the capture shows behind its answer, or
// behind the bytes that follow it.
func (f *Flow) reopenedBy(p *packet, forward bool) bool {
	if !p.has(flagSYN) || p.has(flagACK) {
		return false
	}
	begins := &f.ToServer.stream
	belongs := forward == f.state.forward && begins.begun && begins.base == p.seq+1
	f.Opened = f.Opened || belongs
	return !belongs
}

// ended reports whether a connection is over: aborted, or closed and acknowledged
// by both sides. Of a side that was not seen at all nothing more is asked.
func (f *Flow) ended() bool {
	up, down := &f.ToServer, &f.ToClient
	switch {
	case f.Reset:
		return true
	case up.Packets == 0:
		return down.Ended
	case down.Packets == 0:
		return up.Ended
	}
	return up.stream.ended() && down.stream.ended()
}

// abandoned reports whether a live flow is given up before its end.
func (f *Flow) abandoned(now time.Time) bool {
	if f.Proto == TCP {
		return !f.ToServer.Ended || !f.ToClient.Ended
	}
	return now.Sub(f.Last) < resting
}

// measure takes the room of a flow into account.
func (t *Table) measure(f *Flow) {
	room := f.ToServer.stream.room() + f.ToClient.stream.room()
	t.room += int64(room - f.state.room)
	f.state.room = room
}

// handOver gives a flow away.
func (t *Table) handOver(f *Flow) {
	t.forget(f)
	f.state.queue.remove(f)
	t.room -= int64(f.state.room)
	t.gone.add(f)
	if !f.state.settled.yes {
		t.render(f)
		t.done(f)
	}
	if !t.keep {
		t.unrender()
		t.recycle(f)
	}
}

// recycle makes a flow ready to be another.
func (t *Table) recycle(f *Flow) {
	for _, d := range []*Direction{&f.ToServer, &f.ToClient} {
		t.rooms.release(d.stream.window)
	}
	if t.size()+len(t.free) < t.limits.Flows {
		f.reset()
		t.free = append(t.free, f)
	}
}
