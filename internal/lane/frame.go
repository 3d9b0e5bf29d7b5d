package lane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Sizes of the wire format, in bytes. docs/wire.md holds the grammar.
const (
	// HeaderLen is the length of every frame's header.
	HeaderLen = 4
	// MaxPayload is the largest payload, so that a whole frame fills exactly one
	// TLS record (2^14 bytes, RFC 8446 section 5.1).
	MaxPayload = 1<<14 - HeaderLen
	// MaxFrame is the largest frame.
	MaxFrame = HeaderLen + MaxPayload
	// maxOpen is the longest OPEN payload: version, hint, family, IPv6 address, port.
	maxOpen = 3 + 16 + 2
)

// Version is the version of the OPEN payload that this package writes, and the
// only one it reads.
const Version = 1

// Type is the kind of a frame.
type Type uint8

// The kinds of frames. Values are on the wire; zero is never valid.
const (
	// TypeOpen begins a stream; only the client of a lane sends it.
	TypeOpen Type = iota + 1
	// TypeData carries bytes of the stream.
	TypeData
	// TypeFin says that no more DATA follows in this direction.
	TypeFin
	// TypeReset ends the stream in both directions, with a code.
	TypeReset
	// TypeDrain asks the client to begin no further stream on this lane; only
	// the server of a lane sends it.
	TypeDrain
)

// String is the frame's name in docs/wire.md.
func (t Type) String() string {
	switch t {
	case TypeOpen:
		return "OPEN"
	case TypeData:
		return "DATA"
	case TypeFin:
		return "FIN"
	case TypeReset:
		return "RESET"
	case TypeDrain:
		return "DRAIN"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Header begins every frame: type u8, stream u8, value u16 big endian.
type Header struct {
	Type Type
	// Stream is the number of the stream within its lane, modulo 256. A frame of
	// a stream that has ended is told apart by it and ignored.
	Stream uint8
	// Value is the length of the payload for OPEN and DATA, the Code for RESET,
	// and zero otherwise.
	Value uint16
}

// Put writes h to the first HeaderLen bytes of b.
func (h Header) Put(b []byte) {
	_ = b[HeaderLen-1]
	b[0], b[1] = byte(h.Type), h.Stream
	binary.BigEndian.PutUint16(b[2:], h.Value)
}

// ParseHeader reads a header and checks that the value suits the type.
func ParseHeader(b [HeaderLen]byte) (Header, error) {
	h := Header{Type: Type(b[0]), Stream: b[1], Value: binary.BigEndian.Uint16(b[2:])}
	low, high := uint16(0), uint16(0)
	switch h.Type {
	case TypeOpen:
		low, high = 3+4+2, maxOpen
	case TypeData:
		low, high = 1, MaxPayload
	case TypeReset:
		high = uint16(lastCode)
	case TypeFin, TypeDrain:
	default:
		return Header{}, fmt.Errorf("lane: unknown frame %v", h.Type)
	}
	if h.Value < low || h.Value > high {
		return Header{}, fmt.Errorf("lane: %v with value %d, must be %d to %d", h.Type, h.Value, low, high)
	}
	return h, nil
}

// Hint is what the client knows about the bytes to come. It never changes how
// they are carried.
type Hint uint8

// HintNone: bytes of an unknown protocol.
const HintNone Hint = 0

// Open is the payload of an OPEN frame.
type Open struct {
	// Destination is where the client's application meant to go. An IPv4
	// address is never written in its IPv6-mapped form.
	Destination netip.AddrPort
	Hint        Hint
}

// Append writes o: version, hint, family (4 or 6), address, port.
func (o Open) Append(b []byte) []byte {
	addr := o.Destination.Addr().Unmap()
	family := byte(6)
	if addr.Is4() {
		family = 4
	}
	b = append(b, Version, byte(o.Hint), family)
	b = append(b, addr.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, o.Destination.Port())
}

// ParseOpen reads an OPEN payload. What it accepts, Append writes back
// identically.
func ParseOpen(b []byte) (Open, error) {
	if len(b) < 3 {
		return Open{}, fmt.Errorf("lane: OPEN of %d bytes is too short", len(b))
	}
	if b[0] != Version {
		return Open{}, fmt.Errorf("lane: OPEN version %d, must be %d", b[0], Version)
	}
	size := map[byte]int{4: 4, 6: 16}[b[2]]
	if size == 0 || len(b) != 3+size+2 {
		return Open{}, fmt.Errorf("lane: OPEN of %d bytes with address family %d", len(b), b[2])
	}
	addr, _ := netip.AddrFromSlice(b[3 : 3+size])
	if addr.Is4In6() {
		return Open{}, errors.New("lane: OPEN with an IPv4 address in IPv6 form")
	}
	port := binary.BigEndian.Uint16(b[3+size:])
	if port == 0 {
		return Open{}, errors.New("lane: OPEN with port 0")
	}
	return Open{Destination: netip.AddrPortFrom(addr, port), Hint: Hint(b[1])}, nil
}

// Code says why a stream was reset.
type Code uint16

// Codes of RESET.
const (
	// CodeAborted: the application reset its connection.
	CodeAborted Code = iota
	// CodeRefused: the server's policy does not admit the stream.
	CodeRefused
	// CodeUnreachable: the application at the destination did not accept.
	CodeUnreachable
	// CodeShutdown: the proxy ends before the stream did.
	CodeShutdown
	// CodeProtocol: the peer broke the wire format.
	CodeProtocol

	lastCode = CodeProtocol
)

// String is the code's name in docs/wire.md.
func (c Code) String() string {
	switch c {
	case CodeRefused:
		return "refused"
	case CodeUnreachable:
		return "unreachable"
	case CodeShutdown:
		return "shutdown"
	case CodeProtocol:
		return "protocol"
	}
	return "aborted"
}

// ResetError is what reading a stream returns once the peer has reset it.
type ResetError struct{ Code Code }

// Error names the code.
func (e *ResetError) Error() string { return "stream reset by peer: " + e.Code.String() }
