package capture

import (
	"math/bits"
	"math/rand/v2"
)

// index finds flows by key. It is open addressing with linear probing; a slot
// takes up 16 bytes and no key of its own, so that a packet touches one slot and
// its flow. Go's map, which holds keys, took a fifth of all time.
//
// Its seed is by chance, lest a capture is made to collide; no order of it ever
// shows.
type index struct {
	slots []slot // a power of two, at most three quarters in use; nil before the first
	n     int
	seed  seed
}

type slot struct {
	hash  uint32
	scope uint32
	flow  *Flow
}

type seed [6]uint64

func newSeed() (s seed) {
	for i := range s {
		s[i] = rand.Uint64() | 1
	}
	return s
}

// hash spreads keys evenly.
func (k *key) hash(s *seed) uint32 {
	fold := func(a, b uint64) uint64 {
		high, low := bits.Mul64(a, b)
		return high ^ low
	}
	e := &k.ends
	h := fold(be.Uint64(e.a[:])^s[0], be.Uint64(e.a[8:])^s[1]) ^ fold(be.Uint64(e.b[:])^s[2], be.Uint64(e.b[8:])^s[3])
	rest := uint64(e.aPort)<<48 | uint64(e.bPort)<<32 | uint64(e.proto)<<16 | uint64(e.family)
	h = fold(h^s[4], rest^uint64(k.scope)<<20^s[5])
	return uint32(h ^ h>>32)
}

// place is the slot of a key, or the empty one where it would be.
func (x *index) place(k *key, hash uint32) *slot {
	mask := uint32(len(x.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &x.slots[i]
		if s.flow == nil || s.hash == hash && s.scope == k.scope && s.flow.state.key.ends == k.ends {
			return s
		}
	}
}

// find returns the flow with a key, or nil.
func (x *index) find(k *key) *Flow {
	if x.slots == nil {
		return nil
	}
	return x.place(k, k.hash(&x.seed)).flow
}

// put sets the flow with a key.
func (x *index) put(k *key, f *Flow) {
	if 4*(x.n+1) > 3*len(x.slots) {
		x.grow()
	}
	hash := k.hash(&x.seed)
	s := x.place(k, hash)
	if s.flow == nil {
		x.n++
	}
	*s = slot{hash: hash, scope: k.scope, flow: f}
}

func (x *index) grow() {
	if x.slots == nil {
		x.seed = newSeed()
	}
	old := x.slots
	x.slots = make([]slot, max(1<<10, 2*len(old)))
	mask := uint32(len(x.slots) - 1)
	for _, s := range old {
		if s.flow == nil {
			continue
		}
		i := s.hash & mask
		for x.slots[i].flow != nil {
			i = (i + 1) & mask
		}
		x.slots[i] = s
	}
}

// remove takes a flow out, unless the key is another's by now. What stands behind
// it moves up, so that no search ends too early.
func (x *index) remove(k *key, f *Flow) {
	hash := k.hash(&x.seed)
	mask := uint32(len(x.slots) - 1)
	hole := hash & mask
	for s := &x.slots[hole]; s.flow != f || s.scope != k.scope; s = &x.slots[hole] {
		if s.flow == nil {
			return
		}
		hole = (hole + 1) & mask
	}
	x.n--
	for i := (hole + 1) & mask; x.slots[i].flow != nil; i = (i + 1) & mask {
		home := x.slots[i].hash & mask
		if (i-home)&mask >= (i-hole)&mask { // its home is not behind the hole
			x.slots[hole] = x.slots[i]
			hole = i
		}
	}
	x.slots[hole] = slot{}
}
