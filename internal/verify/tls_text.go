package verify

import (
	"github.com/sealmesh/sealmesh/internal/capture"
	randomness "github.com/sealmesh/sealmesh/internal/dissect/random"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// plainRun is how many printable bytes at the start of a record are quoted where
// the cipher suite says that nothing is encrypted: they only illustrate that.
const plainRun = 12

// nonceBytes is how much of a sealed record may be a counter (RFC 5288).
const nonceBytes = 8

// sampled is how much of each direction is asked to look random.
const sampled = 256

// legible finds readable bytes in a record that should hide them.
func legible(body []byte, least int) (at, length int) {
	for at = 0; at < len(body); at += length + 1 {
		length = 0
		for at+length < len(body) && printable(body[at+length]) {
			length++
		}
		if least == plainRun && at > 0 {
			least = sealedWhole
		}
		if length >= least || length == len(body) && length >= sealedWhole {
			return at, length
		}
	}
	return 0, 0
}

func printable(c byte) bool { return c >= ' ' && c <= '~' || c == '\t' || c == '\r' || c == '\n' }

// legibleIn finds readable bytes in the records of a side that must be sealed.
func legibleIn(d *capture.Direction, records []tlswire.Record, least int, from string) *Evidence {
	for _, r := range records {
		if at, length := legible(r.Body, least); length > 0 {
			return evidenceAt(d, r.Offset+at, r.Body[at:at+length], from)
		}
	}
	return nil
}

// evidenceAt quotes bytes at an offset of a direction.
func evidenceAt(d *capture.Direction, offset int, raw []byte, from string) *Evidence {
	packet := 0
	for _, c := range d.Chunks {
		if offset >= c.Offset && offset < c.Offset+len(c.Data) {
			packet = c.Packet(offset - c.Offset)
		}
	}
	return newEvidence(raw[:min(len(raw), evidenceBytes)], packet, from)
}

// looksSealed reports whether the bodies of sealed records could be random.
func looksSealed(records []tlswire.Record, most int) bool {
	var room [sampled]byte
	sample := room[:0]
	for _, r := range records {
		if len(r.Body) < 2*nonceBytes {
			continue
		}
		body := r.Body[nonceBytes:]
		sample = append(sample, body[:min(len(body), most-len(sample))]...)
		if len(sample) == most {
			break
		}
	}
	return randomness.Plausible(sample)
}
