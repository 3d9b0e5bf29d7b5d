package verify

import (
	"errors"

	"github.com/sealmesh/sealmesh/internal/dissect/dtls"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// recordsHidden is how many records of DTLS 1.3 show it without its handshake:
// their numbers are hidden, only their lengths can be right.
const recordsHidden = 6

// judgeUnseen judges a flow joined after its handshake: nothing but records of
// later epochs, several of them, in order.
func (t *dtlsTalk) judgeUnseen() error {
	c, s := t.client, t.server
	least := recordsBoth
	if len(c.sealed) == 0 || len(s.sealed) == 0 {
		least = recordsAlone
	}
	if err := t.pure(); err != nil {
		return err
	}
	hidden, version := 0, uint16(0)
	for _, side := range []*dtlsSide{c, s} {
		for i, r := range side.sealed {
			switch {
			case r.Length < leastUnseen || !r.Explicit:
				return errors.New("records too short, or of no length, to show DTLS without its handshake")
			case r.Type == dtls.TypeSealed:
				hidden++
				continue
			case version != 0 && version != r.Version:
				return errors.New("records of several versions")
			case i > 0 && !after(side.sealed[i-1], r):
				return errors.New("records that are not in order")
			}
			version = r.Version
		}
	}
	if hidden > 0 {
		least = recordsHidden
		if len(c.sealed) == 0 || len(s.sealed) == 0 {
			return errors.New("records of one direction alone, whose numbers are hidden")
		}
	}
	if len(c.sealed)+len(s.sealed) < least || hidden > 0 && version != 0 {
		return errors.New("too few records to show DTLS without its handshake")
	}
	t.found.TLS = &TLSInfo{Handshake: "unseen"}
	if t.leaks(unseenRun) {
		return nil
	}
	if err := t.numbered(hidden > 0); err != nil {
		return err
	}
	if err := t.random(tlswire.Suite{}, sampledUnseen); err != nil {
		return err
	}
	if !unrelated(asTLS(c.sealed)) || !unrelated(asTLS(s.sealed)) {
		return errors.New("the records do not look random")
	}
	t.found.Verdict, t.found.Seal = DTLS, string(DTLS)
	t.found.Notes = append(t.found.Notes, "the handshake was not captured: the cipher suite is not known")
	switch {
	case hidden > 0:
		t.found.TLS.Version = "1.3"
	case version == tlswire.VersionDTLS12 || version == tlswire.VersionDTLS10:
		t.found.TLS.Version = tlswire.VersionName(version)
		if version == tlswire.VersionDTLS10 {
			t.found.Weak = append(t.found.Weak, "DTLS 1.0")
		}
	}
	return nil
}

// bytesUnseen are the least that must be seen of what should be sealed, behind
// the nonces.
const bytesUnseen = 128

// numbered holds what stands before the sealed bytes against chance: nonces that
// are drawn or count, or numbers of records that are hidden.
func (t *dtlsTalk) numbered(hidden bool) error {
	seen := 0
	var numbers []dtls.Record
	for _, side := range []*dtlsSide{t.client, t.server} {
		var nonces []nonce
		for _, r := range side.sealed {
			nonces = append(nonces, nonce{r.Sequence, r.Body[:min(nonceBytes, len(r.Body))]})
			seen += max(0, len(r.Body)-nonceBytes)
		}
		if !drawnOrCounted(nonces) {
			return errors.New("what begins its records neither counts nor looks random")
		}
		numbers = append(numbers, side.sealed...)
	}
	switch {
	case seen < bytesUnseen:
		return errors.New("too little of the records was captured to show DTLS without its handshake")
	case hidden && !hiddenNumbers(numbers):
		return errors.New("numbers of records that should be hidden are not")
	}
	return nil
}

// hiddenNumbers reports whether the numbers in records of DTLS 1.3 could be
// masked (RFC 9147, section 4.2.3): few are followed by one that is a little
// larger. Without a handshake they are of epoch 3, the first of application data.
func hiddenNumbers(all []dtls.Record) bool {
	const application = 3
	near, pairs := 0, 0
	for i, r := range all {
		if r.Epoch != application {
			return false
		}
		if i == 0 || r.Wide != all[i-1].Wide {
			continue
		}
		pairs++
		step := uint16(r.Sequence - all[i-1].Sequence)
		if !r.Wide {
			step = uint16(uint8(step)) << 8
		}
		if step < 1<<12 {
			near++
		}
	}
	return 2*near < pairs
}

// reordered is how far behind a record may be, on its way through a network.
const reordered = 64

// after reports whether b may follow a: its number is larger, or a little smaller.
func after(a, b dtls.Record) bool {
	if a.Type == dtls.TypeSealed {
		return false
	}
	if a.Epoch != b.Epoch {
		return b.Epoch == a.Epoch+1
	}
	return b.Sequence+reordered > a.Sequence && b.Sequence != a.Sequence && b.Sequence < a.Sequence+1<<20
}
