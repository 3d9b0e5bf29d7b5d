// Package quic takes apart what QUIC shows on the wire. It keeps no state and
// judges nothing.
//
//	datagram ──► packets ──► payload of an Initial ──► frames ──► bytes of the handshake
//	             quic.go     keys.go                   frames.go  crypto.go
//
// The keys of Initial packets follow from a connection ID that the client sends in
// clear, so anybody who sees both may open them (RFC 9001, section 5.2): that
// shows that a flow is QUIC and what its hellos say. All other packets stay shut.
// Versions 1 (RFC 9000), 2 (RFC 9369) and the drafts from 29 on are read; of
// others only the header that all share (RFC 8999).
package quic

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version of QUIC, as on the wire.
type Version uint32

// The versions read here. Drafts are numbered from 0xff000000 on.
const (
	Negotiation Version = 0 // no version: the packet lists those that there are
	V1          Version = 1
	V2          Version = 0x6b3343cf

	// draft2 was version 2 on its way to a standard.
	draft2 Version = 0x709a50c4

	firstDraft Version = 0xff00001d
	lastDraft  Version = 0xff000022
)

// Known reports whether packets of the version can be read here.
func (v Version) Known() bool {
	return v == V1 || v.second() || v >= firstDraft && v <= lastDraft
}

// second reports whether v is version 2, or a draft of it.
func (v Version) second() bool { return v == V2 || v == draft2 }

// String is "v1", "v2-draft", "draft-29" or a number in hex.
func (v Version) String() string {
	switch {
	case v == V1:
		return "v1"
	case v == V2:
		return "v2"
	case v == draft2:
		return "v2-draft"
	case v>>8 == firstDraft>>8:
		return fmt.Sprintf("draft-%d", v&0xff)
	}
	return fmt.Sprintf("0x%08x", uint32(v))
}

// Kind of a packet.
type Kind uint8

// The kinds. All but OneRTT have a long header.
const (
	Initial Kind = iota
	ZeroRTT
	Handshake
	Retry
	VersionNegotiation
	OneRTT
)

// String names a kind as RFC 9000 does.
func (k Kind) String() string {
	return [...]string{"Initial", "0-RTT", "Handshake", "Retry", "Version Negotiation", "1-RTT"}[k]
}

const (
	maxID = 20 // bytes of a connection ID
	tag   = 16 // bytes that authenticate a packet
	// sample is what header protection reads, sampleAt behind the beginning of
	// the packet number.
	sample, sampleAt = 16, 4
	// MinSealed is a packet number of one byte, and bytes enough for a sample.
	MinSealed = sampleAt + sample
)

// Packet is one packet of a datagram.
type Packet struct {
	Kind    Kind
	Version Version // of a long header
	// Dest and Source are the connection IDs of a long header.
	Dest, Source []byte
	// Token of an Initial or a Retry.
	Token []byte
	// Sealed is all that is behind the header: the packet number and the payload.
	// Of a OneRTT packet a connection ID stands before them, of a length that only
	// its receiver knows.
	Sealed []byte
	// Cut: the capture did not keep all of it.
	Cut bool
	// Versions that a VersionNegotiation packet lists.
	Versions []Version

	whole []byte // from the first byte of the header on
}

// Split takes a datagram of a length on the wire apart, of which the capture may
// have kept only the first bytes. A sender may add zeros behind its packets.
func Split(datagram []byte, length int) ([]Packet, error) {
	var all []Packet
	for len(datagram) > 0 {
		if len(all) > 0 && zeros(datagram) {
			break
		}
		p, rest, err := next(datagram, length)
		if err != nil {
			return all, err
		}
		all = append(all, p)
		length -= len(datagram) - len(rest)
		datagram = rest
	}
	return all, nil
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// ErrVersion is why a packet of a version that is not known cannot be read.
var ErrVersion = errors.New("of a version that is not read here")

var errHeader = errors.New("the header of a QUIC packet breaks off")

// next takes the first packet off a datagram.
func next(datagram []byte, length int) (Packet, []byte, error) {
	if datagram[0]&0x80 == 0 {
		if length < 1+MinSealed {
			return Packet{}, nil, fmt.Errorf("%d bytes are too few for a QUIC packet", length)
		}
		return Packet{Kind: OneRTT, Sealed: datagram[1:], Cut: len(datagram) < length, whole: datagram}, nil, nil
	}
	r := reader(datagram[1:])
	version, ok1 := r.bytes(4)
	dest, ok2 := r.id()
	source, ok3 := r.id()
	if !ok1 || !ok2 || !ok3 {
		return Packet{}, nil, errHeader
	}
	p := Packet{Version: Version(binary.BigEndian.Uint32(version)), Dest: dest, Source: source, whole: datagram}
	switch {
	case p.Version == Negotiation:
		return p.negotiation(r, length)
	case !p.Version.Known():
		return p, nil, fmt.Errorf("a packet %w: %v", ErrVersion, p.Version)
	}
	p.Kind = p.Version.kind(datagram[0])
	if p.Kind == Retry {
		if len(r) < tag || len(datagram) < length {
			return Packet{}, nil, errHeader
		}
		p.Token, p.Sealed = r[:len(r)-tag], r[len(r)-tag:]
		return p, nil, nil
	}
	if p.Kind == Initial {
		size, ok := r.number()
		if !ok || size > uint64(len(r)) {
			return Packet{}, nil, errHeader
		}
		p.Token, _ = r.bytes(int(size))
	}
	size, ok := r.number()
	missing := length - len(datagram)
	if !ok || size < MinSealed || size > uint64(len(r)+missing) {
		return Packet{}, nil, errHeader
	}
	n := min(int(size), len(r))
	p.Cut = n < int(size)
	p.Sealed, _ = r.bytes(n)
	p.whole = datagram[:len(datagram)-len(r)]
	return p, r, nil
}

// kind reads the two bits of a long header's first byte; version 2 numbers the
// kinds in its own way (RFC 9369, section 3.2).
func (v Version) kind(first byte) Kind {
	bits := first >> 4 & 3
	if v.second() {
		bits = (bits + 3) & 3
	}
	return Kind(bits)
}

// negotiation reads a list of versions (RFC 9000, section 17.2.1).
func (p Packet) negotiation(list reader, length int) (Packet, []byte, error) {
	if len(list) == 0 || len(list)%4 != 0 || len(p.whole) < length {
		return Packet{}, nil, errHeader
	}
	p.Kind = VersionNegotiation
	for len(list) > 0 {
		v, _ := list.bytes(4)
		p.Versions = append(p.Versions, Version(binary.BigEndian.Uint32(v)))
	}
	return p, nil, nil
}

// Google reports whether a datagram begins like one of the versions that were
// Google's own, from before QUIC was a standard, and names that version: "Q043".
func Google(datagram []byte) (version string, ok bool) {
	at := 1
	switch {
	case len(datagram) == 0:
		return "", false
	case datagram[0]&0x80 == 0 && datagram[0]&0x09 == 0x09: // a public header: version, connection ID of 8 bytes
		at = 9
	case datagram[0]&0x80 == 0:
		return "", false
	}
	if len(datagram) < at+4 {
		return "", false
	}
	v := datagram[at : at+4]
	if v[0] != 'Q' && v[0] != 'T' {
		return "", false
	}
	for _, digit := range v[1:] {
		if digit < '0' || digit > '9' {
			return "", false
		}
	}
	return string(v), true
}

// reader takes values off the front of a packet. Every method reports whether
// there was enough to take.
type reader []byte

func (r *reader) bytes(n int) ([]byte, bool) {
	if n < 0 || len(*r) < n {
		return nil, false
	}
	b := (*r)[:n:n]
	*r = (*r)[n:]
	return b, true
}

// id takes a connection ID and the byte before it that says its length.
func (r *reader) id() ([]byte, bool) {
	size, ok := r.bytes(1)
	if !ok || size[0] > maxID {
		return nil, false
	}
	return r.bytes(int(size[0]))
}

// number takes an integer of variable length (RFC 9000, section 16).
func (r *reader) number() (uint64, bool) {
	if len(*r) == 0 {
		return 0, false
	}
	b, ok := r.bytes(1 << ((*r)[0] >> 6))
	if !ok {
		return 0, false
	}
	n := uint64(b[0] & 0x3f)
	for _, digit := range b[1:] {
		n = n<<8 | uint64(digit)
	}
	return n, true
}
