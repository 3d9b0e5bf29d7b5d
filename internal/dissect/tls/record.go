package tls

import "errors"

// Content types of records (RFC 8446, section 5.1).
const (
	TypeChangeCipherSpec = 20
	TypeAlert            = 21
	TypeHandshake        = 22
	TypeApplicationData  = 23
)

// Bounds of a record's body (RFC 8446, section 5.2; RFC 5246, section 6.2.3).
const (
	RecordHeader = 5
	MaxBody13    = 1<<14 + 256
	MaxBody12    = 1<<14 + 2048
	// MinSealed13 is the type byte and the tag of an AEAD.
	MinSealed13 = 1 + 16
)

// Record is one TLS record; the last one of a stream may be cut off.
type Record struct {
	Type   byte
	Offset int // of its body in the stream
	Body   []byte
	Whole  bool
	Length int // as its header says
}

// Records takes a stream apart, up to the first byte that cannot be TLS.
func Records(stream []byte) (all []Record, rest []byte) {
	offset := 0
	for len(stream) >= RecordHeader {
		typ, length := stream[0], int(stream[3])<<8|int(stream[4])
		if typ < TypeChangeCipherSpec || typ > TypeApplicationData || stream[1] != 3 || stream[2] > 3 || length == 0 || length > MaxBody12 {
			return all, stream
		}
		stream, offset = stream[RecordHeader:], offset+RecordHeader
		n := min(length, len(stream))
		all = append(all, Record{Type: typ, Offset: offset, Body: stream[:n], Whole: n == length, Length: length})
		stream, offset = stream[n:], offset+n
	}
	return all, stream
}

// Types of handshake messages (RFC 8446, section 4).
const (
	HelloClient = 1
	HelloServer = 2
)

// Message is one message of a handshake.
type Message struct {
	Type byte
	Body []byte
}

// Next takes the first message off a handshake stream.
func Next(stream []byte) (Message, []byte, error) {
	r := reader(stream)
	typ, ok := r.u8()
	body, ok2 := r.vector(3)
	if !ok || !ok2 {
		return Message{}, nil, errors.New("the handshake breaks off")
	}
	return Message{typ, body}, r, nil
}
