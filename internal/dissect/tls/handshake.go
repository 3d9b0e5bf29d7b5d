package tls

import "errors"

// Types of handshake messages (RFC 8446, section 4; RFC 5246, section 7.4).
const (
	HelloRequest       = 0
	HelloClient        = 1
	HelloServer        = 2
	HelloVerifyRequest = 3 // DTLS
	NewSessionTicket   = 4
	HelloRetryDraft    = 6 // HelloRetryRequest up to draft 21
	CertificateMessage = 11
	ServerKeyExchange  = 12
	CertificateRequest = 13
	ServerHelloDone    = 14
	CertificateVerify  = 15
	ClientKeyExchange  = 16
	Finished           = 20
	CertificateStatus  = 22
	SupplementalData   = 23
	NextProtocol       = 67 // NPN, sealed
)

// Message is one message of a handshake.
type Message struct {
	Type byte
	Body []byte
}

// ErrBreaksOff says that a message is longer than what there is of it.
var ErrBreaksOff = errors.New("the handshake breaks off")

// Next takes the first message off a handshake stream.
func Next(stream []byte) (Message, []byte, error) {
	r := reader(stream)
	typ, ok := r.u8()
	body, ok2 := r.vector(3)
	if !ok || !ok2 {
		return Message{}, nil, ErrBreaksOff
	}
	return Message{typ, body}, r, nil
}

// KnownMessage reports whether a type is one that may be in clear.
func KnownMessage(typ byte) bool {
	switch typ {
	case HelloRequest, HelloClient, HelloServer, NewSessionTicket, HelloRetryDraft, CertificateMessage, ServerKeyExchange,
		CertificateRequest, ServerHelloDone, CertificateVerify, ClientKeyExchange, CertificateStatus, SupplementalData:
		return true
	}
	return false
}

// Leaf is the first certificate of a Certificate message as TLS 1.2 and before
// have it, in DER. It is nil if the message has none.
func Leaf(body []byte) (der []byte, ok bool) {
	r := reader(body)
	list, ok := r.vector(3)
	if !ok || len(r) != 0 {
		return nil, false
	}
	if len(list) == 0 {
		return nil, true
	}
	der, ok = list.vector(3)
	return der, ok
}

// KeyExchange is what a ServerKeyExchange says of the group.
type KeyExchange struct {
	// Group is a named one; 0 if it is not of elliptic curves.
	Group uint16
	// PrimeBits is the size of a Diffie-Hellman prime, else 0. Standard: it is
	// one of RFC 7919.
	PrimeBits int
	Standard  bool
}

// ParseKeyExchange reads the body of a ServerKeyExchange under a cipher suite.
// It reports false if the suite's has no group.
func ParseKeyExchange(body []byte, cipher uint16) (KeyExchange, bool) {
	r := reader(body)
	kind := SuiteOf(cipher).exchange()
	if kind.hint {
		if _, ok := r.vector(2); !ok {
			return KeyExchange{}, false
		}
	}
	switch {
	case kind.curve:
		const named = 3
		typ, ok1 := r.u8()
		group, ok2 := r.u16()
		return KeyExchange{Group: group}, ok1 && ok2 && typ == named
	case kind.prime:
		p, ok := r.vector(2)
		for len(p) > 0 && p[0] == 0 {
			p = p[1:]
		}
		return KeyExchange{PrimeBits: bits(p), Standard: standardPrime(p)}, ok && len(p) > 0
	}
	return KeyExchange{}, false
}

// bits is the length of a number without leading zero bytes.
func bits(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	n := len(p) * 8
	for top := p[0]; top < 0x80; top <<= 1 {
		n--
	}
	return n
}

// standardPrime reports whether p begins as the primes of RFC 7919 do: ones, and
// then the digits of e.
func standardPrime(p []byte) bool {
	const begins = "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xAD\xF8\x54\x58\xA2\xBB\x4A\x9A"
	return len(p) >= 256 && string(p[:len(begins)]) == begins
}
