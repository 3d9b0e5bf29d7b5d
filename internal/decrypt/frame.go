package decrypt

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// LaneProtocol is the ALPN name of a lane, whose plaintext is frames.
const LaneProtocol = "sealmesh/1"

// Kind of a frame of a lane, by its name in docs/wire.md.
type Kind string

// The kinds of frames.
const (
	Open  Kind = "OPEN"
	Data  Kind = "DATA"
	Fin   Kind = "FIN"
	Reset Kind = "RESET"
	Drain Kind = "DRAIN"
)

// Frame is one frame of a lane, or a part of the payload of DATA.
type Frame struct {
	Kind   Kind
	Stream uint8
	// Length of DATA as its header says.
	Length int
	// Data is the bytes of the application, as far as they have come.
	Data []byte
	// Destination and Hint of OPEN.
	Destination netip.AddrPort
	Hint        uint8
	// Code of RESET, by its name.
	Code string
}

// FrameError is a breach of the grammar of frames.
type FrameError struct {
	// Class is type, value, version, address or short, as in test/vectors/lane.txt.
	Class  string
	Detail string
}

// Error says what is wrong.
func (e *FrameError) Error() string { return "not a frame of a lane: " + e.Detail }

// Frames unwraps one direction of a lane, to be read by people: the proxies' own
// reader is another one on purpose.
type Frames struct {
	head    []byte // of a frame that is not complete
	stream  uint8
	length  int // of the DATA under way
	left    int
	failure error
}

const (
	frameHeader  = 4
	maxFrameBody = 1<<14 - frameHeader
	openV4       = 3 + 4 + 2
	openV6       = 3 + 16 + 2
)

var kinds = [...]Kind{1: Open, 2: Data, 3: Fin, 4: Reset, 5: Drain}

var codes = [...]string{"aborted", "refused", "unreachable", "shutdown", "protocol"}

// Add takes the next bytes and returns the frames that they complete, and what has
// come of DATA. After an error everything is one.
func (f *Frames) Add(b []byte) (frames []Frame, err error) {
	for len(b) > 0 && f.failure == nil {
		if f.left > 0 {
			n := min(f.left, len(b))
			frames = append(frames, Frame{Kind: Data, Stream: f.stream, Length: f.length, Data: b[:n]})
			f.left, b = f.left-n, b[n:]
			continue
		}
		f.head, b = append(f.head, b[0]), b[1:]
		frame, complete, err := readFrame(f.head)
		switch {
		case err != nil:
			f.failure = err
		case !complete:
		case frame.Kind == Data:
			f.stream, f.length, f.left, f.head = frame.Stream, frame.Length, frame.Length, nil
		default:
			frames, f.head = append(frames, frame), nil
		}
	}
	return frames, f.failure
}

// readFrame reads what has come of a frame: of DATA the header alone.
func readFrame(b []byte) (f Frame, complete bool, err error) {
	if len(b) < frameHeader {
		return f, false, nil
	}
	typ, value := int(b[0]), int(binary.BigEndian.Uint16(b[2:]))
	if typ == 0 || typ >= len(kinds) {
		return f, false, &FrameError{"type", fmt.Sprintf("type %d", typ)}
	}
	f = Frame{Kind: kinds[typ], Stream: b[1]}
	low, high := 0, 0
	switch f.Kind {
	case Open:
		low, high = openV4, openV6
	case Data:
		low, high = 1, maxFrameBody
	case Reset:
		high = len(codes) - 1
	}
	if value < low || value > high {
		return f, false, &FrameError{"value", fmt.Sprintf("%s with value %d", f.Kind, value)}
	}
	switch f.Kind {
	case Open:
		if len(b) < frameHeader+value {
			return f, false, nil
		}
		return f.open(b[frameHeader:])
	case Data:
		f.Length = value
	case Reset:
		f.Code = codes[value]
	}
	return f, true, nil
}

// open reads the payload of OPEN.
func (f Frame) open(b []byte) (Frame, bool, error) {
	if b[0] != 1 {
		return f, false, &FrameError{"version", fmt.Sprintf("OPEN of version %d", b[0])}
	}
	size := map[byte]int{4: 4, 6: 16}[b[2]]
	if size == 0 || len(b) != 3+size+2 {
		return f, false, &FrameError{"short", fmt.Sprintf("OPEN of %d bytes with address family %d", len(b), b[2])}
	}
	addr, _ := netip.AddrFromSlice(b[3 : 3+size])
	port := binary.BigEndian.Uint16(b[3+size:])
	if addr.Is4In6() || port == 0 {
		return f, false, &FrameError{"address", fmt.Sprintf("OPEN to %s, port %d", addr, port)}
	}
	f.Destination, f.Hint = netip.AddrPortFrom(addr, port), b[1]
	return f, true, nil
}
