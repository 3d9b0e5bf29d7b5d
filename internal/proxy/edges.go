package proxy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/sealmesh/sealmesh/internal/policy"
)

// maxEdges bounds how many edges are told apart; what comes after is counted
// without peer and port.
const maxEdges = 1024

// Edge is what was carried between the workload and one peer on one port since
// the proxy's start.
type Edge struct {
	Direction Direction
	// Peer is the identity of the other side, or its address where it has none;
	// empty for all those that are not told apart.
	Peer string
	// Port at the server.
	Port        uint16
	Seal        Seal
	Connections uint64
	Open        uint64
	Refused     uint64
	// Sent by the client and received by it, in bytes of the application.
	Sent, Received uint64
	LastRefusal    policy.Reason
}

type edgeKey struct {
	direction Direction
	peer      string
	port      uint16
	seal      Seal
}

// edges sums connections up. Bytes of open connections are added when read.
type edges struct {
	mu     sync.Mutex
	ended  map[edgeKey]*Edge
	live   map[*connection]edgeKey
	toward map[netip.AddrPort]int // open sealed outbound connections, for choosing endpoints
}

func newEdges() *edges {
	return &edges{ended: map[edgeKey]*Edge{}, live: map[*connection]edgeKey{}, toward: map[netip.AddrPort]int{}}
}

// begin counts a connection that is carried from now on.
func (e *edges) begin(c *connection) {
	e.mu.Lock()
	defer e.mu.Unlock()
	edge, key := e.find(c)
	edge.Connections++
	edge.Open++
	e.live[c] = key
	if to := c.carried.Load().to; to.IsValid() {
		e.toward[to]++
	}
}

// end adds what a connection has carried, or that it was refused.
func (e *edges) end(c *connection) {
	e.mu.Lock()
	defer e.mu.Unlock()
	edge, _ := e.find(c)
	if c.refusal != nil {
		edge.Refused++
		edge.LastRefusal = c.refusal.Reason
	}
	if _, ok := e.live[c]; !ok {
		return
	}
	delete(e.live, c)
	edge.Open--
	edge.Sent += c.bytes.sent.Load()
	edge.Received += c.bytes.received.Load()
	if to := c.carried.Load().to; to.IsValid() {
		if e.toward[to]--; e.toward[to] == 0 {
			delete(e.toward, to)
		}
	}
}

// find is the edge a connection belongs to.
func (e *edges) find(c *connection) (*Edge, edgeKey) {
	if key, ok := e.live[c]; ok {
		return e.ended[key], key
	}
	key := edgeKey{direction: c.direction, port: c.server.Port(), seal: c.seal()}
	switch by := c.carried.Load(); {
	case by != nil && !by.peer.IsZero():
		key.peer = by.peer.String()
	case c.direction == Outbound:
		key.peer = c.server.Addr().String()
	default:
		key.peer = c.client.Addr().String()
	}
	edge := e.ended[key]
	if edge == nil {
		if len(e.ended) >= maxEdges {
			key.peer, key.port = "", 0
		}
		if edge = e.ended[key]; edge == nil {
			edge = &Edge{Direction: key.direction, Peer: key.peer, Port: key.port, Seal: key.seal}
			e.ended[key] = edge
		}
	}
	return edge, key
}

// open is how many sealed connections to an address are open.
func (e *edges) open(to netip.AddrPort) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.toward[to]
}

// list is every edge, with what open connections have carried so far.
func (e *edges) list() []Edge {
	e.mu.Lock()
	defer e.mu.Unlock()
	sums := make(map[edgeKey]Edge, len(e.ended))
	for key, edge := range e.ended {
		sums[key] = *edge
	}
	for c, key := range e.live {
		sum := sums[key]
		sum.Sent += c.bytes.sent.Load()
		sum.Received += c.bytes.received.Load()
		sums[key] = sum
	}
	out := make([]Edge, 0, len(sums))
	for _, sum := range sums {
		out = append(out, sum)
	}
	slices.SortFunc(out, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Peer, b.Peer),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Seal, b.Seal))
	})
	return out
}

// Edges is what the proxy has carried, by peer, port and seal.
func (p *Proxy) Edges() []Edge { return p.edges.list() }
