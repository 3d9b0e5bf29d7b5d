package capture

import (
	"bytes"
	"time"
)

// Bounds of what is kept of packets that came in pieces.
const (
	maxFragmented    = 256 // packets at a time
	maxFragmentBytes = 4 << 20
	maxFragmentAge   = 30 * time.Second // as Linux has it
	maxPacket        = 1<<16 - 1
)

// fragmentHeader is what IP says of a piece. Offset is in bytes.
type fragmentHeader struct {
	id       uint32
	offset   int
	more     bool
	protocol uint8
}

// fragmentKey tells packets apart that come in pieces.
type fragmentKey struct {
	vantage  string
	path     path
	src, dst end
	id       uint32
	protocol uint8
}

// fragmented is a packet of which some pieces have come.
type fragmented struct {
	key   fragmentKey
	first time.Time
	// refused: its pieces contradict each other, or were cut off; it will never
	// be put together.
	refused  bool
	pieces   int
	protocol uint8 // of what it carries, as the first piece says
	total    int   // length, once the last piece has come; else -1
	data     []byte
	have     [(maxPacket + 1) / 8 / 64]uint64 // of each 8 bytes, whether they have come
	units    int                              // how many have
}

// fragments puts packets together from their pieces (RFC 791, 8200).
type fragments struct {
	waiting map[fragmentKey]*fragmented
	order   []*fragmented // as they began
	bytes   int
	free    []*fragmented
	// lost pieces belong to packets that were given up.
	lost int
	// joined pieces are part of a packet, each packet's last not counted.
	joined int
}

// fragment keeps a piece. With the last of them the packet is read on.
func (d *decoder) fragment(h fragmentHeader) stage {
	key := fragmentKey{vantage: d.vantage, path: d.packet.path, src: d.packet.src, dst: d.packet.dst, id: h.id, protocol: h.protocol}
	if d.packet.src.family == familyIPv6 {
		key.protocol = 0 // only the first piece's counts
	}
	whole := d.fragments.add(&key, h, d.data, len(d.data) < d.wire, d.packet.at)
	if whole == nil {
		return isFragment
	}
	d.data, d.wire = whole.data[:whole.total], whole.total
	d.protocol = whole.protocol
	return atProtocol
}

// add returns the packet if this piece was the last that it lacked. It is valid
// until the next add.
func (fs *fragments) add(key *fragmentKey, h fragmentHeader, data []byte, cut bool, at time.Time) *fragmented {
	for len(fs.order) > 0 && (at.Sub(fs.order[0].first) > maxFragmentAge || len(fs.order) > maxFragmented || fs.bytes > maxFragmentBytes) {
		fs.giveUp(fs.order[0])
	}
	f := fs.waiting[*key]
	if f == nil {
		f = fs.begin(key, at)
	}
	f.pieces++
	if !f.refused {
		before := cap(f.data)
		f.refused = cut || !f.put(h, data)
		fs.bytes += cap(f.data) - before
	}
	if f.refused || f.total < 0 || f.units < (f.total+7)/8 {
		return nil
	}
	fs.joined += f.pieces - 1
	fs.remove(f)
	return f
}

func (fs *fragments) begin(key *fragmentKey, at time.Time) *fragmented {
	var f *fragmented
	if n := len(fs.free); n > 0 {
		f, fs.free = fs.free[n-1], fs.free[:n-1]
	} else {
		f = &fragmented{}
	}
	*f = fragmented{key: *key, first: at, total: -1, data: f.data[:0]}
	if fs.waiting == nil {
		fs.waiting = make(map[fragmentKey]*fragmented)
	}
	fs.waiting[*key] = f
	fs.order = append(fs.order, f)
	fs.bytes += cap(f.data)
	return f
}

// put copies a piece to its place, unless it contradicts what is there.
func (f *fragmented) put(h fragmentHeader, data []byte) bool {
	until := h.offset + len(data)
	switch {
	case len(data) == 0, until > maxPacket, h.more && len(data)%8 != 0, f.total >= 0 && until > f.total:
		return false
	case !h.more && (f.total >= 0 && until != f.total || until < len(f.data)):
		return false
	}
	if !h.more {
		f.total = until
	}
	if h.offset == 0 {
		f.protocol = h.protocol
	}
	if until > len(f.data) {
		f.data = append(f.data, make([]byte, until-len(f.data))...)
	}
	for at := h.offset; at < until; at += 8 {
		part := data[at-h.offset : min(at-h.offset+8, len(data))]
		word, bit := &f.have[at/8/64], uint64(1)<<(at/8%64)
		switch {
		case *word&bit == 0:
			*word |= bit
			f.units++
			copy(f.data[at:], part)
		case !bytes.Equal(f.data[at:at+len(part)], part):
			return false
		}
	}
	return true
}

// giveUp counts a packet's pieces as lost.
func (fs *fragments) giveUp(f *fragmented) {
	fs.lost += f.pieces
	fs.remove(f)
}

func (fs *fragments) remove(f *fragmented) {
	delete(fs.waiting, f.key)
	for i, other := range fs.order {
		if other == f {
			fs.order = append(fs.order[:i], fs.order[i+1:]...)
			break
		}
	}
	fs.bytes -= cap(f.data)
	if len(fs.free) < 16 {
		fs.free = append(fs.free, f)
	}
}

// close gives up whatever is not complete.
func (fs *fragments) close() {
	for len(fs.order) > 0 {
		fs.giveUp(fs.order[0])
	}
}
