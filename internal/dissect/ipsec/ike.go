package ipsec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// IKE is one message of IKE version 1 (RFC 2408) or 2 (RFC 7296): both have the
// same header.
type IKE struct {
	Initiator, Responder [8]byte
	// Version is 1 or 2.
	Version  int
	Exchange byte
	// Sealed is the encrypted payload, behind an IV that may be a counter; nil if
	// the message is in clear.
	Sealed []byte
}

// Exchanges that are in clear.
const (
	IKESAInit = 34 // of version 2
)

const (
	ikeHeader = 28
	// Payloads of version 2: encrypted, and a fragment of one that is.
	payloadSK, payloadSKF = 46, 53
	// Flags of version 1.
	flagEncrypted1 = 1
)

// NonESP precedes a message of IKE where ESP is expected too (RFC 3948).
var NonESP = []byte{0, 0, 0, 0}

// Keepalive is sent to keep a translated address, and says nothing (RFC 3948).
const Keepalive = 0xff

// IsKeepalive reports whether a datagram is one.
func IsKeepalive(datagram []byte) bool { return len(datagram) == 1 && datagram[0] == Keepalive }

var errIKE = errors.New("it is no message of IKE")

// ParseIKE reads a message that fills a datagram of a length on the wire, of
// which the capture may have kept only the first bytes.
func ParseIKE(b []byte, length int) (IKE, error) {
	var m IKE
	if len(b) < ikeHeader || int64(binary.BigEndian.Uint32(b[24:])) != int64(length) {
		return m, errIKE
	}
	copy(m.Initiator[:], b)
	copy(m.Responder[:], b[8:])
	next, version, flags := b[16], b[17], b[19]
	m.Exchange = b[18]
	body := b[ikeHeader:]
	if m.Initiator == [8]byte{} {
		return m, errors.New("a message of IKE from nobody")
	}
	switch version {
	case 0x10:
		m.Version = 1
		if !known1(m.Exchange) {
			return m, fmt.Errorf("IKE has no exchange %d", m.Exchange)
		}
		if flags&flagEncrypted1 != 0 {
			m.Sealed = body
		}
		return m, nil
	case 0x20:
		m.Version = 2
		if m.Exchange < IKESAInit || m.Exchange > 44 {
			return m, fmt.Errorf("IKE has no exchange %d", m.Exchange)
		}
		var err error
		m.Sealed, err = sealed2(next, body, length-ikeHeader)
		return m, err
	}
	return m, fmt.Errorf("IKE has no version %d.%d", version>>4, version&15)
}

// known1 reports whether version 1 has an exchange of this number.
func known1(exchange byte) bool {
	return exchange >= 1 && exchange <= 6 || exchange >= 32 && exchange <= 33
}

// sealed2 goes through payloads to the encrypted one, which is the last.
func sealed2(next byte, body []byte, length int) ([]byte, error) {
	for next != 0 && len(body) >= 4 {
		size := int(binary.BigEndian.Uint16(body[2:]))
		if size < 4 || size > length {
			return nil, errors.New("a payload of IKE breaks off")
		}
		if next == payloadSK || next == payloadSKF {
			if size != length {
				return nil, errors.New("bytes behind the encrypted payload of IKE")
			}
			skip := 4 + iv
			if next == payloadSKF {
				skip += 4
			}
			return bytes.Clone(body[min(skip, len(body)):]), nil
		}
		if size > len(body) {
			return nil, nil // the capture cut it off
		}
		next, body, length = body[0], body[size:], length-size
	}
	return nil, nil
}
