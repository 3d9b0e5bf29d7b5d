// Package ssh takes apart what SSH says in clear: the banners, and the packets up
// to the one from which on everything is encrypted (RFC 4253). It keeps no state
// and judges nothing.
//
//	stream ──► banner ──► packets in clear, up to NEWKEYS ──► what is sealed
package ssh

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Banner is the line that each side begins with.
type Banner struct {
	// Protocol is "2.0"; "1.99" speaks both 2.0 and what came before it.
	Protocol string
	// Software is the rest of the line, comments and all.
	Software string
}

const (
	maxBanner = 255
	// maxBefore bounds the lines that a server may send before its banner.
	maxBefore = 4096
)

var errBanner = errors.New("there is no SSH banner")

// ParseBanner takes the banner off a stream, and the lines that may stand before
// it (RFC 4253, section 4.2).
func ParseBanner(stream []byte) (Banner, []byte, error) {
	for before := 0; before < maxBefore; {
		line, rest, ok := bytes.Cut(stream, []byte("\n"))
		if !ok || !printable(line) {
			return Banner{}, stream, errBanner
		}
		if text, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\r"), "SSH-"); ok {
			protocol, software, ok := strings.Cut(text, "-")
			if !ok || protocol == "" || len(line) > maxBanner {
				return Banner{}, stream, errBanner
			}
			return Banner{protocol, software}, rest, nil
		}
		before += len(line) + 1
		stream = rest
	}
	return Banner{}, stream, errBanner
}

// printable reports whether a line has no control characters but at its end.
func printable(line []byte) bool {
	return !bytes.ContainsFunc(bytes.TrimSuffix(line, []byte("\r")), func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// Numbers of the messages that come before the keys (RFC 4250, section 4.1.2).
const (
	Disconnect = 1
	lastCommon = 4 // ignore, unimplemented, debug
	KexInit    = 20
	NewKeys    = 21
	firstKex   = 30
	lastKex    = 49
)

const (
	// MaxPacket is what is read of a packet's length; the standard asks for 35,000
	// at least, and OpenSSH takes 256 KiB.
	MaxPacket = 256 << 10
	// minPacket is a block of eight bytes: length, padding and a message.
	minPacket = 8 - 4
)

// Message is one packet in clear. Its first byte is its number.
type Message []byte

// Messages takes packets off a stream up to NEWKEYS, and returns what is behind
// it. keyed is false if NEWKEYS was not reached: the stream ends before it.
func Messages(stream []byte) (all []Message, sealed []byte, keyed bool, err error) {
	for len(stream) > 4 {
		length := binary.BigEndian.Uint32(stream)
		padding := int(stream[4])
		if length < minPacket+1 || length > MaxPacket || padding < 4 || padding+2 > int(length) {
			return all, stream, false, fmt.Errorf("%d bytes behind the banner are no SSH packet", len(stream))
		}
		if int(length) > len(stream)-4 {
			return all, nil, false, nil
		}
		m := Message(stream[5 : 4+int(length)-padding])
		if !m.early() {
			return all, stream, false, fmt.Errorf("message %d in clear, before the keys", m[0])
		}
		all, stream = append(all, m), stream[4+length:]
		if m[0] == NewKeys {
			return all, stream, true, nil
		}
	}
	return all, nil, false, nil
}

// early reports whether a message may come before the keys.
func (m Message) early() bool {
	n := m[0]
	return n >= Disconnect && n <= lastCommon || n == KexInit || n == NewKeys && len(m) == 1 || n >= firstKex && n <= lastKex
}

// Offer is what one side can do, the preferred first (RFC 4253, section 7.1).
// Pairs are from the client to the server, and back.
type Offer struct {
	Kex, HostKeys []string
	Ciphers, MACs [2][]string
}

// ParseOffer reads a KEXINIT message.
func ParseOffer(m Message) (Offer, error) {
	var o Offer
	const cookie = 16
	if len(m) < 1+cookie || m[0] != KexInit {
		return o, errors.New("there is no offer of algorithms")
	}
	rest := m[1+cookie:]
	var compression, languages [2][]string
	for _, list := range []*[]string{
		&o.Kex, &o.HostKeys, &o.Ciphers[0], &o.Ciphers[1], &o.MACs[0], &o.MACs[1],
		&compression[0], &compression[1], &languages[0], &languages[1],
	} {
		if len(rest) < 4 || int64(binary.BigEndian.Uint32(rest)) > int64(len(rest)-4) {
			return o, errors.New("the offer of algorithms breaks off")
		}
		n := 4 + int(binary.BigEndian.Uint32(rest))
		if n > 4 {
			*list = strings.Split(string(rest[4:n]), ",")
		}
		rest = rest[n:]
	}
	if len(rest) != 5 { // whether a guess follows, and a reserved number
		return o, errors.New("the offer of algorithms has another length")
	}
	return o, nil
}

// Agree is the first name of the client's list that the server has too.
func Agree(client, server []string) (name string, ok bool) {
	for _, name := range client {
		if slices.Contains(server, name) {
			return name, true
		}
	}
	return "", false
}
