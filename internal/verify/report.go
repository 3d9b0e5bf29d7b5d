package verify

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Result is the judgement of a whole capture.
type Result string

// The results.
const (
	// Sealed: every flow with payload is, or is exempt.
	Sealed Result = "sealed"
	// Leaked: at least one flow is plaintext and not exempt.
	Leaked Result = "plaintext"
	// Violated: no plaintext was found, but a flow is not sealed as expected.
	Violated Result = "violated"
	// Inconclusive: neither was found, but not enough was seen.
	Inconclusive Result = "inconclusive"
)

// Report is the judgement of a capture.
type Report struct {
	Result Result
	// Doubts are the reasons of an inconclusive result; another may have some too.
	Doubts   []string
	Coverage Coverage
	// Verdicts counts flows; Exempt ones are counted here as well.
	Verdicts map[Verdict]int
	// Expected and Exemptions stand in the order of the expectations.
	Expected   []Outcome
	Exemptions []Use
	// Attested: proxies were asked for what they attest.
	Attested bool

	session *Session
	doubt   struct{ leaked, violated, unknown, weak, unattested, disagree, sealed int }
}

// Coverage is how much was seen.
type Coverage struct {
	Packets int `json:"packets"`
	// Dropped packets were lost by the capture itself.
	Dropped int `json:"dropped"`
	Flows   int `json:"flows"`
	// Midstream flows began before the capture did. Of OneWay flows only one
	// direction was seen.
	Midstream int `json:"midstream"`
	OneWay    int `json:"one_way"`
	// Evicted flows were given up before their end, to bound memory.
	Evicted int `json:"evicted"`
	Exempt  int `json:"exempt"`
	// Unlisted flows are judged and counted, but not listed: there are too many.
	// Shortened ones are listed without some details.
	Unlisted  int `json:"unlisted"`
	Shortened int `json:"shortened"`
	// NotIP, Control, Undecoded and Fragments count packets: see capture.Counts.
	NotIP     int `json:"not_ip"`
	Control   int `json:"control"`
	Undecoded int `json:"undecoded"`
	Fragments int `json:"fragments"`
}

// Flows are the findings in the order of their numbers. Each is made anew, and
// they may be gone through again.
func (r *Report) Flows() iter.Seq[Finding] {
	if r.session == nil {
		return func(func(Finding) bool) {}
	}
	return r.each(r.session.cfg.Expect.blank())
}

// each makes the findings, joined with what proxies attest and judged by the
// expectations, and counts the latter into outcomes and uses.
func (r *Report) each(outcomes []Outcome, uses []Use) iter.Seq[Finding] {
	s := r.session
	return func(yield func(Finding) bool) {
		s.ledger.inOrder(func(rec *record) bool {
			found := s.ledger.at(rec)
			client, server := rec.addresses()
			s.attested.join(&found, client, server, rec.random)
			s.cfg.Expect.apply(&found, rec, outcomes, uses)
			return yield(found)
		})
	}
}

// count counts flows of a verdict that nothing else is known of.
func (r *Report) count(v Verdict, n int) {
	if r.Verdicts == nil {
		r.Verdicts = map[Verdict]int{}
	}
	r.Verdicts[v] += n
	switch {
	case v.Seals():
		r.doubt.sealed += n
	case v == Plaintext:
		r.doubt.leaked += n
	case v == Unknown:
		r.doubt.unknown += n
	}
}

// tally counts one finding.
func (r *Report) tally(found *Finding) {
	if found.Exempt != "" {
		r.Coverage.Exempt++
		if r.Verdicts == nil {
			r.Verdicts = map[Verdict]int{}
		}
		r.Verdicts[found.Verdict]++
	} else {
		r.count(found.Verdict, 1)
	}
	add := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	add(&r.Coverage.Midstream, found.Midstream)
	add(&r.Coverage.OneWay, found.OneWay && found.Verdict != Silent)
	add(&r.doubt.violated, found.Violates != "")
	add(&r.doubt.weak, found.Verdict.Seals() && len(found.Weak) > 0 && !found.expected)
	add(&r.doubt.unattested, slices.Contains(found.Notes, noteUnattested))
	add(&r.doubt.disagree, slices.Contains(found.Notes, noteDisagree))
}

// conclude draws the result.
func (r *Report) conclude(seen Seen) {
	r.Doubts = r.doubts(seen)
	switch {
	case r.doubt.leaked > 0:
		r.Result = Leaked
	case r.doubt.violated > 0:
		r.Result = Violated
	case len(r.Doubts) > 0:
		r.Result = Inconclusive
	default:
		r.Result = Sealed
	}
}

// doubts are the reasons not to call a capture sealed, other than plaintext.
func (r *Report) doubts(seen Seen) []string {
	all := slices.Clone(seen.Doubts)
	if seen.Cut != "" {
		all = append(all, seen.Cut)
	}
	counted := func(count int, one, many string) {
		if count == 1 {
			all = append(all, strings.ReplaceAll(one, "%%", "%"))
		} else if count > 1 {
			all = append(all, fmt.Sprintf(many, count))
		}
	}
	switch {
	case r.doubt.sealed+r.doubt.leaked+r.doubt.unknown > 0:
	case r.Coverage.Exempt > 0:
		all = append(all, "nothing but exempt traffic was seen")
	default:
		all = append(all, "no flow with payload was seen")
	}
	for _, x := range r.Expected {
		if x.Missing {
			all = append(all, "expected and not seen: "+x.Name)
		}
	}
	counted(r.Coverage.Dropped, "one packet was dropped by the capture", "%d packets were dropped by the capture")
	counted(r.doubt.unknown, "one flow is shown neither sealed nor plaintext", "%d flows are shown neither sealed nor plaintext")
	counted(r.doubt.weak, "one flow is sealed weakly", "%d flows are sealed weakly")
	counted(r.doubt.unattested, "one flow claims to be a lane, and no proxy attests it", "%d flows claim to be lanes, and no proxy attests them")
	counted(r.doubt.disagree, "the proxies at the ends of one flow name different identities", "the proxies at the ends of %d flows name different identities")
	counted(seen.Counts.Undecoded, "one packet could not be read"+kinds(seen.Counts.Unread), "%d packets could not be read"+kinds(seen.Counts.Unread))
	counted(seen.Counts.Fragments, "one IP fragment lacks its others", "%d IP fragments lack their others")
	counted(seen.Counts.Excess, "one packet belongs to a flow that was not kept", "%d packets belong to flows that were not kept")
	counted(seen.Counts.Evicted, "one flow was given up before its end, to bound memory", "%d flows were given up before their end, to bound memory")
	return all
}

// kinds names what could not be read, as far as that is known.
func kinds(unread map[string]int) string {
	if len(unread) == 0 {
		return ""
	}
	return " (" + strings.ReplaceAll(strings.Join(slices.Sorted(maps.Keys(unread)), ", "), "%", "%%") + ")"
}

// Summarize judges everything in a capture file. dropped is the number of
// packets that the capture lost.
func Summarize(file *capture.File, dropped int) *Report {
	s := NewSession(Config{})
	for _, f := range file.Flows {
		s.Add(f)
	}
	seen := Seen{Counts: file.Counts, Dropped: dropped}
	if file.Cut {
		seen.Cut = "the file ends in the middle of a packet"
	}
	return s.Report(seen)
}
