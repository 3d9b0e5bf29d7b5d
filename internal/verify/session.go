package verify

import (
	"github.com/sealmesh/sealmesh/internal/capture"
)

// Config says by what a session judges.
type Config struct {
	Knowledge Knowledge
	// Expect may be nil.
	Expect *Expectations
	// Identify reads who the ends of a TLS flow proved to be, where session secrets
	// are there to decrypt it. It may be nil, and return empty names.
	Identify func(*capture.Flow) (client, server string)
	// MaxFlows is how many flows are listed, 2,000,000 if 0. Those beyond are
	// judged and counted.
	MaxFlows int
}

const defaultMaxFlows = 2_000_000

// Session judges flows as they end, and keeps what it found of them. It is not
// safe for concurrent use.
type Session struct {
	cfg      Config
	ledger   *ledger
	attested attestations
	unlisted map[Verdict]int
}

// NewSession begins a session.
func NewSession(cfg Config) *Session {
	if cfg.MaxFlows <= 0 {
		cfg.MaxFlows = defaultMaxFlows
	}
	return &Session{cfg: cfg, ledger: newLedger(), unlisted: map[Verdict]int{}}
}

// Add judges a flow. The flow is not used after Add returns.
func (s *Session) Add(f *capture.Flow) {
	found := Judge(f, s.cfg.Knowledge)
	if f.Evicted {
		found.Notes = append(found.Notes, "given up before its end, to bound memory")
	}
	if s.cfg.Identify != nil && found.TLS != nil && found.TLS.Handshake == handshakeSeen {
		if client, server := s.cfg.Identify(f); client != "" || server != "" {
			found.Decrypted = &Peers{Client: client, Server: server}
		}
	}
	if s.ledger.count >= s.cfg.MaxFlows {
		s.unlisted[found.Verdict]++
		return
	}
	s.ledger.add(f, &found)
}

// Attest notes what a proxy says of its lanes. It may be called again and again:
// what a proxy has forgotten since is still known.
func (s *Session) Attest(lanes []Lane) { s.attested.add(lanes) }

// Judged is how many flows have been.
func (s *Session) Judged() int {
	n := s.ledger.count
	for _, more := range s.unlisted {
		n += more
	}
	return n
}

// Seen is what a capture says of itself.
type Seen struct {
	Counts capture.Counts
	// Dropped packets were lost by a live capture; a file's own count is in Counts.
	Dropped int
	// Cut says why the capture ended before it should have; empty if it did not.
	Cut string
	// Control of the capture itself, such as a probe whose marker was not seen:
	// each is a doubt.
	Doubts []string
}

// Report sums up. The session may go on after it.
func (s *Session) Report(seen Seen) *Report {
	r := &Report{
		Coverage: Coverage{
			Packets: seen.Counts.Packets, Dropped: seen.Dropped + seen.Counts.Dropped, Flows: s.Judged(),
			NotIP: seen.Counts.NotIP, Control: seen.Counts.Control, Undecoded: seen.Counts.Undecoded,
			Fragments: seen.Counts.Fragments, Evicted: seen.Counts.Evicted, Shortened: s.ledger.shortened,
		},
		Attested: s.attested.asked,
		session:  s,
	}
	for v, n := range s.unlisted {
		r.Coverage.Unlisted += n
		r.count(v, n)
	}
	r.Expected, r.Exemptions = s.cfg.Expect.blank()
	for found := range r.each(r.Expected, r.Exemptions) {
		r.tally(&found)
	}
	for i, x := range r.Expected {
		r.Expected[i].Missing = x.Flows == 0 && !s.cfg.Expect.Expect[i].Optional
	}
	r.conclude(seen)
	return r
}
