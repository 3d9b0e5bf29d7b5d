package decrypt

import (
	"errors"
	"fmt"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// record is one TLS record, whole.
type record struct {
	header, body []byte
	offset       int // in the stream
	packet       int // that completed it
}

// side reads one direction. Handshake messages may be spread over records, but no
// change of keys falls inside one (RFC 8446, section 5.1).
type side struct {
	from  Side
	in    *capture.Direction
	chunk int // where in
	pos   int // offset in the stream

	early    bool // records of early data may come before the handshake's
	keys     *epoch
	text     []byte // of messages not complete yet
	messages []message
	data     []Piece
	offset   int // of the next data
	updates  int
	skipped  int
}

func newSide(from Side, d *capture.Direction, at int) *side {
	return &side{from: from, in: d, pos: at}
}

// next takes one record. Both results are nil at the end of the stream.
func (s *side) next() (*record, *Stop) {
	for s.chunk < len(s.in.Chunks) {
		c := s.in.Chunks[s.chunk]
		if s.pos < c.Offset+len(c.Data) {
			break
		}
		s.chunk++
	}
	if s.chunk == len(s.in.Chunks) {
		return nil, nil
	}
	c := s.in.Chunks[s.chunk]
	if s.pos < c.Offset {
		return nil, s.stop("%d bytes are not in the capture", c.Offset-s.pos)
	}
	b := c.Data[s.pos-c.Offset:]
	if len(b) < recordHeader {
		return nil, s.broken(c, "a record's header")
	}
	length := int(b[3])<<8 | int(b[4])
	if b[0] < recordChange || b[0] > recordData || b[1] != 3 || length > maxBody {
		return nil, s.stop("what follows is not a TLS record")
	}
	whole := recordHeader + length
	if len(b) < whole {
		return nil, s.broken(c, fmt.Sprintf("a record of %d bytes", whole))
	}
	r := &record{header: b[:recordHeader], body: b[recordHeader:whole], offset: s.pos, packet: c.Packet(s.pos - c.Offset + whole - 1)}
	s.pos += whole
	return r, nil
}

// broken stops where a chunk ends inside of what.
func (s *side) broken(c capture.Chunk, what string) *Stop {
	at := c.Offset + len(c.Data)
	if s.chunk+1 < len(s.in.Chunks) {
		return s.stop("%s is cut by %d bytes that are not in the capture", what, s.in.Chunks[s.chunk+1].Offset-at)
	}
	return s.stop("%s breaks off after %d bytes", what, at-s.pos)
}

func (s *side) stop(format string, args ...any) *Stop {
	stop := &Stop{Offset: s.pos, Reason: fmt.Sprintf(format, args...)}
	for _, c := range s.in.Chunks {
		if before := s.pos - 1; before >= c.Offset && before < c.Offset+len(c.Data) {
			stop.Packet = c.Packet(before - c.Offset)
		}
	}
	return stop
}

// run reads all records and says why it stopped, nil at the end.
func (s *side) run(p *protection) *Stop {
	for {
		r, stop := s.next()
		if r == nil && stop == nil && s.keys == nil && s.skipped > 0 {
			return s.stop("none of %d records opens with the keys there are", s.skipped)
		}
		if r == nil {
			return stop
		}
		read := s.record13
		if p.version == version12 {
			read = s.record12
		}
		if err := read(p, *r); err != nil {
			s.pos = r.offset
			return s.stop("%v", err)
		}
	}
}

// record13 reads one record of TLS 1.3.
func (s *side) record13(p *protection, r record) error {
	typ := r.header[0]
	switch {
	case typ == recordHandshake && s.keys == nil:
		return s.hear(p, r.body)
	case typ == recordChange || typ == recordAlert && s.keys == nil:
		return nil
	case typ != recordData:
		return errors.New("a record in clear after the handshake")
	}
	typ, text, err := s.open(p, r)
	if err != nil {
		return err
	}
	switch typ {
	case recordHandshake:
		return s.hear(p, text)
	case recordData:
		s.say(r, text)
	}
	return nil
}

// open decrypts a record. The first may be of early data, or of a handshake whose
// secrets nobody has: then the first that opens tells where the next epoch begins.
func (s *side) open(p *protection, r record) (typ byte, text []byte, err error) {
	if s.keys != nil {
		typ, text, err = s.keys.open(r)
		if err == nil || s.keys != p.early || !errors.Is(err, errTag) {
			return typ, text, err
		}
	} else if s.early && p.early != nil {
		if typ, text, err = p.early.open(r); err == nil {
			s.keys = p.early
			return typ, text, nil
		}
	}
	first := p.handshake[s.from]
	mayFail := s.early || first == nil
	if first == nil {
		first = p.traffic[s.from]
	}
	if first == nil {
		return 0, nil, fmt.Errorf("the key log holds no secrets of the %s's direction", s.from)
	}
	typ, text, err = first.open(r)
	switch {
	case err == nil:
		s.keys = first
	case mayFail && errors.Is(err, errTag):
		s.skipped++
		return recordChange, nil, nil
	}
	return typ, text, err
}

// record12 reads one record of TLS 1.2.
func (s *side) record12(p *protection, r record) error {
	typ := r.header[0]
	if typ == recordChange {
		if s.keys != nil {
			return errors.New("the session was renegotiated, which is not followed")
		}
		s.keys = p.traffic[s.from]
		return nil
	}
	if s.keys == nil {
		switch typ {
		case recordHandshake:
			return s.hear(p, r.body)
		case recordData:
			return errors.New("application data before the handshake has ended")
		}
		return nil
	}
	typ, text, err := s.keys.open(r)
	if err != nil {
		return err
	}
	if typ == recordData {
		s.say(r, text)
	}
	return nil
}

// say notes application data.
func (s *side) say(r record, text []byte) {
	if len(text) == 0 {
		return
	}
	s.data = append(s.data, Piece{From: s.from, Offset: s.offset, Data: text, Packet: r.packet})
	s.offset += len(text)
}

// maxText bounds a handshake: certificate chains are the longest of it.
const maxText = 1 << 20

// hear takes handshake text, and changes keys where it says so.
func (s *side) hear(p *protection, text []byte) error {
	if s.text = append(s.text, text...); len(s.text) > maxText {
		return fmt.Errorf("a handshake message is longer than %d bytes", maxText)
	}
	for {
		m, rest, ok := nextMessage(s.text)
		if !ok {
			return nil
		}
		s.text = rest
		s.messages = append(s.messages, m)
		if p.version == version12 {
			continue
		}
		switch m.typ {
		case endOfEarlyData, finished, keyUpdate:
			if err := s.change(p, m.typ); err != nil {
				return err
			}
		}
	}
}

// change takes up the keys that follow a message.
func (s *side) change(p *protection, after byte) error {
	var next *epoch
	switch {
	case s.keys == nil:
		return nil // in clear: not a message of TLS 1.3
	case after == endOfEarlyData && s.keys == p.early:
		next = p.handshake[s.from]
	case after == finished && s.keys == p.handshake[s.from]:
		next = p.traffic[s.from]
	case after == keyUpdate && s.keys != p.early && s.keys != p.handshake[s.from]:
		s.updates++
		next = s.keys.next()
	default:
		return errors.New("a handshake message out of its place")
	}
	if len(s.text) > 0 {
		return errors.New("a handshake message is cut by a change of keys")
	}
	if next == nil {
		return fmt.Errorf("the key log holds no secrets of what the %s says next", s.from)
	}
	s.keys = next
	return nil
}
