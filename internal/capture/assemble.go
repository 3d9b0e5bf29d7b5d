package capture

import "net/netip"

// ends are the two sides of a flow, the lesser address first.
type ends struct{ a, b netip.AddrPort }

func endsOf(s segment) ends {
	if s.src.Compare(s.dst) <= 0 {
		return ends{s.src, s.dst}
	}
	return ends{s.dst, s.src}
}

// assembler gathers segments into flows.
type assembler struct {
	file *File
	live map[ends]*Flow // the newest flow between two ends
}

func newAssembler(f *File) *assembler {
	return &assembler{file: f, live: make(map[ends]*Flow)}
}

// add gives a segment to its flow; packet is its number in the file.
func (a *assembler) add(s segment, packet int) *Flow {
	key := endsOf(s)
	f := a.live[key]
	if f == nil || f.reopenedBy(s) {
		if len(a.file.Flows) == maxFlows {
			a.file.Counts.Excess++
			delete(a.live, key) // what follows does not belong to the old flow
			return nil
		}
		f = newFlow(s)
		f.Number = len(a.file.Flows) + 1
		a.live[key] = f
		a.file.Flows = append(a.file.Flows, f)
	}
	f.Last = s.at
	f.Reset = f.Reset || s.rst
	mine, theirs := &f.ToServer, &f.ToClient
	if s.src != f.Client {
		mine, theirs = theirs, mine
	}
	mine.add(s, packet)
	if s.acks && !s.rst {
		theirs.stream.acknowledge(s.ack)
	}
	return f
}

// newFlow begins a flow with the first segment seen of it.
func newFlow(s segment) *Flow {
	f := &Flow{Proto: TCP, Client: s.src, Server: s.dst, Opened: s.syn, First: s.at}
	f.ToServer.stream, f.ToClient.stream = &stream{}, &stream{}
	answer := s.syn && s.acks
	guess := !s.syn && s.src.Port() < s.dst.Port()
	if answer || guess {
		f.Client, f.Server = s.dst, s.src
	}
	return f
}

// reopenedBy reports whether s opens a new connection between the ends of f.
func (f *Flow) reopenedBy(s segment) bool {
	if !s.syn || s.acks {
		return false
	}
	again := f.ToServer.Began && s.src == f.Client && f.ToServer.stream.base == s.seq+1
	return !again
}

// finish closes the books of every flow.
func (a *assembler) finish() {
	for _, f := range a.file.Flows {
		f.ToServer.finish()
		f.ToClient.finish()
	}
}

// add counts a segment of this direction and keeps its bytes.
func (d *Direction) add(s segment, packet int) {
	d.Packets++
	d.Bytes += int64(len(s.payload)) + s.cut
	seq := s.seq
	if s.syn {
		seq++
	}
	offset := d.stream.place(seq)
	d.Began = d.Began || s.syn && offset == 0
	d.Conflict = d.stream.write(offset, s.payload, packet) || d.Conflict
	if s.fin {
		d.Ended = true
		d.stream.end(offset + int64(len(s.payload)) + s.cut)
	}
}

// finish turns what the stream holds into chunks and counts.
func (d *Direction) finish() {
	d.Chunks = d.stream.chunks()
	d.Missing = d.stream.missing()
	d.stream = nil
}
