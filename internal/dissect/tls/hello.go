// Package tls takes apart what TLS says in clear, as bytes on the wire. It keeps
// no state, and judges nothing.
//
//	record.go     records and alerts
//	handshake.go  messages of a handshake but its hellos
//	hello.go      hellos of SSL 3.0 to TLS 1.3, drafts of it, and DTLS
//	sslv2.go      records and hellos of SSL 2.0
//	suites.go     cipher suites: names, and what each is worth
//	names.go      names of versions, groups and alerts
package tls

import (
	"errors"
	"fmt"
)

// Extensions read here (the IANA's registry of TLS extension types).
const (
	extServerName           = 0
	extSupportedGroups      = 10
	extUseSRTP              = 14
	extALPN                 = 16
	extExtendedMasterSecret = 23
	extSessionTicket        = 35
	extKeyShareDraft        = 40 // up to draft 22
	extPreSharedKey         = 41
	extEarlyData            = 42
	extSupportedVersions    = 43
	extKeyShare             = 51
	extConnectionID         = 54
	extECH                  = 0xFE0D
)

// ClientHello is what a client says in clear. Values of GREASE (RFC 8701) are
// left out.
type ClientHello struct {
	Random [32]byte
	// Session is the id of a session to resume, or anything at all in TLS 1.3.
	Session []byte
	// ServerName is the SNI, empty if there is none.
	ServerName string
	// Protocols are the ALPN names offered.
	Protocols []string
	// Ciphers, Groups and Versions offered, the preferred one first. Without
	// the extension, Versions holds the legacy version.
	Ciphers, Groups, Versions []uint16
	// KeyShares are the groups that keys were sent for.
	KeyShares []uint16
	// Ticket: a session ticket was sent, not only asked for. PreSharedKey: there
	// are identities of keys to resume with. EarlyData: data follows at once.
	Ticket, PreSharedKey, EarlyData bool
	// ECH: there is an encrypted hello, or what cannot be told from one.
	ECH                  bool
	ExtendedMasterSecret bool
	// SRTP: the client offers to key SRTP (RFC 5764).
	SRTP bool
	// ConnectionID that the client wants to see in records sent to it, nil if
	// there is none (RFC 9146).
	ConnectionID []byte
	// Cookie of DTLS: what the server asked for.
	Cookie []byte
	// SSL2: the hello has the form of SSL 2.0; it may still ask for more.
	SSL2 bool
}

// ServerHello is what a server answers in clear.
type ServerHello struct {
	Random  [32]byte
	Session []byte
	// Version and Cipher are what was agreed on.
	Version, Cipher uint16
	// Group of the key exchange; 0 if the hello does not say.
	Group uint16
	// Protocol is the ALPN name agreed on, if the hello says so.
	Protocol string
	// PreSharedKey: the server took a key the client had named. Ticket: it will
	// send one.
	PreSharedKey, Ticket bool
	ExtendedMasterSecret bool
	SRTP                 bool
	ConnectionID         []byte
}

// RetryRandom marks a ServerHello that asks for another ClientHello: the SHA-256
// of "HelloRetryRequest" (RFC 8446, section 4.1.3).
var RetryRandom = [32]byte{
	0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
	0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
}

var errClientHello = errors.New("the ClientHello is malformed")

// ParseClientHello reads the body of a ClientHello message.
func ParseClientHello(body []byte) (ClientHello, error) { return parseClientHello(body, false) }

// ParseClientHelloDTLS reads the body of one that has a cookie (RFC 6347,
// section 4.3.2).
func ParseClientHelloDTLS(body []byte) (ClientHello, error) { return parseClientHello(body, true) }

func parseClientHello(body []byte, cookie bool) (ClientHello, error) {
	var h ClientHello
	r := reader(body)
	legacy, ok1 := r.u16()
	random, ok2 := r.bytes(32)
	session, ok3 := r.vector(1)
	if cookie && ok3 {
		h.Cookie, ok3 = r.vector(1)
	}
	ciphers, ok4 := r.vector(2)
	_, ok5 := r.vector(1) // compression
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return h, errClientHello
	}
	copy(h.Random[:], random)
	h.Session = session
	var ok bool
	if h.Ciphers, ok = numbers(ciphers); !ok {
		return h, errClientHello
	}
	if err := r.extensions(h.extension); err != nil {
		return h, fmt.Errorf("%w: %w", errClientHello, err)
	}
	if h.Versions == nil {
		h.Versions = []uint16{legacy}
	}
	return h, nil
}

// extension reads one extension of a ClientHello.
func (h *ClientHello) extension(typ uint16, data reader) (ok bool) {
	switch typ {
	case extServerName:
		h.ServerName, ok = data.serverName()
		return ok
	case extALPN:
		h.Protocols, ok = data.protocols()
		return ok
	case extSupportedGroups:
		h.Groups, ok = data.list(2)
		return ok
	case extSupportedVersions:
		h.Versions, ok = data.list(1)
		return ok
	case extKeyShare:
		h.KeyShares, ok = data.keyShares()
		return ok
	case extKeyShareDraft: // or something else, by somebody else
		if groups, ok := data.keyShares(); ok && h.KeyShares == nil {
			h.KeyShares = groups
		}
	case extConnectionID:
		h.ConnectionID, ok = data.connectionID()
		return ok
	case extSessionTicket:
		h.Ticket = len(data) > 0
	case extPreSharedKey:
		h.PreSharedKey = true
	case extEarlyData:
		h.EarlyData = true
	case extECH:
		h.ECH = true
	case extExtendedMasterSecret:
		h.ExtendedMasterSecret = true
	case extUseSRTP:
		h.SRTP = true
	}
	return true
}

var errServerHello = errors.New("the ServerHello is malformed")

// ParseServerHello reads the body of a ServerHello message.
func ParseServerHello(body []byte) (ServerHello, error) {
	var h ServerHello
	r := reader(body)
	legacy, ok1 := r.u16()
	random, ok2 := r.bytes(32)
	ok3, ok5 := true, true
	early := earlyDraft(legacy) // has neither session nor compression
	if !early {
		h.Session, ok3 = r.vector(1)
	}
	cipher, ok4 := r.u16()
	if !early {
		_, ok5 = r.u8()
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return h, errServerHello
	}
	h.Version, h.Cipher = legacy, cipher
	copy(h.Random[:], random)
	if err := r.extensions(h.extension); err != nil {
		return h, fmt.Errorf("%w: %w", errServerHello, err)
	}
	return h, nil
}

// extension reads one extension of a ServerHello.
func (h *ServerHello) extension(typ uint16, data reader) (ok bool) {
	switch typ {
	case extSupportedVersions:
		h.Version, ok = data.u16()
		return ok && len(data) == 0
	case extKeyShare: // the group, and a key unless it asks to retry
		h.Group, ok = data.u16()
		return ok
	case extKeyShareDraft:
		if len(data) >= 2 && h.Group == 0 {
			h.Group, _ = data.u16()
		}
	case extALPN:
		names, ok := data.protocols()
		if !ok || len(names) > 1 {
			return false
		}
		if len(names) == 1 {
			h.Protocol = names[0]
		}
	case extConnectionID:
		h.ConnectionID, ok = data.connectionID()
		return ok
	case extPreSharedKey:
		h.PreSharedKey = true
	case extSessionTicket:
		h.Ticket = true
	case extExtendedMasterSecret:
		h.ExtendedMasterSecret = true
	case extUseSRTP:
		h.SRTP = true
	}
	return true
}

// connectionID reads an id, which may be empty but is not nil.
func (r reader) connectionID() ([]byte, bool) {
	id, ok := r.vector(1)
	if !ok || len(r) != 0 {
		return nil, false
	}
	return append([]byte{}, id...), true
}
