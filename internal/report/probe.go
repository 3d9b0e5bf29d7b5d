package report

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/probe"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// WriteProbe writes what a probe showed, for a person or as JSON.
func WriteProbe(w io.Writer, f Format, r *probe.Result, s Style) error {
	switch f {
	case JSON:
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case Table:
	default:
		return fmt.Errorf("a probe is written as table or json, not as %s", f)
	}
	if s.Width == 0 {
		s.Width = 100
	}
	p := &page{bufio.NewWriter(w), s}
	p.probe(r)
	return p.w.Flush()
}

// probe is the control first, which must be seen, then what must not be.
func (p *page) probe(r *probe.Result) {
	all := len(r.Watched)
	fmt.Fprintln(p.w, p.paint(styleBold, "Control")+"  sent outside of the seal on purpose: every capture must see it")
	for i := range r.Control {
		leg := &r.Control[i]
		n := len(vantages(leg.Seen))
		l := look{"✓", ""}
		if n < all || !leg.Carried {
			l = look{"?", styleYellow}
		}
		p.leg(l, leg, fmt.Sprintf("seen by %d of %d captures", n, all))
	}
	fmt.Fprintln(p.w, "\n"+p.paint(styleBold, "Markers")+"  sent to be sealed: no capture may see them")
	for i := range r.Legs {
		p.marker(r, &r.Legs[i])
	}
	fmt.Fprintln(p.w, "\n"+p.paint(styleBold, "Captures"))
	widest := 0
	for _, c := range r.Watched {
		widest = max(widest, len(clean(c.Vantage)))
	}
	for _, c := range r.Watched {
		fmt.Fprintf(p.w, "   %-*s  %s, %d dropped, saw %d of %d controls\n", widest, clean(c.Vantage), count(c.Packets)+" "+plural(c.Packets, "packet"), c.Dropped, c.Controls, len(r.Control))
	}
	fmt.Fprintln(p.w)
	p.probeVerdict(r)
}

// marker is one leg through the seal.
func (p *page) marker(r *probe.Result, leg *probe.Leg) {
	switch seen := vantages(leg.Seen); {
	case len(seen) > 0:
		p.leg(look{"✗", styleRed}, leg, "in clear at "+strings.Join(seen, ", "))
		p.detail(styleRed, "evidence", fmt.Sprintf("the marker is in packet %d at %s", leg.Seen[0].Packet, leg.Seen[0].Vantage))
	case !leg.Carried:
		p.leg(look{"?", styleYellow}, leg, "not carried")
		p.detail(styleYellow, "because", leg.Error)
	default:
		p.leg(look{"✓", ""}, leg, fmt.Sprintf("carried, and seen by none of %d captures", len(r.Watched)))
		p.detail(styleDim, "sealed", sealsOf(slices.Concat(leg.Flows, r.Tunnels)))
	}
}

// leg is one line of a leg.
func (p *page) leg(l look, leg *probe.Leg, words string) {
	line := fmt.Sprintf("%s  %s %s → %s  %s", l.mark, strings.ToUpper(string(leg.Proto)), leg.From, leg.To, words)
	fmt.Fprintln(p.w, p.paint(l.style, clean(line)))
}

func (p *page) probeVerdict(r *probe.Result) {
	headline, _ := verdictWords(r.Verdict)
	meaning := map[verify.Result]string{
		verify.Sealed: "Every marker arrived, every capture saw the controls, and none saw a marker.",
		verify.Leaked: "At least one marker could be read on the wire.",
	}[r.Verdict]
	p.headline(r.Verdict, headline, cmp.Or(meaning, "No marker was read, but not enough was seen to call it sealed."))
	for _, d := range r.Doubts {
		p.summary("doubt", d)
	}
	inClear := func(l probe.Leg) bool { return len(l.Seen) > 0 }
	overUDP := func(l probe.Leg) bool { return inClear(l) && l.Proto == capture.UDP }
	if slices.ContainsFunc(r.Legs, overUDP) && !slices.ContainsFunc(r.Legs, func(l probe.Leg) bool { return inClear(l) && !overUDP(l) }) {
		p.summary("note", "only UDP was in clear: mutual TLS seals TCP, all else needs a tunnel between the nodes. --proto tcp probes TCP alone.")
	}
}

// vantages are the names of those that saw something, each once.
func vantages(seen []probe.Sighting) []string {
	var names []string
	for _, s := range seen {
		if !slices.Contains(names, s.Vantage) {
			names = append(names, s.Vantage)
		}
	}
	return names
}

// sealsOf says how findings are sealed, each way once.
func sealsOf(all []verify.Finding) string {
	var ways []string
	for i := range all {
		f := &all[i]
		way := string(f.Verdict)
		if f.TLS != nil {
			way = strings.Join(slices.DeleteFunc([]string{way + " " + f.TLS.Version, f.TLS.Cipher, f.TLS.Group}, func(s string) bool { return s == "" }), ", ")
		}
		if f.Verdict.Seals() && !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
	}
	return cmp.Or(strings.Join(ways, "; "), "how was not seen")
}
