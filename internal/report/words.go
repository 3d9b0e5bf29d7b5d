package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// sealedHow says how an edge is sealed, or that it is not, in a few words.
func sealedHow(e *Edge) string {
	words := string(e.Verdict)
	switch e.Verdict {
	case verify.Plaintext:
		words = "plaintext " + e.Protocol
		if e.Upgrade != "" {
			words += ", then " + tlsWords(e)
		}
	case verify.TLS:
		words = tlsWords(e)
	case verify.DTLS:
		words = "DTLS " + e.Version
	case verify.QUIC:
		words = "QUIC " + e.QUIC
	case verify.WireGuard:
		words = "WireGuard"
	case verify.IPsec:
		words = "IPsec ESP"
	case verify.MACsec:
		words = "MACsec"
	case verify.SSH:
		words = "SSH"
	}
	if e.Handshake == "unseen" {
		words = strings.TrimSpace(words) + ", handshake unseen"
	}
	return strings.TrimSpace(words)
}

func tlsWords(e *Edge) string {
	name := "TLS "
	if strings.HasPrefix(e.Version, "SSL") {
		name = ""
	}
	if e.Seal == "mtls" {
		return "mutual " + name + e.Version
	}
	return strings.TrimSpace(name + e.Version)
}

// peersWords is who both ends are, as far as that was decrypted.
func peersWords(p *verify.Peers) string {
	return cmp.Or(p.Client, "not known") + " → " + cmp.Or(p.Server, "not known")
}

// verdictWords is a result as a headline, and what it means.
func verdictWords(r verify.Result) (headline, meaning string) {
	switch r {
	case verify.Sealed:
		return "Sealed", "Every flow with payload was encrypted on the wire, or is exempt for a reason."
	case verify.Leaked:
		return "Plaintext found", "At least one flow could be read on the wire."
	case verify.Violated:
		return "Not as expected", "No plaintext was found, but at least one flow is not sealed as it had to be."
	}
	return "Inconclusive", "No plaintext was found, but not enough was seen to call it sealed."
}

// doubtsTitle introduces the doubts, which are the reasons of some results.
func doubtsTitle(r verify.Result) string {
	if r == verify.Inconclusive {
		return "Why not sealed"
	}
	return "Not seen or not sure"
}

// fact is a number with its name, and whether it should be nothing.
type fact struct {
	Name  string
	Count int64
	// Bad: more than none takes away from what was shown.
	Bad bool
}

func (f fact) String() string { return count(f.Count) + " " + f.Name }

// facts are what a coverage says. The first ones are always said, the others
// where there is something to say.
func facts(c verify.Coverage) []fact {
	all := []fact{
		{plural(c.Packets, "packet"), int64(c.Packets), false},
		{"dropped", int64(c.Dropped), true},
		{plural(c.Flows, "flow"), int64(c.Flows), false},
		{"begun before the capture", int64(c.Midstream), false},
		{"seen one way only", int64(c.OneWay), false},
	}
	for _, f := range []fact{
		{"exempt", int64(c.Exempt), false},
		{"given up early, to bound memory", int64(c.Evicted), true},
		{"not listed, too many", int64(c.Unlisted), true},
		{"listed without details", int64(c.Shortened), false},
		{plural(c.Undecoded, "packet") + " that could not be read", int64(c.Undecoded), true},
		{plural(c.Fragments, "fragment") + " without the others", int64(c.Fragments), true},
		{plural(c.NotIP, "packet") + " other than IP, not judged", int64(c.NotIP), false},
	} {
		if f.Count > 0 {
			all = append(all, f)
		}
	}
	return all
}

// factLine is facts in one line.
func factLine(all []fact) string {
	words := make([]string, len(all))
	for i, f := range all {
		words[i] = f.String()
	}
	return strings.Join(words, ", ")
}

// cipherName is a cipher suite without the prefix that all of them share.
func cipherName(suite string) string { return strings.TrimPrefix(suite, "TLS_") }

// protoName is what a port is followed by where it is not of TCP.
func protoName(e *Edge) string {
	if e.Proto == "tcp" {
		return ""
	}
	return "/" + string(e.Proto)
}

// Count is a number as a person reads it.
func Count(n int64) string { return count(n) }

// count is a number with its thousands apart.
func count[N int | int64](n N) string {
	digits := strconv.FormatInt(int64(n), 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// plural is the form of a word that goes with a number.
func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// countOf is a number with what it counts.
func countOf(n int, word string) string { return count(n) + " " + plural(n, word) }

// countFlows is a number of flows.
func countFlows(n int) string { return countOf(n, "flow") }

// Size is bytes as a person reads them.
func Size[N int64 | uint64](n N) string {
	const units = "KMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1000, 0
	for f >= 999.95 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	return fmt.Sprintf("%.1f %cB", f, units[i])
}

// tally counts the edges and flows of a class.
type tally struct{ Edges, Flows int }

func tallies(edges []*Edge) map[Class]tally {
	all := map[Class]tally{}
	for _, e := range edges {
		t := all[e.Class]
		all[e.Class] = tally{t.Edges + 1, t.Flows + e.Flows}
	}
	return all
}

// tallyLine says how many edges are how.
func tallyLine(edges []*Edge) string {
	all := tallies(edges)
	var words []string
	for _, c := range classes {
		if t := all[c]; t.Edges > 0 {
			words = append(words, fmt.Sprintf("%s %s (%s)", count(t.Edges), c, countFlows(t.Flows)))
		}
	}
	return cmp.Or(strings.Join(words, ", "), "none")
}

// Line is a judgement in one line.
func Line(d *Document) string {
	flows := map[Class]int{}
	for f := range d.Flows {
		flows[classOf(&f)]++
	}
	var words []string
	for _, c := range classes {
		if n := flows[c]; n > 0 {
			words = append(words, countFlows(n)+" "+c.String())
		}
	}
	headline, _ := verdictWords(d.Result)
	return headline + ": " + cmp.Or(strings.Join(words, ", "), "no flows")
}
