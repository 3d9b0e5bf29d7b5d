package verify

import (
	"fmt"
	"iter"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Result is the judgement of a whole capture.
type Result string

// The results.
const (
	// Sealed: every flow with payload is, or is exempt.
	Sealed Result = "sealed"
	// Leaked: at least one flow is plaintext and not exempt, or breaks an
	// expectation.
	Leaked Result = "plaintext"
	// Inconclusive: no plaintext was found, but not enough was seen.
	Inconclusive Result = "inconclusive"
)

// Report is the judgement of a capture.
type Report struct {
	Result Result
	// Doubts are the reasons of an inconclusive result; a plaintext may have
	// some too.
	Doubts   []string
	Coverage Coverage

	findings []Finding
}

// Coverage is how much was seen.
type Coverage struct {
	Packets int `json:"packets"`
	// Dropped packets were lost by the capture itself.
	Dropped int `json:"dropped"`
	Flows   int `json:"flows"`
	// Midstream flows began before the capture did.
	Midstream int `json:"midstream"`
}

// Flows are the findings in the order of their numbers.
func (r *Report) Flows() iter.Seq[Finding] { return slices.Values(r.findings) }

// Summarize judges everything in a capture file. dropped is the number of
// packets that the capture lost.
func Summarize(file *capture.File, dropped int) *Report {
	r := &Report{Coverage: Coverage{Packets: file.Counts.Packets, Dropped: dropped, Flows: len(file.Flows)}}
	sealed, leaked, unknown := 0, 0, 0
	for _, f := range file.Flows {
		found := Judge(f, Knowledge{})
		r.findings = append(r.findings, found)
		if found.Midstream {
			r.Coverage.Midstream++
		}
		switch {
		case found.Verdict.Seals():
			sealed++
		case found.Verdict == Plaintext:
			leaked++
		case found.Verdict == Unknown:
			unknown++
		}
	}
	r.Doubts = doubts(file, dropped, unknown, sealed+leaked+unknown)
	switch {
	case leaked > 0:
		r.Result = Leaked
	case len(r.Doubts) > 0:
		r.Result = Inconclusive
	default:
		r.Result = Sealed
	}
	return r
}

// doubts are the reasons not to call a capture sealed, other than plaintext.
func doubts(file *capture.File, dropped, unknown, withPayload int) []string {
	var all []string
	doubt := func(count int, format string) {
		if count > 0 {
			all = append(all, fmt.Sprintf(format, count))
		}
	}
	if withPayload == 0 {
		all = append(all, "no connection with payload was seen")
	}
	if file.Cut {
		all = append(all, "the file ends in the middle of a packet")
	}
	doubt(unknown, "connections neither shown sealed nor plaintext: %d")
	doubt(dropped, "packets dropped by the capture: %d")
	doubt(file.Counts.Undecoded, "packets that could not be read: %d")
	doubt(file.Counts.Fragments, "fragments of IP packets, not put together: %d")
	doubt(file.Counts.NotTCP, "IP packets other than TCP, not judged: %d")
	doubt(file.Counts.Excess, "packets of more connections than are kept: %d")
	return all
}
