package verify

import (
	"bytes"
	"encoding/hex"
	"hash/maphash"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// ledger keeps findings, and little memory for each: what a flow has of its own
// in a few dozen bytes (record.go), and what it shares with others once.
type ledger struct {
	slabs   [][]byte // records, one after the other
	count   int
	details []*Finding
	known   map[uint64][]uint32 // hash of a detail → those that have it
	seed    maphash.Seed
	key     []byte
	// shortened findings lost what would have made too many details.
	shortened int
}

const (
	slabSize   = 1 << 20
	maxDetails = 32 << 10
)

func newLedger() *ledger {
	return &ledger{known: map[uint64][]uint32{}, seed: maphash.MakeSeed()}
}

// add keeps a finding of a flow. The finding is taken apart and not used again.
func (l *ledger) add(f *capture.Flow, found *Finding) {
	r := newRecord(f, found)
	r.detail = l.intern(found)
	last := len(l.slabs) - 1
	if last < 0 || len(l.slabs[last])+maxRecord > slabSize {
		l.slabs = append(l.slabs, make([]byte, 0, slabSize))
		last++
	}
	l.slabs[last] = r.append(l.slabs[last])
	l.count++
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
		if bytes.Equal(l.key[:own], l.key[own:]) {
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
	found.Bytes = [2]int64{int64(r.bytes[0]), int64(r.bytes[1])}
	if r.form&formRandom != 0 {
		t := *found.TLS
		t.Random = hex.EncodeToString(r.random[:])
		found.TLS = &t
	}
	if r.form&formEvidence != 0 {
		from := fromClient
		if r.form&formFromServer != 0 {
			from = fromServer
		}
		found.Evidence = newEvidence(r.evidence, int(r.packet), from)
	}
	return found
}

// inOrder calls yield for each record, in the order of their numbers.
func (l *ledger) inOrder(yield func(*record) bool) {
	var r record
	highest := uint64(0)
	for _, slab := range l.slabs {
		for rest := slab; len(rest) > 0; rest = r.read(rest) {
			highest = max(highest, numberOf(rest))
		}
	}
	at := make([]uint32, highest+1) // place of a record plus one, by its number
	for i, slab := range l.slabs {
		for rest := slab; len(rest) > 0; rest = r.read(rest) {
			at[numberOf(rest)] = uint32(i*slabSize+len(slab)-len(rest)) + 1
		}
	}
	for _, place := range at {
		if place == 0 {
			continue
		}
		place--
		r.read(l.slabs[place/slabSize][place%slabSize:])
		if !yield(&r) {
			return
		}
	}
}
