package verify

import (
	"cmp"
	"net"
	"slices"
)

// Edge is what flows between the same two hosts to the same port have in common,
// for a person to read.
type Edge struct {
	// Example is the first of them. Its Src and Number are that flow's own.
	Example Finding
	// Client is the host of the clients, or "*" if there were too many to tell
	// them apart.
	Client string
	Flows  int
	// Packets and Bytes of all of them, from clients and from servers.
	Packets [2]int
	Bytes   [2]int64
}

// maxEdges bounds memory: beyond, clients are no longer told apart, and in the
// end neither are servers.
const maxEdges = 20_000

// rank orders verdicts by how much they matter to who reads.
func (f *Finding) rank() int {
	switch {
	case f.Exempt != "":
		return 5
	case f.Verdict == Plaintext:
		return 0
	case f.Violates != "":
		return 1
	case f.Verdict == Unknown:
		return 2
	case f.Verdict.Seals():
		return 3
	}
	return 4
}

// Edges are the flows put together, what matters most first.
func (r *Report) Edges() []Edge {
	places := map[string]int{}
	var edges []Edge
	var key []byte
	for found := range r.Flows() {
		client, server := host(&found, found.Src), found.Dst
		for {
			key = edgeKey(key[:0], &found, client, server)
			at, ok := places[string(key)]
			if ok {
				edges[at].add(&found)
				break
			}
			if len(edges) < maxEdges || client == "*" && server == "*" {
				places[string(key)] = len(edges)
				edges = append(edges, Edge{Example: found, Client: client})
				edges[len(edges)-1].add(&found)
				break
			}
			if client == "*" {
				server = "*"
			}
			client = "*"
		}
	}
	slices.SortStableFunc(edges, func(a, b Edge) int {
		return cmp.Compare(a.Example.rank(), b.Example.rank())
	})
	return edges
}

func (e *Edge) add(f *Finding) {
	e.Flows++
	for i := range e.Packets {
		e.Packets[i] += f.Packets[i]
		e.Bytes[i] += f.Bytes[i]
	}
}

// host is the side of a flow without its port.
func host(f *Finding, end string) string {
	if hasPorts(f.Proto) {
		if h, _, err := net.SplitHostPort(end); err == nil {
			return h
		}
	}
	return end
}

// edgeKey appends what flows of one edge have in common.
func edgeKey(b []byte, f *Finding, client, server string) []byte {
	b = appendStrings(b, client, server, string(f.Proto), string(f.Verdict), f.Seal, f.Protocol, f.Vantage, f.Overlay, f.Exempt, f.Violates)
	b = appendList(b, f.Weak)
	if t := f.TLS; t != nil {
		b = appendStrings(b, t.Version, t.Cipher, t.Group, t.SNI, t.Handshake)
	}
	if a := f.Attested; a != nil {
		b = appendStrings(b, a.Client, a.Server)
	}
	if w := f.WireGuard; w != nil {
		b = appendStrings(b, w.Client, w.Server)
	}
	return b
}
