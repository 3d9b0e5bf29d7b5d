package verify

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// trail is the records of one direction, as far as their headers line up: a gap
// inside a body does no harm, one over a header ends it.
type trail struct {
	records []tlswire.Record
	// rest is what is no record, at an offset from the start of the direction.
	rest []byte
	at   int
	// lost: a header was not captured, so what follows cannot be read.
	lost bool
}

// follow reads the records of a direction behind its first bytes.
func follow(d *capture.Direction, from int) trail {
	var t trail
	if len(d.Chunks) == 0 {
		return t
	}
	t.at = d.Chunks[0].Offset + from
	if d.Began && d.Chunks[0].Offset > 0 {
		t.lost = true
		return t
	}
	t.records = make([]tlswire.Record, 0, 8)
	for i := 0; i < len(d.Chunks); {
		c := d.Chunks[i]
		if t.at >= c.Offset+len(c.Data) { // a body ends at or behind the chunk
			i++
			continue
		}
		if t.at < c.Offset {
			t.lost = true
			return t
		}
		b := c.Data[t.at-c.Offset:]
		h, ok := tlswire.ParseHeader(b)
		if !ok {
			if t.lost = len(b) < tlswire.RecordHeader && i+1 < len(d.Chunks); !t.lost {
				t.rest = b
			}
			return t
		}
		body := b[tlswire.RecordHeader:]
		n := min(h.Length, len(body))
		t.at += tlswire.RecordHeader
		t.records = append(t.records, tlswire.Record{
			Type: h.Type, Version: h.Version, Offset: t.at, Body: body[:n], Whole: n == h.Length, Length: h.Length,
		})
		t.at += h.Length
	}
	return t
}

// tlsSide is what one end sent, read as TLS.
type tlsSide struct {
	trail
	name     string
	d        *capture.Direction
	skipped  int               // bytes taken off the front
	lead     []byte            // the end of a record whose beginning was not captured
	opens    bool              // it is the client of TLS
	messages []tlswire.Message // of the handshake, in clear
	broken   error             // why the messages end before they should
	alerts   []tlswire.Alert   // in clear
	changed  bool              // a change of cipher was seen
	sealed   []tlswire.Record  // that must be sealed, in TLS 1.2 and before
	early    int               // records of application data before that
	// afterChange are clear changes of cipher behind the first.
	afterChange int
	heartbeats  int // in clear
}

// newSide reads the records of a direction up to where its handshake says more.
func newSide(d *capture.Direction, name string) *tlsSide {
	s := &tlsSide{trail: follow(d, 0), name: name, d: d}
	s.align()
	return s
}

// aligned is how many records in a row show where a stream that was joined in the
// middle of one goes on, unless one fills it to its last byte.
const aligned = 2

// align finds the first record of a side that was joined in the middle of one. If
// what is before it is text, it is none of TLS.
func (s *tlsSide) align() {
	if len(s.records) > 0 || s.d.Began || len(s.d.Chunks) == 0 {
		return
	}
	b := s.d.Chunks[0].Data
	for at := 1; at+tlswire.RecordHeader <= min(len(b), tlswire.MaxBody12); at++ {
		if b[at+1] != 3 || b[at] < tlswire.TypeChangeCipherSpec || b[at] > tlswire.TypeApplicationData {
			continue
		}
		t := follow(s.d, at)
		if n := len(t.records); n == 0 || n < aligned && !t.records[0].Whole || len(t.rest) > 0 {
			continue
		}
		if textLength(b[:at]) < at {
			s.trail, s.lead = t, b[:at]
		}
		return
	}
}

// begins reports whether a direction begins with a record of a type.
func (s *tlsSide) begins(typ byte) bool { return len(s.records) > 0 && s.records[0].Type == typ }

// hello reports whether a side begins with a handshake message of a type.
func (s *tlsSide) hello(typ byte) bool {
	return s.begins(tlswire.TypeHandshake) && len(s.records[0].Body) > 0 && s.records[0].Body[0] == typ
}

// first reads the first message, whatever follows it.
func (s *tlsSide) first() (tlswire.Message, error) {
	if !s.begins(tlswire.TypeHandshake) && (!s.begins(tlswire.TypeAlert) || len(s.records[0].Body) != 2) {
		return tlswire.Message{}, errors.New("does not begin with a TLS handshake")
	}
	var stream []byte
	for _, r := range s.records {
		if r.Type != tlswire.TypeHandshake {
			if r.Type == tlswire.TypeAlert && len(stream) == 0 {
				continue // a warning before the hello
			}
			break
		}
		if stream == nil {
			stream = slices.Clip(r.Body)
		} else {
			stream = append(stream, r.Body...)
		}
		if m, _, err := tlswire.Next(stream); err == nil {
			return m, nil
		}
		if !r.Whole {
			break
		}
	}
	if len(stream) == 0 {
		return tlswire.Message{}, errors.New("does not begin with a TLS handshake")
	}
	return tlswire.Message{}, tlswire.ErrBreaksOff
}

// readLegacy reads the side as TLS 1.2 and before: handshake in clear up to the
// change of cipher, and from then on sealed records.
func (s *tlsSide) readLegacy() {
	*s = tlsSide{trail: s.trail, name: s.name, d: s.d, skipped: s.skipped, lead: s.lead, opens: s.opens}
	var stream []byte
	for i, r := range s.records {
		switch {
		case s.changed:
			if r.Type == tlswire.TypeChangeCipherSpec && r.Length == 1 {
				s.afterChange++
				continue
			}
			s.sealed = append(s.sealed, s.records[i])
		case r.Type == tlswire.TypeChangeCipherSpec:
			s.changed = true
		case r.Type == tlswire.TypeHandshake:
			stream = append(stream, r.Body...)
			if !r.Whole {
				s.broken = tlswire.ErrBreaksOff
			}
		case r.Type == tlswire.TypeAlert:
			s.alert(r)
		case r.Type == tlswire.TypeHeartbeat:
			s.heartbeats++
		default:
			s.early++
		}
	}
	s.split(stream)
}

// read13 reads the side as TLS 1.3: whatever handshake is in clear, which is
// hellos only, and sealed records.
func (s *tlsSide) read13() {
	*s = tlsSide{trail: s.trail, name: s.name, d: s.d, skipped: s.skipped, lead: s.lead, opens: s.opens}
	var stream []byte
	for _, r := range s.records {
		switch r.Type {
		case tlswire.TypeHandshake:
			stream = append(stream, r.Body...)
			if !r.Whole {
				s.broken = tlswire.ErrBreaksOff
			}
		case tlswire.TypeAlert:
			s.alert(r)
		case tlswire.TypeChangeCipherSpec:
			s.changed = true
		}
	}
	s.split(stream)
}

// split takes messages off a handshake in clear.
func (s *tlsSide) split(stream []byte) {
	for len(stream) > 0 {
		m, rest, err := tlswire.Next(stream)
		if err != nil {
			s.broken = err
			return
		}
		s.messages = append(s.messages, m)
		stream = rest
	}
}

func (s *tlsSide) alert(r tlswire.Record) {
	if a, ok := tlswire.ParseAlert(r.Body); ok && r.Whole {
		s.alerts = append(s.alerts, a)
	}
}

// message is the first message of a type, in clear.
func (s *tlsSide) message(typ byte) ([]byte, bool) {
	for _, m := range s.messages {
		if m.Type == typ {
			return m.Body, true
		}
	}
	return nil, false
}

// failed is the alert that ended the handshake, or empty.
func (s *tlsSide) failed() string {
	for _, a := range s.alerts {
		if a.Fatal && a.Description != tlswire.AlertCloseNotify {
			return s.name + ": " + tlswire.AlertName(a.Description)
		}
	}
	return ""
}

// warned is any alert in clear, or empty.
func (s *tlsSide) warned() string {
	if failed := s.failed(); failed != "" {
		return failed
	}
	for _, a := range s.alerts {
		return s.name + ": " + tlswire.AlertName(a.Description)
	}
	return ""
}

// reach is how far the bytes reach that were kept of a direction.
func reach(d *capture.Direction) int {
	if len(d.Chunks) == 0 {
		return 0
	}
	last := d.Chunks[len(d.Chunks)-1]
	return last.Offset + len(last.Data)
}

// gaps counts the bytes missing between chunks.
func gaps(d *capture.Direction) int {
	missing, at := 0, 0
	for i, c := range d.Chunks {
		if i > 0 || d.Began {
			missing += c.Offset - at
		}
		at = c.Offset + len(c.Data)
	}
	return missing
}

// filled reports whether the window was filled: what follows was not kept, and
// is not judged.
func (s *tlsSide) filled() bool { return reach(s.d)+s.skipped >= capture.Window }

// whole says why what was kept of a side is not all there is of it, other than
// gaps inside records, or nil.
func (s *tlsSide) whole() error {
	missing := int(s.d.Missing) - gaps(s.d)
	switch {
	case s.d.Conflict:
		return fmt.Errorf("the %s sent bytes again with another content", s.name)
	case s.lost:
		return fmt.Errorf("%d bytes of what the %s sent were not captured", s.d.Missing, s.name)
	case missing > 0 && !s.filled():
		return fmt.Errorf("%d bytes of what the %s sent were not captured", missing, s.name)
	case len(s.d.Chunks) == 0 && s.d.Packets > 0:
		return fmt.Errorf("the %s sent nothing", s.name)
	case len(s.rest) > 0 && len(s.records) == 0:
		return fmt.Errorf("%s: does not begin with a TLS handshake", s.name)
	case len(s.rest) > 0 && (len(s.rest) >= tlswire.RecordHeader || !s.filled()):
		return fmt.Errorf("%s: %d bytes behind the last record are not TLS", s.name, len(s.rest))
	}
	return nil
}

// bothWhole says why what was kept is not all there is of either side, or nil.
func bothWhole(client, server *tlsSide) error {
	if err := client.whole(); err != nil {
		return err
	}
	return server.whole()
}

// orMissing says what is missing of a side, if that explains an error.
func orMissing(err error, s *tlsSide) error {
	if whole := s.whole(); whole != nil && errors.Is(err, errUnfinished) {
		return whole
	}
	return fmt.Errorf("%s: %w", s.name, err)
}
