package proxy

import (
	"fmt"
	"net/netip"
	"testing"
)

func outboundTo(target string, peer int) *connection {
	to := netip.MustParseAddrPort(target)
	c := &connection{direction: Outbound, server: to}
	who := mustID(fmt.Sprintf("spiffe://demo.local/ns/shop/sa/peer-%d", peer))
	c.carried.Store(&carriage{seal: SealMTLS, peer: who, to: to})
	return c
}

func TestServicesAreSpreadByOpenStreams(t *testing.T) {
	p := &Proxy{edges: newEdges()}
	busy, free := "10.0.0.2:80", "10.0.0.3:80"
	targets := []netip.AddrPort{netip.MustParseAddrPort(busy), netip.MustParseAddrPort(free)}
	for range 8 {
		p.edges.begin(outboundTo(busy, 1))
	}
	chosen := map[netip.AddrPort]int{}
	for range 1000 {
		chosen[p.pick(targets)]++
	}
	// Of two drawn at random the freer one: the busy one only if drawn twice.
	if n := chosen[targets[0]]; n < 150 || n > 350 {
		t.Errorf("the busy endpoint was chosen %d times of 1000, should be about 250", n)
	}
	c := outboundTo(free, 2)
	p.edges.begin(c)
	p.edges.end(c)
	if n := p.edges.open(targets[1]); n != 0 || len(p.edges.toward) != 1 {
		t.Errorf("%d streams are still counted", n)
	}
}

func TestEdgesAreBounded(t *testing.T) {
	e := newEdges()
	for i := range maxEdges + 500 {
		c := outboundTo("10.0.0.2:80", i)
		e.begin(c)
		c.bytes.sent.Add(1)
		e.end(c)
	}
	list := e.list()
	var connections, sent uint64
	for _, edge := range list {
		connections += edge.Connections
		sent += edge.Sent
	}
	if len(list) != maxEdges+1 || connections != maxEdges+500 || sent != connections {
		t.Errorf("%d edges with %d connections and %d bytes", len(list), connections, sent)
	}
}
