// Package wireguard takes apart the four messages of WireGuard, as they are on
// the wire. It keeps no state, decrypts nothing and judges nothing.
//
//	1  initiation  type sender            ephemeral static timestamp mac1 mac2   148 bytes
//	2  response    type sender receiver   ephemeral empty            mac1 mac2    92
//	3  cookie      type        receiver   nonce cookie                            64
//	4  data        type        receiver   counter packet                     32, 48 …
//
// Numbers are little-endian and the type is followed by three zeros. See
// J. Donenfeld, WireGuard: Next Generation Kernel Network Tunnel, section 5.4.
package wireguard

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/blake2s"
)

// Type of a message.
type Type byte

// The types.
const (
	Initiation Type = 1
	Response   Type = 2
	Cookie     Type = 3
	Data       Type = 4
)

// Lengths in bytes.
const (
	initiationLength = 148
	responseLength   = 92
	cookieLength     = 64
	// DataHeader stands before the sealed packet of a data message.
	DataHeader = 16
	// Tag ends whatever is sealed.
	Tag = 16
	// padding is what the length of a sealed packet is a multiple of.
	padding = 16
	macs    = 2 * 16
)

// Message is one datagram.
type Message struct {
	Type Type
	// Sender is the index that the sender wants to be answered with, of an
	// initiation and a response; Receiver is such an index of the other side, of
	// all but an initiation.
	Sender, Receiver uint32
	// Counter of a data message, from 0 in each session and direction.
	Counter uint64
	// Sealed is what should look random: everything behind the numbers, but for
	// mac2, which is zero until a cookie was sent.
	Sealed []byte

	// signed and mac1 are of an initiation and a response that are whole.
	signed, mac1 []byte
}

// Parse reads a datagram of a length on the wire, of which the capture may have
// kept only the first bytes.
func Parse(datagram []byte, length int) (Message, error) {
	if len(datagram) < 8 {
		return Message{}, fmt.Errorf("%d bytes are no message of WireGuard", len(datagram))
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(datagram[at:]) }
	first := word(0)
	if first < uint32(Initiation) || first > uint32(Data) {
		return Message{}, fmt.Errorf("WireGuard has no message of type 0x%x", first)
	}
	m := Message{Type: Type(first)}
	header, fits := m.Type.shape(length)
	switch {
	case !fits:
		return Message{}, fmt.Errorf("WireGuard has no message of type %d with %d bytes", m.Type, length)
	case len(datagram) < header || len(datagram) > length:
		return Message{}, fmt.Errorf("only %d bytes of the message were captured", len(datagram))
	}
	m.Sealed = datagram[header:]
	switch m.Type {
	case Initiation, Response:
		m.Sender = word(4)
		if m.Type == Response {
			m.Receiver = word(8)
		}
		m.Sealed = datagram[header:max(header, min(len(datagram), length-macs/2))]
		if len(datagram) == length {
			m.signed, m.mac1 = datagram[:length-macs], datagram[length-macs:length-macs/2]
		}
	case Cookie:
		m.Receiver = word(4)
	case Data:
		m.Receiver, m.Counter = word(4), binary.LittleEndian.Uint64(datagram[8:])
	}
	return m, nil
}

// batchGap is how many messages may be missing inside of a batch.
const batchGap = 1 << 10

// Split reads a datagram that may be a batch of data messages, as a capture has it
// of a machine whose kernel leaves it to the network card to cut them apart, or put
// them together: all are equally long but the last, go to one receiver, and count.
func Split(datagram []byte, length int) ([]Message, error) {
	first, err := Parse(datagram, length)
	if err != nil || first.Type != Data {
		return []Message{first}, err
	}
	var all []Message
	for size := batched(datagram); size > 0 && len(datagram) > size; length -= size {
		m, err := Parse(datagram[:size], size)
		if err != nil || m.Receiver != first.Receiver {
			return []Message{first}, nil //nolint:nilerr // it is one message
		}
		all, datagram = append(all, m), datagram[size:]
		if len(datagram) < DataHeader {
			return all, nil
		}
	}
	last, err := Parse(datagram, length)
	if err != nil || last.Receiver != first.Receiver {
		return []Message{first}, nil //nolint:nilerr // as above
	}
	return append(all, last), nil
}

// batched is how long the messages of a batch are, or 0 if there is but one.
func batched(b []byte) int {
	const number = 8 // where the counter is
	for at := DataHeader + Tag; at+DataHeader <= len(b); at += padding {
		next := b[at:]
		if bytes.Equal(next[:number], b[:number]) &&
			binary.LittleEndian.Uint64(next[number:])-binary.LittleEndian.Uint64(b[number:])-1 < batchGap {
			return at
		}
	}
	return 0
}

// shape is where the sealed part of a type begins, and whether a message of it
// can be of this length.
func (t Type) shape(length int) (header int, fits bool) {
	switch t {
	case Initiation:
		return 8, length == initiationLength
	case Response:
		return 12, length == responseLength
	case Cookie:
		return 8, length == cookieLength
	}
	return DataHeader, length >= DataHeader+Tag && length%padding == 0
}

// AddressedTo reports whether an initiation or a response was made for the owner
// of a public key: nobody who does not know the key can make its mac1.
func (m Message) AddressedTo(public [32]byte) bool {
	if m.mac1 == nil {
		return false
	}
	key := blake2s.Sum256(append([]byte("mac1----"), public[:]...))
	mac, err := blake2s.New128(key[:])
	if err != nil {
		return false // a key of 32 bytes is not refused
	}
	mac.Write(m.signed)
	return subtle.ConstantTimeCompare(mac.Sum(nil), m.mac1) == 1
}
