package verify

import (
	"encoding/hex"
	"hash/maphash"
	"net"
	"net/netip"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// ledger keeps findings, and little memory for each: what a flow has of its own
// in a record without pointers, and what it shares with others once.
//
//	record   ends, counts, random      88 bytes and more for evidence
//	detail   everything else           shared by all flows that are alike
type ledger struct {
	slabs   [][]record
	count   int
	details []*Finding
	known   map[uint64][]uint32 // hash of a detail → those that have it
	seed    maphash.Seed
	key     []byte
	// evidence of all records, one after the other.
	evidence [][]byte
	// shortened findings lost what would have made too many details.
	shortened int
}

// record is what a flow has of its own. It holds no pointer, so that a million
// of them cost the garbage collector nothing.
type record struct {
	src, dst     [16]byte
	random       [32]byte
	bytes        [2]int64
	number       uint32
	detail       uint32
	packets      [2]uint32
	packet       uint32 // of the evidence
	slab, offset uint32 // of the evidence
	sport, dport uint16
	length       uint8 // of the evidence
	form         form
}

// form of what a record has.
type form uint8

const (
	formIPv4 form = 1 << iota
	formMAC
	formPorts
	formRandom
	formEvidence
	formFromServer
)

const (
	slabRecords  = 1 << 12
	slabEvidence = 1 << 18
	maxDetails   = 32 << 10
)

func newLedger() *ledger {
	return &ledger{known: map[uint64][]uint32{}, seed: maphash.MakeSeed()}
}

// add keeps a finding of a flow. The finding is taken apart and not used again.
func (l *ledger) add(f *capture.Flow, found *Finding) {
	r := record{
		number:  uint32(found.Number),
		sport:   f.Client.Port(),
		dport:   f.Server.Port(),
		bytes:   found.Bytes,
		packets: [2]uint32{uint32(found.Packets[0]), uint32(found.Packets[1])},
	}
	if hasPorts(f.Proto) {
		r.form |= formPorts
	}
	switch {
	case f.Proto == capture.MACsec:
		r.form |= formMAC
		copy(r.src[:], f.ClientMAC[:])
		copy(r.dst[:], f.ServerMAC[:])
	case f.Client.Addr().Is4():
		r.form |= formIPv4
		fallthrough
	default:
		r.src, r.dst = f.Client.Addr().As16(), f.Server.Addr().As16()
	}
	if t := found.TLS; t != nil && isRandom(t.Random) {
		_, _ = hex.Decode(r.random[:], []byte(t.Random)) // what is not hex would be a mistake of ours
		r.form |= formRandom
	}
	if e := found.Evidence; e != nil {
		l.keepEvidence(&r, e)
	}
	r.detail = l.intern(found)
	if l.count%slabRecords == 0 {
		l.slabs = append(l.slabs, make([]record, 0, slabRecords))
	}
	last := len(l.slabs) - 1
	l.slabs[last] = append(l.slabs[last], r)
	l.count++
}

// keepEvidence moves the bytes of evidence to where all of them are. Evidence
// that is no bytes, such as the name of a cipher suite, stays in the detail.
func (l *ledger) keepEvidence(r *record, e *Evidence) {
	raw, err := hex.DecodeString(e.Hex)
	if err != nil || len(raw) == 0 || len(raw) > evidenceBytes {
		return
	}
	if n := len(l.evidence); n == 0 || len(l.evidence[n-1])+len(raw) > slabEvidence {
		l.evidence = append(l.evidence, make([]byte, 0, slabEvidence))
	}
	last := len(l.evidence) - 1
	r.form |= formEvidence
	if e.From == fromServer {
		r.form |= formFromServer
	}
	r.packet, r.slab, r.offset, r.length = uint32(e.Packet), uint32(last), uint32(len(l.evidence[last])), uint8(len(raw))
	l.evidence[last] = append(l.evidence[last], raw...)
}

// intern returns the number of the detail of a finding, which is made if there
// is none like it.
func (l *ledger) intern(found *Finding) uint32 {
	n, ok := l.lookup(found)
	if !ok && len(l.details) >= maxDetails {
		shorten(found)
		l.shortened++
		n, ok = l.lookup(found)
	}
	if ok {
		return n
	}
	detail := *found
	clearOwn(&detail)
	n = uint32(len(l.details))
	l.details = append(l.details, &detail)
	sum := maphash.Bytes(l.seed, l.key)
	l.known[sum] = append(l.known[sum], n)
	return n
}

// lookup finds the detail that is like a finding. It leaves the finding's key
// in l.key.
func (l *ledger) lookup(found *Finding) (uint32, bool) {
	l.key = appendKey(l.key[:0], found)
	own := len(l.key)
	defer func() { l.key = l.key[:own] }()
	for _, n := range l.known[maphash.Bytes(l.seed, l.key)] {
		l.key = appendKey(l.key, l.details[n])
		if string(l.key[:own]) == string(l.key[own:]) {
			return n, true
		}
		l.key = l.key[:own]
	}
	return 0, false
}

// shorten takes away what makes findings differ most.
func shorten(found *Finding) {
	found.Reason, found.Notes = shortReason(found.Reason), []string{"details left out: too many different ones"}
	if found.TLS != nil {
		t := *found.TLS
		t.SNI, t.ALPNOffered, t.ServerCert, t.ClientCert = "", nil, nil, nil
		found.TLS = &t
	}
	found.SSH = nil
	if found.Evidence != nil && !quotesBytes(found.Evidence) {
		found.Evidence = nil
	}
}

// shortReason keeps the part that does not differ from flow to flow.
func shortReason(reason string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, reason)
}

// clearOwn takes away what a record holds. A random stays: it is replaced by the
// record's own.
func clearOwn(f *Finding) {
	f.Number, f.Src, f.Dst = 0, "", ""
	f.Packets, f.Bytes = [2]int{}, [2]int64{}
	if f.Evidence != nil && quotesBytes(f.Evidence) {
		f.Evidence = nil
	}
}

// at returns the finding of a record, made anew.
func (l *ledger) at(r *record) Finding {
	found := *l.details[r.detail]
	found.Number = int(r.number)
	found.Src, found.Dst = r.end(r.src, r.sport), r.end(r.dst, r.dport)
	found.Packets = [2]int{int(r.packets[0]), int(r.packets[1])}
	found.Bytes = r.bytes
	if r.form&formRandom != 0 {
		t := *found.TLS
		t.Random = hex.EncodeToString(r.random[:])
		found.TLS = &t
	}
	if r.form&formEvidence != 0 {
		raw := l.evidence[r.slab][r.offset : r.offset+uint32(r.length)]
		from := fromClient
		if r.form&formFromServer != 0 {
			from = fromServer
		}
		found.Evidence = newEvidence(raw, int(r.packet), from)
	}
	return found
}

// addresses of a record's ends; not valid of a MACsec flow.
func (r *record) addresses() (src, dst netip.AddrPort) {
	if r.form&formMAC != 0 {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	a, b := netip.AddrFrom16(r.src), netip.AddrFrom16(r.dst)
	if r.form&formIPv4 != 0 {
		a, b = a.Unmap(), b.Unmap()
	}
	return netip.AddrPortFrom(a, r.sport), netip.AddrPortFrom(b, r.dport)
}

// end is one side of a record as a person writes it.
func (r *record) end(address [16]byte, port uint16) string {
	if r.form&formMAC != 0 {
		return net.HardwareAddr(address[:6]).String()
	}
	a := netip.AddrFrom16(address)
	if r.form&formIPv4 != 0 {
		a = a.Unmap()
	}
	if r.form&formPorts == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}

// inOrder calls yield for each record, in the order of their numbers.
func (l *ledger) inOrder(yield func(*record) bool) {
	highest := uint32(0)
	for _, slab := range l.slabs {
		for i := range slab {
			highest = max(highest, slab[i].number)
		}
	}
	at := make([]uint32, highest+1) // place of a record plus one, by its number
	for n := range l.count {
		at[l.slabs[n/slabRecords][n%slabRecords].number] = uint32(n) + 1
	}
	for _, n := range at {
		if n == 0 {
			continue
		}
		n--
		if !yield(&l.slabs[n/slabRecords][n%slabRecords]) {
			return
		}
	}
}
