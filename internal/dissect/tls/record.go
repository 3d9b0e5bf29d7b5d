package tls

// Content types of records (RFC 8446, section 5.1; heartbeat of RFC 6520).
const (
	TypeChangeCipherSpec = 20
	TypeAlert            = 21
	TypeHandshake        = 22
	TypeApplicationData  = 23
	TypeHeartbeat        = 24
)

// Bounds of a record's body (RFC 8446, section 5.2; RFC 5246, section 6.2.3).
const (
	RecordHeader = 5
	MaxBody13    = 1<<14 + 256
	MaxBody12    = 1<<14 + 2048
	// MinSealed13 is the type byte and the tag of an AEAD.
	MinSealed13 = 1 + 16
)

// Header stands before each record.
type Header struct {
	Type    byte
	Version uint16 // 0x0300 to 0x0303, whatever version was agreed on
	Length  int
}

// ParseHeader reads what stands before a record, or reports that no record of
// any version of TLS begins like that.
func ParseHeader(b []byte) (Header, bool) {
	if len(b) < RecordHeader {
		return Header{}, false
	}
	h := Header{Type: b[0], Version: uint16(b[1])<<8 | uint16(b[2]), Length: int(b[3])<<8 | int(b[4])}
	ok := h.Type >= TypeChangeCipherSpec && h.Type <= TypeHeartbeat && b[1] == 3 && b[2] <= 3 && h.Length > 0 && h.Length <= MaxBody12
	return h, ok
}

// Record is one TLS record; the last one of a stream may be cut off.
type Record struct {
	Type    byte
	Version uint16
	Offset  int // of its body in the stream
	Body    []byte
	Whole   bool
	Length  int // as its header says
}

// Records takes a stream apart, up to the first byte that cannot be TLS.
func Records(stream []byte) (all []Record, rest []byte) {
	offset := 0
	for {
		h, ok := ParseHeader(stream)
		if !ok {
			return all, stream
		}
		stream, offset = stream[RecordHeader:], offset+RecordHeader
		n := min(h.Length, len(stream))
		all = append(all, Record{h.Type, h.Version, offset, stream[:n], n == h.Length, h.Length})
		stream, offset = stream[n:], offset+n
	}
}

// Alert is one message of the alert protocol.
type Alert struct {
	Fatal       bool
	Description byte
}

// AlertCloseNotify ends a connection in good order.
const AlertCloseNotify = 0

// ParseAlert reads the body of a record of alerts in clear: a sealed one is
// longer.
func ParseAlert(body []byte) (Alert, bool) {
	if len(body) != 2 || body[0] != 1 && body[0] != 2 {
		return Alert{}, false
	}
	return Alert{body[0] == 2, body[1]}, true
}
