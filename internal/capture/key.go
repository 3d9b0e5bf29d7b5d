package capture

// key tells flows apart: what is between which ends, and where.
type key struct {
	ends  ends
	scope uint32
}

// ends are the two sides of a flow, the lesser first, and what is between them.
type ends struct {
	a, b         [16]byte
	aPort, bPort uint16
	proto        code
	family       uint16
}

// keyOf is a packet's key, and whether its source is the lesser end.
func keyOf(p *packet, scope uint32) (k key, forward bool) {
	k.scope = scope
	e := &k.ends
	e.proto, e.family = p.proto, p.src.family
	if lesser(&p.src, &p.dst) {
		e.a, e.aPort, e.b, e.bPort = p.src.addr, p.src.port, p.dst.addr, p.dst.port
		return k, true
	}
	e.a, e.aPort, e.b, e.bPort = p.dst.addr, p.dst.port, p.src.addr, p.src.port
	return k, false
}

// lesser reports whether a is not greater than b.
func lesser(a, b *end) bool {
	for i := 0; i < len(a.addr); i += 8 {
		if x, y := be.Uint64(a.addr[i:]), be.Uint64(b.addr[i:]); x != y {
			return x < y
		}
	}
	return a.port <= b.port
}

// scope is where a flow was seen: a vantage and a path of overlays. The same
// addresses in two scopes are two flows.
type scope struct {
	id      uint32
	vantage string
	overlay string
	key     scopeKey
	// any is the id of the same scope with any numbers in its overlays, or 0 if
	// it has none.
	any   uint32
	flows int
}

type scopeKey struct {
	vantage string
	path    path
}

// scopes are those that flows are in.
type scopes struct {
	all   map[scopeKey]*scope
	kinds map[scopeKey]uint32
	// last are those that were asked for last, outside of overlays and in some.
	last   [2]*scope
	nextID uint32
}

// of is the scope of a packet.
func (s *scopes) of(vantage string, p *path) *scope {
	last := &s.last[min(p.n, 1)]
	if l := *last; l != nil && l.vantage == vantage && (p.n == 0 || l.key.path == *p) {
		return l
	}
	k := scopeKey{vantage, *p}
	sc := s.all[k]
	if sc == nil {
		if s.all == nil {
			s.all, s.kinds = make(map[scopeKey]*scope), make(map[scopeKey]uint32)
		}
		s.nextID++
		sc = &scope{id: s.nextID, vantage: vantage, overlay: p.String(), key: k, any: s.anyOf(k)}
		s.all[k] = sc
	}
	*last = sc
	return sc
}

// anyOf is the id of all scopes that differ in the numbers of overlays only.
func (s *scopes) anyOf(k scopeKey) uint32 {
	kinds := k.path.kinds()
	if kinds == k.path {
		return 0
	}
	k.path = kinds
	if s.kinds[k] == 0 {
		if len(s.kinds) == maxKinds {
			return 0
		}
		s.nextID++
		s.kinds[k] = s.nextID
	}
	return s.kinds[k]
}

// maxKinds bounds how many sequences of kinds of overlays are known.
const maxKinds = 1 << 10

// maxIdle is how many scopes are remembered although no flow may be in them.
const maxIdle = 1 << 10

// release drops a scope that no flow is in.
func (s *scopes) release(sc *scope) {
	if sc.flows > 0 || len(s.all) <= maxIdle {
		return
	}
	delete(s.all, sc.key)
	if last := &s.last[min(sc.key.path.n, 1)]; *last == sc {
		*last = nil
	}
}

// find is the live flow of a packet. Overlays may number the two directions of a
// flow differently: Cilium puts the sender's identity there, and routers their
// own networks. So a packet in a numbered overlay that has no flow may be the
// first answer in one that was seen in the other direction only.
func (t *Table) find(k *key, s *scope, forward bool) *Flow {
	f := t.flows.find(k)
	if f != nil || s.any == 0 {
		return f
	}
	other := *k
	other.scope = s.any
	f = t.flows.find(&other)
	if f == nil || f.state.reverse != nil {
		return nil
	}
	silent := &f.ToClient
	if forward == f.state.forward {
		silent = &f.ToServer
	}
	if silent.Packets > 0 {
		return nil
	}
	f.state.reverse = s
	s.flows++
	t.flows.put(k, f)
	return f
}

// forget takes a flow out of the index.
func (t *Table) forget(f *Flow) {
	k := f.state.key
	for _, s := range [...]*scope{f.state.scope, f.state.reverse} {
		if s == nil {
			continue
		}
		k.scope = s.id
		t.flows.remove(&k, f)
		if k.scope = s.any; s.any != 0 {
			t.flows.remove(&k, f)
		}
		s.flows--
		t.scopes.release(s)
	}
}

// gone remembers the flows that were handed over last, some of them. Which ones
// shows, so it must not be by chance.
type gone struct{ slots []goneFlow }

var goneSeed = seed{0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0x2545f4914f6cdd1d, 0xd6e8feb86659fd93, 0xa0761d6478bd642f}

type goneFlow struct {
	key     key
	number  int
	evicted bool
}

const goneSlots = 1 << 15 // 2 MiB

func (g *gone) add(f *Flow) {
	if g.slots == nil {
		g.slots = make([]goneFlow, goneSlots)
	}
	g.slots[f.state.key.hash(&goneSeed)%goneSlots] = goneFlow{f.state.key, f.Number, f.Evicted || f.state.settled.yes && !f.ended()}
}

// find returns the flow with a key that was handed over last, or nil.
func (g *gone) find(k *key) *goneFlow {
	if g.slots == nil {
		return nil
	}
	if slot := &g.slots[k.hash(&goneSeed)%goneSlots]; slot.number > 0 && slot.key == *k {
		return slot
	}
	return nil
}
