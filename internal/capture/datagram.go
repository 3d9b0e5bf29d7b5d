package capture

// What is kept of each direction of datagrams: all up to Window, and of the
// first ones the beginning in any case, as handshakes are told by it.
const (
	manyDatagrams = 16
	datagramBytes = 2 << 10
	maxDatagrams  = 512
)

// datagrams keeps the datagrams of one direction.
type datagrams struct {
	window []byte
	kept   []datagram
}

// datagram is one that is kept.
type datagram struct {
	offset int64 // bytes sent before it
	packet int
	from   int32 // in the window, up to where the next begins
	cut    int32
}

func (ds *datagrams) reset() { *ds = datagrams{window: ds.window[:0], kept: ds.kept[:0]} }

// room is how many bytes the datagrams take up.
func (ds *datagrams) room() int { return cap(ds.window) + 24*cap(ds.kept) }

// add keeps a datagram, or as much of it as there is room for. It reports
// whether it did.
func (ds *datagrams) add(p *packet, offset int64, rooms *rooms) bool {
	data, used := p.payload, len(ds.window)
	length := len(data)
	switch {
	case length == 0 || len(ds.kept) == maxDatagrams:
		return false
	case used+length <= Window:
	case len(ds.kept) < manyDatagrams:
		length = max(min(length, datagramBytes), min(length, Window-used))
	case used < Window:
		length = Window - used
	default:
		return false
	}
	ds.window = rooms.grow(ds.window, used+length)
	copy(ds.window[used:], data[:length])
	ds.kept = append(ds.kept, datagram{offset: offset, packet: p.number, from: int32(used), cut: int32(int64(len(data)-length) + p.cut)})
	return true
}

// chunks appends the datagrams.
func (ds *datagrams) chunks(all []Chunk) []Chunk {
	for i, k := range ds.kept {
		to := len(ds.window)
		if i+1 < len(ds.kept) {
			to = int(ds.kept[i+1].from)
		}
		all = append(all, Chunk{Offset: int(k.offset), Data: ds.window[k.from:to:to], Cut: int(k.cut), packet: k.packet})
	}
	return all
}
