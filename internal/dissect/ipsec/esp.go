// Package ipsec takes apart what IPsec shows on the wire: packets of ESP, which
// may turn out not to be encrypted, and messages of IKE. It keeps no state and
// judges nothing.
//
//	ESP   SPI sequence [IV] payload padding length-of-padding next-header [ICV]
//	                        └───────── encrypted, unless NULL ────────┘
package ipsec

import (
	"encoding/binary"
	"fmt"
)

const (
	// header of ESP: SPI and sequence number.
	header = 8
	// iv is what most ciphers send before the payload; it may be a counter.
	iv = 8
	// smallest packet: a header and blocks for a payload and an ICV.
	smallest = header + 12
	// reserved SPIs are below it (RFC 4303, section 2.1).
	firstSPI = 256
)

// ESP is a packet of RFC 4303.
type ESP struct {
	SPI, Sequence uint32
	// Sealed is what looks random if anything is encrypted: all behind the IV.
	Sealed []byte

	body   []byte // all behind the header
	length int    // of the body on the wire
}

// ParseESP reads a packet of a length on the wire, of which the capture may have
// kept only the first bytes.
func ParseESP(packet []byte, length int) (ESP, error) {
	if len(packet) < header || length < smallest || length%4 != 0 {
		return ESP{}, fmt.Errorf("%d bytes are no ESP packet", length)
	}
	p := ESP{
		SPI: binary.BigEndian.Uint32(packet), Sequence: binary.BigEndian.Uint32(packet[4:]),
		body: packet[header:], length: length - header,
	}
	if p.SPI < firstSPI || p.Sequence == 0 {
		return ESP{}, fmt.Errorf("no ESP packet has SPI %d and sequence number %d", p.SPI, p.Sequence)
	}
	p.Sealed = p.body[min(iv, len(p.body)):]
	return p, nil
}

// Nonce is where most ciphers send one, the first bytes behind the header.
func (p ESP) Nonce() []byte { return p.body[:min(iv, len(p.body))] }

// Body is all behind the header.
func (p ESP) Body() []byte { return p.body }

// icvs are the lengths that an ICV has, the most usual first.
var icvs = [...]int{12, 16, 24, 32, 0, 8}

// Trailers are the next headers that a packet names if nothing encrypts it, by
// what its ICV may be; 0 where its padding does not fit. No packet that counts
// carries the extension header 0.
type Trailers [len(icvs)]byte

// Trailers reads the end of a packet, if it was captured. Of an encrypted packet
// one in 40 has any.
func (p ESP) Trailers() (all Trailers) {
	if len(p.body) < p.length {
		return all
	}
	for i, icv := range icvs {
		if _, next, ok := untrailed(p.body, icv); ok {
			all[i] = next
		}
	}
	return all
}

// Common are those that two packets share.
func (t Trailers) Common(other Trailers) Trailers {
	for i := range t {
		if t[i] != other[i] {
			t[i] = 0
		}
	}
	return t
}

// Any reports whether there is one.
func (t Trailers) Any() bool { return t != Trailers{} }

// Inner is what stands in clear inside an ESP packet.
type Inner struct {
	// Bytes from the inner header on.
	Bytes []byte
	// Certain: no encrypted packet looks like this by chance; else one in 10,000
	// may.
	Certain bool
}

// Protocols inside ESP, by their numbers.
const (
	protoICMP   = 1
	protoIPv4   = 4
	protoTCP    = 6
	protoUDP    = 17
	protoIPv6   = 41
	protoICMPv6 = 58
)

// Clear finds an inner header in a packet that claims to be encrypted: that of
// ESP with the cipher NULL (RFC 2410), or with GMAC, which only authenticates
// (RFC 4543). What follows the payload must fit, if it was captured.
func (p ESP) Clear() (Inner, bool) {
	var maybe Inner
	for _, at := range []int{0, 8, 16} { // length of the IV
		if at >= len(p.body) {
			break
		}
		inner := p.body[at:]
		if ipv4(inner, p.length-at) {
			return Inner{inner, true}, true
		}
		if len(p.body) < p.length {
			continue
		}
		for _, icv := range icvs {
			payload, next, ok := untrailed(inner, icv)
			if !ok {
				continue
			}
			switch certain, ok := fits(payload, next); {
			case certain:
				return Inner{inner, true}, true
			case ok:
				maybe.Bytes = inner
			}
		}
	}
	return maybe, maybe.Bytes != nil
}

// ipv4 reports whether b, of a length on the wire, begins with an IPv4 header:
// its checksum tells.
func ipv4(b []byte, length int) bool {
	const slack = 2 + 255 + 32 // trailer, padding, ICV
	if len(b) < 20 || b[0]>>4 != 4 {
		return false
	}
	size := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if size < 20 || size > len(b) || total < size || total > length || length-total > slack {
		return false
	}
	sum := uint32(0)
	for i := 0; i < size; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum == 0xffff
}

// untrailed takes ICV, next header, length of the padding and the padding off: it
// is 1, 2, 3 … (RFC 4303, section 2.4).
func untrailed(b []byte, icv int) (payload []byte, next byte, ok bool) {
	end := len(b) - icv - 2
	if end < 0 {
		return nil, 0, false
	}
	padding, next := int(b[end]), b[end+1]
	if padding > end {
		return nil, 0, false
	}
	for i := range padding {
		if b[end-padding+i] != byte(i+1) {
			return nil, 0, false
		}
	}
	return b[:end-padding], next, true
}

// fits reports whether a payload is of the protocol that the trailer names.
func fits(b []byte, protocol byte) (certain, ok bool) {
	switch protocol {
	case protoIPv4:
		return ipv4(b, len(b)), false
	case protoIPv6:
		return len(b) >= 40 && b[0]>>4 == 6 && int(binary.BigEndian.Uint16(b[4:])) == len(b)-40, false
	case protoUDP:
		return len(b) >= 8 && int(binary.BigEndian.Uint16(b[4:])) == len(b), false
	case protoTCP:
		size := 0
		if len(b) >= 20 {
			size = int(b[12]>>4) * 4
		}
		return false, size >= 20 && size <= len(b) && b[12]&0x0f == 0
	case protoICMP:
		return false, len(b) >= 8 && (b[0] == 0 || b[0] == 8) && b[1] == 0
	case protoICMPv6:
		return false, len(b) >= 8 && (b[0] == 128 || b[0] == 129) && b[1] == 0
	}
	return false, false
}
