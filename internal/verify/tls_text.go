package verify

import (
	"math"

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

// legible finds readable bytes in a record that should hide them: least in a row,
// or all there are. It looks back from where a run would end, so that of random
// bytes it reads few.
func legible(body []byte, least int) (at, length int) {
	if n := len(body); n < least {
		least = max(n, sealedWhole)
	}
	for at+least <= len(body) {
		i := at + least - 1
		for i >= at && printable(body[i]) {
			i--
		}
		if i >= at {
			at = i + 1
			continue
		}
		length = least
		for at+length < len(body) && printable(body[at+length]) {
			length++
		}
		return at, length
	}
	return 0, 0
}

// legiblePrefix is how many of the first bytes can be read, if plainRun or more.
func legiblePrefix(body []byte) (at, length int) {
	for length < len(body) && printable(body[length]) {
		length++
	}
	if length < plainRun {
		return 0, 0
	}
	return 0, length
}

func printable(c byte) bool { return c >= ' ' && c <= '~' || c == '\t' || c == '\r' || c == '\n' }

// legibleIn finds readable bytes in the records of a side that must be sealed.
func legibleIn(d *capture.Direction, records []tlswire.Record, least int, from string) *Evidence {
	for _, r := range records {
		find := legible
		if least == plainRun {
			find = func(body []byte, _ int) (int, int) { return legiblePrefix(body) }
		}
		if at, length := find(r.Body, least); length > 0 {
			return evidenceAt(d, r.Offset+at, r.Body[at:at+length], from)
		}
	}
	return nil
}

// textInRecords finds what nothing has sealed in records: a Finished, a long run of
// readable bytes, or nothing but text in all application data.
func (t *tlsTalk) textInRecords() *Evidence {
	for _, s := range []*tlsSide{t.client, t.server} {
		if evidence := s.finishedInClear(); evidence != nil {
			return evidence
		}
		var data []tlswire.Record
		length, text := 0, true
		for _, r := range s.records {
			if r.Type == tlswire.TypeApplicationData {
				data = append(data, r)
				length += len(r.Body)
				text = text && allReadable(r.Body)
			}
		}
		if text && length >= sealedWhole {
			return evidenceAt(s.d, data[0].Offset, data[0].Body, s.name)
		}
		if evidence := legibleIn(s.d, data, sealedRun, s.name); evidence != nil {
			return evidence
		}
	}
	return nil
}

// evidenceAt quotes bytes at an offset of a direction.
func evidenceAt(d *capture.Direction, offset int, raw []byte, from string) *Evidence {
	return newEvidence(raw[:min(len(raw), evidenceBytes)], packetAt(d, offset), from)
}

// packetAt is the number of the packet that brought the byte at an offset, or 0.
func packetAt(d *capture.Direction, offset int) int {
	for _, c := range d.Chunks {
		if offset >= c.Offset && offset < c.Offset+len(c.Data) {
			return c.Packet(offset - c.Offset)
		}
	}
	return 0
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
	if most == sampled {
		return even(sample)
	}
	return randomness.Plausible(sample)
}

// even is a quick look, for flows whose handshake says enough: as many values as
// chance has, and the highest bit in half of them, each within six deviations.
func even(sample []byte) bool {
	var seen [256]bool
	distinct, high := 0.0, 0.0
	for _, c := range sample {
		if !seen[c] {
			seen[c] = true
			distinct++
		}
		high += float64(c >> 7)
	}
	n := float64(len(sample))
	missed := math.Pow(255.0/256, n) // the chance of a value not to occur
	return distinct >= 256*(1-missed)-6*math.Sqrt(256*missed*(1-missed)) && math.Abs(high-n/2) <= 3*math.Sqrt(n)
}
