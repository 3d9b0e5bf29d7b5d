// Package dtls takes apart datagrams of DTLS 1.0 to 1.3: records (RFC 6347,
// RFC 9147), with connection ids too (RFC 9146), and fragments of handshake
// messages. What the messages say is read by package tls.
package dtls

import (
	"encoding/binary"
	"errors"
)

// Content types of records.
const (
	TypeChangeCipherSpec = 20
	TypeAlert            = 21
	TypeHandshake        = 22
	TypeApplicationData  = 23
	TypeHeartbeat        = 24
	TypeConnectionID     = 25 // sealed, with a connection id before the length
	TypeACK              = 26
	// TypeSealed is ours, for records of DTLS 1.3 that hide their type.
	TypeSealed = 0
)

// Lengths of headers and the longest body.
const (
	header   = 13
	fragment = 12
	maxBody  = 1<<14 + 2048
)

// Record is one record.
type Record struct {
	Type    byte
	Version uint16 // 0 where the header does not say
	// Epoch, of which DTLS 1.3 says the lowest two bits once it seals, and a
	// sequence number, which it then hides.
	// Wide: what is hidden has 16 bits, else 8.
	Epoch    uint16
	Sequence uint64
	Wide     bool
	// Offset of the body in the datagram.
	Offset int
	Body   []byte
	// Length as the header says, or as there is. Explicit: the header says.
	Length   int
	Explicit bool
}

// Sealed reports whether a record is of an epoch that has keys.
func (r Record) Sealed() bool { return r.Type == TypeSealed || r.Epoch > 0 }

// Whole reports whether all of the body was captured.
func (r Record) Whole() bool { return len(r.Body) == r.Length }

var errRecord = errors.New("not a record of DTLS")

// Records takes a datagram apart. cid is the length of the connection ids of
// this direction, cut the number of bytes that were not captured: the last
// record may reach into those, but not further.
func Records(datagram []byte, cid, cut int) ([]Record, error) {
	var all []Record
	for at := 0; at < len(datagram); {
		r, err := parse(datagram[at:], cid, cut)
		if err != nil {
			return all, err
		}
		r.Offset += at
		all = append(all, r)
		at = r.Offset + r.Length
	}
	if len(all) == 0 {
		return nil, errRecord
	}
	return all, nil
}

// Looks reports whether a datagram may be DTLS by its first byte (RFC 7983,
// RFC 9147, section 4.1).
func Looks(datagram []byte) bool {
	return len(datagram) > 0 && (datagram[0] >= TypeChangeCipherSpec && datagram[0] <= TypeACK || datagram[0]>>5 == 1)
}

func parse(b []byte, cid, cut int) (Record, error) {
	if len(b) > 0 && b[0]>>5 == 1 {
		return unified(b, cid, cut)
	}
	size := header
	if len(b) > 0 && b[0] == TypeConnectionID {
		size += cid
	}
	if len(b) < size || b[0] < TypeChangeCipherSpec || b[0] > TypeACK || b[1] != 0xFE && (b[1] != 1 || b[2] != 0) {
		return Record{}, errRecord
	}
	r := Record{
		Type: b[0], Version: binary.BigEndian.Uint16(b[1:]), Epoch: binary.BigEndian.Uint16(b[3:]),
		Sequence: binary.BigEndian.Uint64(b[3:]) & (1<<48 - 1), Offset: size,
		Length: int(binary.BigEndian.Uint16(b[size-2:])), Explicit: true,
	}
	if b[1] == 0xFE && b[2] != 0xFF && b[2] != 0xFD && b[2] != 0xFC || r.Type == TypeConnectionID && r.Epoch == 0 {
		return Record{}, errRecord
	}
	return r.body(b, cut)
}

// unified reads the header of RFC 9147, section 4: 001, connection id, sequence
// number of 16 bits, length, epoch.
func unified(b []byte, cid, cut int) (Record, error) {
	const hasID, long, hasLength, epoch = 0x10, 0x08, 0x04, 0x03
	size := 2
	if b[0]&long != 0 {
		size++
	}
	if b[0]&hasID != 0 {
		size += cid
	}
	r := Record{Type: TypeSealed, Epoch: uint16(b[0] & epoch), Explicit: b[0]&hasLength != 0}
	if r.Explicit {
		size += 2
	}
	if len(b) < size {
		return Record{}, errRecord
	}
	at := 1
	if b[0]&hasID != 0 {
		at += cid
	}
	r.Sequence, r.Wide = uint64(b[at]), b[0]&long != 0
	if r.Wide {
		r.Sequence = uint64(binary.BigEndian.Uint16(b[at:]))
	}
	r.Offset, r.Length = size, len(b)-size+cut
	if r.Explicit {
		r.Length = int(binary.BigEndian.Uint16(b[size-2:]))
	}
	return r.body(b, cut)
}

func (r Record) body(b []byte, cut int) (Record, error) {
	rest := b[r.Offset:]
	if r.Length == 0 || r.Length > maxBody || r.Length > len(rest)+cut {
		return Record{}, errRecord
	}
	r.Body = rest[:min(r.Length, len(rest))]
	return r, nil
}

// Fragment is a part of a handshake message.
type Fragment struct {
	Type     byte
	Sequence uint16 // of the message
	Length   int    // of the message
	Offset   int    // of the fragment in it
	Body     []byte
}

// Fragments takes the body of a record of the handshake apart.
func Fragments(body []byte) ([]Fragment, error) {
	var all []Fragment
	for len(body) > 0 {
		if len(body) < fragment {
			return all, errors.New("a fragment of the handshake breaks off")
		}
		f := Fragment{Type: body[0], Length: u24(body[1:]), Sequence: binary.BigEndian.Uint16(body[4:]), Offset: u24(body[6:])}
		n := u24(body[9:])
		body = body[fragment:]
		if n > len(body) || f.Offset+n > f.Length {
			return all, errors.New("a fragment of the handshake breaks off")
		}
		f.Body, body = body[:n], body[n:]
		all = append(all, f)
	}
	return all, nil
}

func u24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// maxMessage bounds what is put together; maxMessages how many.
const (
	maxMessage  = 1 << 16
	maxMessages = 32
)

// Message is a handshake message put together.
type Message struct {
	Type     byte
	Sequence uint16
	Body     []byte
}

// Joiner puts messages together from fragments in any order, sent again or not.
type Joiner struct {
	parts []*part
	// Conflict: a part came again with another content.
	Conflict bool
}

type part struct {
	typ  byte
	seq  uint16
	body []byte
	have []bool
	left int
}

// Add takes a fragment.
func (j *Joiner) Add(f Fragment) {
	var p *part
	for _, q := range j.parts {
		if q.seq == f.Sequence {
			p = q
		}
	}
	if p == nil {
		if f.Length > maxMessage || len(j.parts) == maxMessages {
			return
		}
		p = &part{typ: f.Type, seq: f.Sequence, body: make([]byte, f.Length), have: make([]bool, f.Length), left: f.Length}
		j.parts = append(j.parts, p)
	}
	if p.typ != f.Type || len(p.body) != f.Length {
		j.Conflict = true
		return
	}
	for i, c := range f.Body {
		at := f.Offset + i
		if p.have[at] {
			j.Conflict = j.Conflict || p.body[at] != c
			continue
		}
		p.body[at], p.have[at] = c, true
		p.left--
	}
}

// Messages are those that are complete, in the order in which they began.
func (j *Joiner) Messages() []Message {
	var all []Message
	for _, p := range j.parts {
		if p.left == 0 {
			all = append(all, Message{p.typ, p.seq, p.body})
		}
	}
	return all
}
