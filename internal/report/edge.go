package report

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// Class is what an edge means for the whole.
type Class uint8

// The classes, what matters most first.
const (
	// Leaks: plaintext, or not sealed as it had to be.
	Leaks Class = iota
	// Doubtful: not shown sealed, or sealed by something weak.
	Doubtful
	// Holds: sealed.
	Holds
	// Quiet: nothing was sent.
	Quiet
	// Excused: exempt, whatever it is.
	Excused
)

var classes = []Class{Leaks, Doubtful, Holds, Quiet, Excused}

// String is how an edge of the class is.
func (c Class) String() string {
	return [...]string{"not sealed", "in doubt", "sealed", "silent", "exempt"}[c]
}

// classOf says what a finding means.
func classOf(f *verify.Finding) Class {
	switch {
	case f.Exempt != "":
		return Excused
	case f.Verdict == verify.Plaintext || f.Violates != "":
		return Leaks
	case f.Verdict == verify.Silent:
		return Quiet
	case f.Doubtful() || !f.Verdict.Seals():
		return Doubtful
	}
	return Holds
}

// Edge is all flows from one host to one port of another that were found to be
// alike.
type Edge struct {
	edgeKey
	Attested  *verify.Attestation
	Decrypted *verify.Peers
	// Names seen on the wire: SNI, certificates, keys, software.
	Names names
	// Reasons why nothing could be shown, and what verify notes.
	Reasons, Notes names
	Flows          int
	// Packets and Bytes from the client and from the server.
	Packets [2]int
	Bytes   [2]int64
	// First is the number of the first flow. Examples are the first flows of an
	// edge that leaks, and the first of one that is excused.
	First    int
	Examples []verify.Finding
}

// edgeKey is what flows of one edge have in common.
type edgeKey struct {
	Class                   Class
	Client, Server          string // address or host; "address:port"
	Proto                   capture.Proto
	Verdict                 verify.Verdict
	Seal, Protocol, Upgrade string
	Version, Cipher, Group  string
	Handshake, QUIC         string
	Weak, Exempt, Violates  string
	Vantage, Overlay        string
	Unattested              bool
	attested                verify.Attestation
	decrypted               verify.Peers
}

const (
	// maxEdges bounds memory. Beyond it clients are not told apart any more, and
	// beyond twice as many neither is anything but the verdict.
	maxEdges = 10_000
	// maxExamples and maxNames bound what is kept of each edge.
	maxExamples = 3
	maxNames    = 4
)

// other stands for hosts that are too many to be told apart.
const other = "(others)"

// edgesOf sorts flows into edges, what matters most first.
func edgesOf(flows iter.Seq[verify.Finding]) []*Edge {
	known := map[edgeKey]*Edge{}
	for f := range flows {
		key := keyOf(&f)
		e := known[key]
		if e == nil && len(known) >= maxEdges {
			key.Client, key.attested.Client, key.decrypted.Client = other, "", ""
			e = known[key]
		}
		if e == nil && len(known) >= 2*maxEdges {
			key = edgeKey{Class: key.Class, Verdict: key.Verdict, Client: other, Server: other}
			e = known[key]
		}
		if e == nil {
			e = &Edge{edgeKey: key, First: f.Number}
			if key.attested != (verify.Attestation{}) {
				e.Attested = &key.attested
			}
			if key.decrypted != (verify.Peers{}) {
				e.Decrypted = &key.decrypted
			}
			known[key] = e
		}
		e.add(f)
	}
	edges := make([]*Edge, 0, len(known))
	for _, e := range known {
		edges = append(edges, e)
	}
	slices.SortFunc(edges, compare)
	return edges
}

func keyOf(f *verify.Finding) edgeKey {
	k := edgeKey{
		Class: classOf(f), Client: hostOf(f.Src), Server: f.Dst, Proto: f.Proto,
		Verdict: f.Verdict, Seal: f.Seal, Protocol: f.Protocol,
		Weak: strings.Join(f.Weak, "; "), Exempt: f.Exempt, Violates: f.Violates,
		Vantage: f.Vantage, Overlay: f.Overlay, Unattested: f.Unattested(),
	}
	if t := f.TLS; t != nil {
		k.Version, k.Cipher, k.Group, k.QUIC = t.Version, t.Cipher, t.Group, t.QUICVersion
		k.Handshake = t.Handshake
	}
	if s := f.SSH; s != nil {
		k.Cipher, k.Group = s.Cipher, s.Kex
	}
	if w := f.WireGuard; w != nil {
		k.Handshake = w.Handshake
	}
	if f.Upgrade != nil {
		k.Upgrade = f.Upgrade.From
	}
	if f.Attested != nil {
		k.attested = *f.Attested
	}
	if f.Decrypted != nil {
		k.decrypted = *f.Decrypted
	}
	return k
}

// hostOf is an end without its port.
func hostOf(end string) string {
	if a, err := netip.ParseAddrPort(end); err == nil {
		return a.Addr().String()
	}
	return end
}

func (e *Edge) add(f verify.Finding) {
	e.Flows++
	for i := range e.Bytes {
		e.Packets[i] += f.Packets[i]
		e.Bytes[i] += f.Bytes[i]
	}
	e.Names.add(namesOf(&f)...)
	if f.Verdict == verify.Unknown && f.Reason != "" {
		e.Reasons.add(f.Reason)
	}
	e.Notes.add(f.Notes...)
	if e.Class == Leaks && len(e.Examples) < maxExamples || e.Class == Excused && len(e.Examples) == 0 {
		e.Examples = append(e.Examples, f)
	}
}

// namesOf is what was in clear of who the ends are.
func namesOf(f *verify.Finding) []string {
	var all []string
	name := func(what, who string) {
		if who != "" {
			all = append(all, what+" "+who)
		}
	}
	if t := f.TLS; t != nil {
		if t.ECH {
			name("public name (hello encrypted)", t.SNI)
		} else {
			name("SNI", t.SNI)
		}
		if t.ServerCert != nil {
			name("server", certificateName(t.ServerCert))
		}
		if t.ClientCert != nil {
			name("client", certificateName(t.ClientCert))
		}
	}
	if w := f.WireGuard; w != nil {
		name("client key of", w.Client)
		name("server key of", w.Server)
	}
	if s := f.SSH; s != nil {
		name("client", s.Client)
		name("server", s.Server)
	}
	return all
}

// certificateName is what a certificate is best known by.
func certificateName(c *verify.Certificate) string {
	if len(c.Names) > 0 {
		return c.Names[0]
	}
	return c.Subject
}

// names is a set that keeps the first few and counts the rest; of many it may
// count one twice.
type names struct {
	Kept []string
	More int
}

func (n *names) add(all ...string) {
	for _, s := range all {
		switch {
		case slices.Contains(n.Kept, s):
		case len(n.Kept) < maxNames:
			n.Kept = append(n.Kept, s)
		default:
			n.More++
		}
	}
}

// String lists the names.
func (n *names) String() string {
	s := strings.Join(n.Kept, ", ")
	if n.More > 0 {
		s += ", and others"
	}
	return s
}

// compare orders edges: by class, then as people order addresses.
func compare(a, b *Edge) int {
	return cmp.Or(
		cmp.Compare(a.Class, b.Class),
		compareEnds(a.Client, b.Client), compareEnds(a.Server, b.Server),
		cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Verdict, b.Verdict),
		cmp.Compare(a.Seal, b.Seal), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Upgrade, b.Upgrade),
		cmp.Compare(a.Version, b.Version), cmp.Compare(a.Cipher, b.Cipher), cmp.Compare(a.Group, b.Group),
		cmp.Compare(a.Handshake, b.Handshake), cmp.Compare(a.QUIC, b.QUIC),
		cmp.Compare(a.Weak, b.Weak), cmp.Compare(a.Exempt, b.Exempt), cmp.Compare(a.Violates, b.Violates),
		cmp.Compare(a.Vantage, b.Vantage), cmp.Compare(a.Overlay, b.Overlay),
		cmp.Compare(a.attested.Client, b.attested.Client), cmp.Compare(a.attested.Server, b.attested.Server),
		cmp.Compare(a.attested.By, b.attested.By), compareBools(a.Unattested, b.Unattested),
	)
}

// compareEnds orders addresses by their numbers and anything else by its text.
func compareEnds(a, b string) int {
	x, y := endOf(a), endOf(b)
	if !x.IsValid() || !y.IsValid() {
		return cmp.Compare(a, b)
	}
	return x.Compare(y)
}

func endOf(s string) netip.AddrPort {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, 0)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
