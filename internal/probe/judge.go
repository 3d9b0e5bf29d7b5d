package probe

import (
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// judge draws the result of what was sent and what was seen.
func (r *Result) judge(w *watch) {
	for i, h := range w.handles {
		seen := Watched{Vantage: w.cfg.Vantages[i].Name, Packets: w.packets[w.cfg.Vantages[i].Name]}
		if _, dropped, err := h.Stats(); err != nil {
			seen.Error = err.Error()
		} else {
			seen.Dropped = dropped
		}
		r.Watched = append(r.Watched, seen)
	}
	if err := w.close(); err != nil {
		r.doubt("closing the captures: %v", err)
	}
	if w.gone != nil {
		r.doubt("a capture ended early: %v", w.gone)
	}
	r.judgeControl(w)
	for found := range w.report.Flows() {
		switch found.Verdict {
		case verify.WireGuard, verify.IPsec, verify.MACsec:
			r.Tunnels = append(r.Tunnels, found)
		}
	}
	leaked := r.judgeLegs(w)
	for _, seen := range r.Watched {
		if seen.Dropped > 0 {
			r.doubt("%s: %d packets were dropped by the capture", seen.Vantage, seen.Dropped)
		}
		if seen.Error != "" {
			r.doubt("%s: whether packets were dropped is not known: %s", seen.Vantage, seen.Error)
		}
	}
	switch {
	case leaked:
		r.Verdict = verify.Leaked
	case len(r.Doubts) > 0:
		r.Verdict = verify.Inconclusive
	default:
		r.Verdict = verify.Sealed
	}
}

// judgeControl holds that every capture saw every control.
func (r *Result) judgeControl(w *watch) {
	for i := range r.Control {
		leg := &r.Control[i]
		leg.Seen = w.sightings(leg.marker)
		if !leg.Carried {
			r.doubt("the control from %s to %s did not arrive: %s", leg.From, leg.To, leg.Error)
		}
		for j := range r.Watched {
			name := r.Watched[j].Vantage
			if slices.ContainsFunc(leg.Seen, func(s Sighting) bool { return s.Vantage == name }) {
				r.Watched[j].Controls++
			} else {
				r.doubt("%s did not see the control from %s to %s: it proves nothing about that way", name, leg.From, leg.To)
			}
		}
	}
}

// judgeLegs looks for what no capture may have seen. It reports whether one did.
func (r *Result) judgeLegs(w *watch) (leaked bool) {
	for i := range r.Legs {
		leg := &r.Legs[i]
		leg.Seen = w.sightings(leg.marker, leg.answer)
		leaked = leaked || len(leg.Seen) > 0
		if !leg.Carried {
			r.doubt("%s from %s to %s was not carried: %s", leg.Proto, leg.From, leg.To, leg.Error)
		}
		for found := range w.report.Flows() {
			if found.Dst == leg.Dst.String() && found.Proto == leg.Proto {
				leg.Flows = append(leg.Flows, found)
			}
		}
	}
	return leaked
}

func (r *Result) doubt(format string, args ...any) {
	r.Doubts = append(r.Doubts, fmt.Sprintf(format, args...))
}
