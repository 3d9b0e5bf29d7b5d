package push

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/id"
)

// edgeKey is what makes two edges of a workload the same.
type edgeKey struct {
	direction controlv1.Edge_Direction
	peer      string
	port      uint32
	seal      string
}

// Edges lists what the proxies of all workloads have carried, summed over the
// proxies of a workload that are remembered.
func (r *Registry) Edges() []*controlv1.WorkloadEdge {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	var out []*controlv1.WorkloadEdge
	for _, name := range slices.Sorted(maps.Keys(r.workloads)) {
		rec := r.workloads[name]
		for _, e := range rec.edges() {
			out = append(out, &controlv1.WorkloadEdge{Workload: name, Identity: rec.leaf.Identity.String(), Edge: e})
		}
	}
	return out
}

// edges sums the reports of one workload's proxies, in a stable order.
func (rec *record) edges() []*controlv1.Edge {
	sums := map[edgeKey]*controlv1.Edge{}
	for _, instance := range slices.Sorted(maps.Keys(rec.proxies)) {
		p := rec.proxies[instance]
		for _, e := range p.report.GetEdges() {
			key := edgeKey{e.Direction, e.Peer, e.Port, e.Seal}
			if sums[key] == nil {
				sums[key] = &controlv1.Edge{Direction: e.Direction, Peer: e.Peer, Port: e.Port, Seal: e.Seal}
			}
			sums[key].Connections += e.Connections
			sums[key].BytesSent += e.BytesSent
			sums[key].BytesReceived += e.BytesReceived
			sums[key].Refused += e.Refused
			sums[key].LastRefusal = cmp.Or(e.LastRefusal, sums[key].LastRefusal)
			if p.watches > 0 { // what a proxy that has gone had open is closed
				sums[key].Open += e.Open
			}
		}
	}
	return slices.SortedFunc(maps.Values(sums), compareEdges)
}

func compareEdges(a, b *controlv1.Edge) int {
	return cmp.Or(
		cmp.Compare(a.Direction, b.Direction),
		cmp.Compare(a.Peer, b.Peer),
		cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Seal, b.Seal),
	)
}

// validEdge holds what is shown to people and scripts to what it must be: a
// workload may lie about its own figures, but not send a terminal's commands.
// Fails closed.
func validEdge(e *controlv1.Edge) bool {
	return validPeer(e.Peer) && e.Port <= 65535 && (e.Seal == "mtls" || e.Seal == "plaintext" || e.Seal == "") &&
		len(e.LastRefusal) <= 256 && !strings.ContainsFunc(e.LastRefusal, func(r rune) bool { return !unicode.IsPrint(r) })
}

func validPeer(peer string) bool {
	if peer == "" {
		return true // a caller that was refused before it was known
	}
	if _, err := netip.ParseAddr(peer); err == nil {
		return true
	}
	_, err := id.Parse(peer)
	return err == nil
}
