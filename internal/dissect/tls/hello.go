// Package tls takes apart what TLS says in clear, as bytes on the wire: records,
// hellos, names. It keeps no state, and judges nothing.
package tls

import (
	"errors"
	"fmt"
)

// Extensions read here (RFC 8446, section 4.2).
const (
	extServerName        = 0
	extSupportedGroups   = 10
	extALPN              = 16
	extSupportedVersions = 43
	extKeyShare          = 51
)

// ClientHello is what a client says in clear. Values of GREASE (RFC 8701) are
// left out.
type ClientHello struct {
	Random [32]byte
	// ServerName is the SNI, empty if there is none.
	ServerName string
	// Protocols are the ALPN names offered.
	Protocols []string
	// Ciphers, Groups and Versions offered, the preferred one first. Without
	// the extension, Versions holds the legacy version.
	Ciphers, Groups, Versions []uint16
	// KeyShares are the groups that keys were sent for.
	KeyShares []uint16
}

// ServerHello is what a server answers in clear.
type ServerHello struct {
	Random [32]byte
	// Version and Cipher are what was agreed on.
	Version, Cipher uint16
	// Group of the key exchange; 0 if the hello does not say.
	Group uint16
}

// RetryRandom marks a ServerHello that asks for another ClientHello: the SHA-256
// of "HelloRetryRequest" (RFC 8446, section 4.1.3).
var RetryRandom = [32]byte{
	0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91,
	0xC2, 0xA2, 0x11, 0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
}

var errClientHello = errors.New("the ClientHello is malformed")

// ParseClientHello reads the body of a ClientHello message.
func ParseClientHello(body []byte) (ClientHello, error) {
	var h ClientHello
	r := reader(body)
	legacy, ok1 := r.u16()
	random, ok2 := r.bytes(32)
	_, ok3 := r.vector(1) // session
	ciphers, ok4 := r.vector(2)
	_, ok5 := r.vector(1) // compression
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return h, errClientHello
	}
	copy(h.Random[:], random)
	var ok bool
	if h.Ciphers, ok = numbers(ciphers); !ok {
		return h, errClientHello
	}
	err := r.extensions(func(typ uint16, data reader) bool {
		switch typ {
		case extServerName:
			h.ServerName, ok = data.serverName()
		case extALPN:
			h.Protocols, ok = data.protocols()
		case extSupportedGroups:
			h.Groups, ok = data.list(2)
		case extSupportedVersions:
			h.Versions, ok = data.list(1)
		case extKeyShare:
			h.KeyShares, ok = data.keyShares()
		default:
			ok = true
		}
		return ok
	})
	if err != nil {
		return h, fmt.Errorf("%w: %w", errClientHello, err)
	}
	if h.Versions == nil {
		h.Versions = []uint16{legacy}
	}
	return h, nil
}

var errServerHello = errors.New("the ServerHello is malformed")

// ParseServerHello reads the body of a ServerHello message.
func ParseServerHello(body []byte) (ServerHello, error) {
	var h ServerHello
	r := reader(body)
	legacy, ok1 := r.u16()
	random, ok2 := r.bytes(32)
	_, ok3 := r.vector(1) // session
	cipher, ok4 := r.u16()
	_, ok5 := r.u8() // compression
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return h, errServerHello
	}
	h.Version, h.Cipher = legacy, cipher
	copy(h.Random[:], random)
	err := r.extensions(func(typ uint16, data reader) (ok bool) {
		switch typ {
		case extSupportedVersions:
			h.Version, ok = data.u16()
			return ok && len(data) == 0
		case extKeyShare: // the group, and a key unless it asks to retry
			h.Group, ok = data.u16()
			return ok
		}
		return true
	})
	if err != nil {
		return h, fmt.Errorf("%w: %w", errServerHello, err)
	}
	return h, nil
}

// reader takes values off the front of a message. Every method reports whether
// there was enough to take.
type reader []byte

func (r *reader) bytes(n int) ([]byte, bool) {
	if len(*r) < n {
		return nil, false
	}
	b := (*r)[:n]
	*r = (*r)[n:]
	return b, true
}

func (r *reader) u8() (byte, bool) {
	b, ok := r.bytes(1)
	if !ok {
		return 0, false
	}
	return b[0], true
}

func (r *reader) u16() (uint16, bool) {
	b, ok := r.bytes(2)
	if !ok {
		return 0, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), true
}

// vector takes bytes that their length of size bytes precedes.
func (r *reader) vector(size int) (reader, bool) {
	b, ok := r.bytes(size)
	if !ok {
		return nil, false
	}
	length := 0
	for _, digit := range b {
		length = length<<8 | int(digit)
	}
	return r.bytes(length)
}

// extensions calls read for each extension up to the end of the message. None
// may occur twice (RFC 8446, section 4.2).
func (r *reader) extensions(read func(typ uint16, data reader) bool) error {
	if len(*r) == 0 {
		return nil // before TLS 1.3 there may be none at all
	}
	block, ok := r.vector(2)
	if !ok || len(*r) != 0 {
		return errors.New("its extensions break off")
	}
	seen := make(map[uint16]bool)
	for len(block) > 0 {
		typ, ok1 := block.u16()
		data, ok2 := block.vector(2)
		if !ok1 || !ok2 || seen[typ] || !read(typ, data) {
			return fmt.Errorf("extension %d", typ)
		}
		seen[typ] = true
	}
	return nil
}

// serverName reads the one host name there may be (RFC 6066, section 3).
func (r reader) serverName() (string, bool) {
	names, ok := r.vector(2)
	if !ok || len(r) != 0 {
		return "", false
	}
	kind, ok1 := names.u8()
	name, ok2 := names.vector(2)
	return string(name), ok1 && ok2 && kind == 0 && len(names) == 0
}

// protocols reads a list of names (RFC 7301, section 3.1).
func (r reader) protocols() (all []string, ok bool) {
	names, ok := r.vector(2)
	if !ok || len(r) != 0 {
		return nil, false
	}
	for len(names) > 0 {
		name, ok := names.vector(1)
		if !ok || len(name) == 0 {
			return nil, false
		}
		all = append(all, string(name))
	}
	return all, true
}

// list reads 16-bit numbers behind a length of size bytes.
func (r reader) list(size int) ([]uint16, bool) {
	body, ok := r.vector(size)
	if !ok || len(r) != 0 {
		return nil, false
	}
	return numbers(body)
}

// keyShares reads the groups of the shares a client sends.
func (r reader) keyShares() (groups []uint16, ok bool) {
	shares, ok := r.vector(2)
	if !ok || len(r) != 0 {
		return nil, false
	}
	for len(shares) > 0 {
		group, ok1 := shares.u16()
		_, ok2 := shares.vector(2)
		if !ok1 || !ok2 {
			return nil, false
		}
		if !grease(group) {
			groups = append(groups, group)
		}
	}
	return groups, true
}

// numbers reads 16-bit numbers up to the end, without those of GREASE.
func numbers(r reader) (all []uint16, ok bool) {
	for len(r) > 0 {
		n, ok := r.u16()
		if !ok {
			return nil, false
		}
		if !grease(n) {
			all = append(all, n)
		}
	}
	return all, true
}

// grease reports whether n is one of 0x0A0A, 0x1A1A … 0xFAFA.
func grease(n uint16) bool { return n&0x0F0F == 0x0A0A && n>>8 == n&0xFF }
