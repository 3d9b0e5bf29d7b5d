package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/sealmesh/sealmesh/internal/dissect/clear"
	randomness "github.com/sealmesh/sealmesh/internal/dissect/random"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// What sealed records begin with: a nonce, or bytes out of a cipher. Where nothing
// encrypts, messages begin there, however random what follows them is, such as a
// MAC or what was compressed.

// How many records of a side are looked at, and how many bits, as clear.Lead counts
// them, deny that they are sealed: with a handshake, and without.
const (
	headsRead      = 64
	leadBits       = 24
	leadBitsUnseen = 10
	// headSampled is how much of each is asked to look random.
	headSampled = 64
)

// headsSealed says what the records of a side begin with that no cipher puts there,
// or nil. With skip
// a nonce may stand in front of each.
func headsSealed(records []tlswire.Record, skip bool, least float64) error {
	records = records[:min(len(records), headsRead)]
	least += math.Log2(float64(max(len(records), 1)))
	run := 0.0
	bodies := make([][]byte, 0, headsRead)
	for i, r := range records {
		if name := clear.Compressed(r.Body); name != "" && r.Type == tlswire.TypeApplicationData {
			return fmt.Errorf("a record that should be sealed begins as %s does", name)
		}
		body := r.Body
		if skip {
			body = body[min(nonceBytes, len(body)):]
		}
		if r.Whole && len(body) > 0 {
			bodies = append(bodies, body)
		}
		if len(body) >= nonceBytes && !even(body[nonceBytes:min(len(body), nonceBytes+headSampled)]) {
			return errNotRandom
		}
		if i > 0 && counts(records[i-1].Body, r.Body) {
			continue // a nonce that counts is drawn once
		}
		if run = max(0, run+clear.Lead(r.Body)); run >= least {
			return errors.New("the records that should be sealed begin with readable bytes")
		}
	}
	if !randomness.Unrelated(bodies) {
		return errors.New("the records that should be sealed are the same from one to the next")
	}
	return nil
}

// counts reports whether one body begins with a nonce that is the next to the other's.
func counts(before, body []byte) bool {
	return len(before) >= nonceBytes && len(body) >= nonceBytes &&
		binary.BigEndian.Uint64(body)-binary.BigEndian.Uint64(before) == 1
}

// noncesSealed says whether the first bytes of the records of a side, joined late,
// may be nonces, or what is sealed itself.
func noncesSealed(records []tlswire.Record) bool {
	all := make([]nonce, 0, headsRead)
	for i, r := range records[:min(len(records), headsRead)] {
		if len(r.Body) >= nonceBytes {
			all = append(all, nonce{uint64(i), r.Body[:nonceBytes]})
		}
	}
	return drawnOrCounted(all)
}

// finished are the heads of the message that completes a handshake.
var finished = [...]string{"\x14\x00\x00\x0c", "\x14\x00\x00\x24"}

// finishedInClear finds that message in clear behind a change of cipher, which shows
// that what was changed to does not encrypt.
func (s *tlsSide) finishedInClear() *Evidence {
	changed := false
	for _, r := range s.records {
		changed = changed || r.Type == tlswire.TypeChangeCipherSpec
		if !changed || r.Type != tlswire.TypeHandshake || len(r.Body) < minFinished12 {
			continue
		}
		if head := string(r.Body[:4]); head == finished[0] || head == finished[1] {
			return evidenceAt(s.d, r.Offset, r.Body, s.name)
		}
	}
	return nil
}
