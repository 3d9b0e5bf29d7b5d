package decrypt

import (
	"crypto/sha256"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Types of handshake messages (RFC 8446, section 4).
const (
	helloClient         = 1
	helloServer         = 2
	endOfEarlyData      = 5
	encryptedExtensions = 8
	certificate         = 11
	certificateVerify   = 15
	finished            = 20
	keyUpdate           = 24
)

// Types of records, and the lengths of their header and of their longest body.
const (
	recordChange    = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23

	recordHeader = 5
	maxBody      = 1<<14 + 2048
)

// Extensions and versions read here.
const (
	extServerName        = 0
	extALPN              = 16
	extEarlyData         = 42
	extSupportedVersions = 43

	version12 = 0x0303
	version13 = 0x0304
)

// hello is what of a ClientHello or ServerHello decides how to go on.
type hello struct {
	at       int // offset of its record in the stream
	random   [32]byte
	session  []byte
	version  uint16
	cipher   uint16
	name     string
	protocol string
	early    bool
	retry    bool // a HelloRetryRequest
}

// maxPreamble is how far into a stream TLS may begin.
const maxPreamble = 16 << 10

// findHello finds the first hello of a type in a direction: at its beginning, or
// behind what stood in clear before. Of a HelloRetryRequest and the ServerHello
// that follows it, it is the latter.
func findHello(d *capture.Direction, typ byte) (hello, bool) {
	if len(d.Chunks) == 0 || d.Chunks[0].Offset != 0 {
		return hello{}, false
	}
	stream := d.Chunks[0].Data
	for i := 0; i+recordHeader+38 <= len(stream) && i < maxPreamble; i++ {
		if stream[i] != recordHandshake || stream[i+1] != 3 || stream[i+5] != typ || stream[i+9] != 3 {
			continue
		}
		h, ok := readHello(stream[i:], typ)
		if ok {
			h.at = i
			return h, true
		}
	}
	return hello{}, false
}

// readHello reads the messages at the beginning of a stream of records up to a
// hello that is not a retry.
func readHello(stream []byte, typ byte) (hello, bool) {
	var text []byte
	for len(stream) >= recordHeader {
		length := int(stream[3])<<8 | int(stream[4])
		if length > maxBody || len(stream) < recordHeader+length {
			return hello{}, false
		}
		switch stream[0] {
		case recordHandshake:
			text = append(text, stream[recordHeader:recordHeader+length]...)
		case recordChange: // for middleboxes, after a retry
		default:
			return hello{}, false
		}
		stream = stream[recordHeader+length:]
		for {
			m, rest, ok := nextMessage(text)
			if !ok {
				break
			}
			h, ok := parseHello(m.body, m.typ)
			if m.typ != typ || !ok {
				return hello{}, false
			}
			if !h.retry {
				return h, true
			}
			text = rest
		}
	}
	return hello{}, false
}

// message is one message of a handshake.
type message struct {
	typ  byte
	body []byte
	raw  []byte // with its header
}

// nextMessage takes one message off a text.
func nextMessage(text []byte) (m message, rest []byte, ok bool) {
	if len(text) < 4 {
		return m, text, false
	}
	length := 4 + (int(text[1])<<16 | int(text[2])<<8 | int(text[3]))
	if len(text) < length {
		return m, text, false
	}
	return message{typ: text[0], body: text[4:length], raw: text[:length]}, text[length:], true
}

// retryRandom marks a HelloRetryRequest (RFC 8446, section 4.1.3).
var retryRandom = sha256.Sum256([]byte("HelloRetryRequest"))

// parseHello reads the body of a ClientHello or ServerHello.
func parseHello(body []byte, typ byte) (h hello, ok bool) {
	s := cryptobyte.String(body)
	var session, list, extensions cryptobyte.String
	var compression uint8
	if !s.ReadUint16(&h.version) || !s.CopyBytes(h.random[:]) || !s.ReadUint8LengthPrefixed(&session) {
		return h, false
	}
	h.session = session
	switch typ {
	case helloClient:
		if !s.ReadUint16LengthPrefixed(&list) || !s.ReadUint8LengthPrefixed(&list) {
			return h, false
		}
	case helloServer:
		if !s.ReadUint16(&h.cipher) || !s.ReadUint8(&compression) {
			return h, false
		}
	default:
		return h, false
	}
	h.retry = typ == helloServer && h.random == retryRandom
	if s.Empty() { // TLS 1.2 may have none
		return h, true
	}
	if !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty() {
		return h, false
	}
	return h, eachExtension(extensions, func(ext uint16, data cryptobyte.String) bool {
		switch {
		case ext == extSupportedVersions && typ == helloServer:
			return data.ReadUint16(&h.version)
		case ext == extEarlyData:
			h.early = true
		case ext == extALPN && typ == helloServer:
			h.protocol, ok = readProtocol(data)
			return ok
		case ext == extServerName && typ == helloClient:
			h.name = readName(data)
		}
		return true
	})
}

// eachExtension calls read for each extension and reports whether all were read.
func eachExtension(s cryptobyte.String, read func(uint16, cryptobyte.String) bool) bool {
	for !s.Empty() {
		var typ uint16
		var data cryptobyte.String
		if !s.ReadUint16(&typ) || !s.ReadUint16LengthPrefixed(&data) || !read(typ, data) {
			return false
		}
	}
	return true
}

// readProtocol is the one ALPN name that a server agrees on.
func readProtocol(s cryptobyte.String) (string, bool) {
	var list, name cryptobyte.String
	ok := s.ReadUint16LengthPrefixed(&list) && list.ReadUint8LengthPrefixed(&name)
	return string(name), ok
}

// readName is the host name of an SNI, empty if it cannot be read.
func readName(s cryptobyte.String) string {
	var list, name cryptobyte.String
	var kind uint8
	if !s.ReadUint16LengthPrefixed(&list) || !list.ReadUint8(&kind) || kind != 0 || !list.ReadUint16LengthPrefixed(&name) {
		return ""
	}
	return string(name)
}

// protocolOf is the ALPN name in a server's EncryptedExtensions.
func protocolOf(messages []message) (name string) {
	for _, m := range messages {
		s := cryptobyte.String(m.body)
		var extensions cryptobyte.String
		if m.typ != encryptedExtensions || !s.ReadUint16LengthPrefixed(&extensions) {
			continue
		}
		eachExtension(extensions, func(typ uint16, data cryptobyte.String) (ok bool) {
			if typ == extALPN {
				name, ok = readProtocol(data)
				return ok
			}
			return true
		})
	}
	return name
}
