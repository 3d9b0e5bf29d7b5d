package clear

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// ntp is RFC 5905, section 7.3: the root's delay and dispersion are small,
// time stamps are zero or the last two close to each other.
func ntp(m *message) {
	head := m.u8()
	version, mode := head>>3&7, head&7
	m.want(version >= 1 && version <= 4 && mode >= 1 && mode <= 5, 1)
	m.want(m.u8() <= 16, 3)
	poll, precision := m.u8(), m.u8()
	m.want(poll <= 17, 3)
	m.want(precision == 0 || precision >= 0xe0 || precision <= 32 && mode == 3, 1)
	for range 2 {
		m.want(m.u32() < 64<<16, 10)
	}
	m.skip(4)
	var seconds [4]int // of the reference, the origin, the receipt, the answer
	for i := range seconds {
		seconds[i] = m.u32()
		if m.u32()|seconds[i] == 0 {
			m.want(true, 60)
		}
	}
	if took := seconds[3] - seconds[2]; took >= 0 && took < 128 && seconds[2] != 0 {
		m.want(true, 24)
	}
	if n := m.left(); n > 0 { // extensions and a digest
		m.want(n%4 == 0, 2)
		m.skip(n)
	}
}

// dhcp is RFC 2131, section 2: BOOTP and its cookie.
func dhcp(m *message) {
	op := m.u8()
	m.want(op == 1 || op == 2, 7)
	m.lit("\x01\x06")
	m.want(m.u8() <= 16, 3)
	m.skip(4 + 2 + 2 + 16 + 6)
	if padding := m.take(10 + 32); bytes.Count(padding, []byte{0}) == 10+32 {
		m.want(true, 64) // of the address, and a name that is rarely set
	}
	m.skip(32 + 128)
	m.lit("\x63\x82\x53\x63")
	m.rest()
}

// dhcp6 is RFC 8415, section 8, between a client and a server: each says who it is.
func dhcp6(m *message) {
	kind := m.u8()
	m.want(kind >= 1 && kind <= 11, 4)
	m.skip(3)
	const clientID, serverID = 1, 2
	for m.left() > 0 && !m.done() {
		option, n := m.u16(), m.u16()
		m.below(option, 16, 8)
		if option == clientID || option == serverID {
			form := m.u16()
			m.want(form >= 1 && form <= 4, 14)
			n -= 2
		}
		m.skip(n)
	}
}

// tftp is requests (RFC 1350, section 5) and the blocks and receipts that follow,
// from the first on.
func tftp(m *message) {
	op := m.u16()
	switch op {
	case 1, 2:
		m.want(true, 15)
		m.text("\x00", 255)
		mode := m.text("\x00", 16)
		m.want(m.done() || mode == "octet" || mode == "netascii" || mode == "mail", 20)
		m.rest()
	case 3, 4:
		m.want(true, 15)
		block := m.u16()
		m.want(block >= 1 && block <= readAhead || block == 0 && op == 4, 12)
		m.want(op == 3 && m.left() <= 512 || m.left() == 0, 0)
		m.rest()
	case 5:
		m.want(true, 15)
		m.below(m.u16(), 16, 4)
		m.text("\x00", 512)
	case 6:
		m.want(true, 15)
		m.text("\x00", 32)
		m.rest()
	default:
		m.want(false, 0)
	}
}

// stunCookie is RFC 8489, section 5.
const stunCookie = 0x2112a442

func stun(m *message) {
	m.below(m.u16(), 16, 14)
	length := m.u16()
	m.want(length%4 == 0, 2)
	m.want(m.u32() == stunCookie, 32)
	m.skip(12)
	m.inner(length, func(in *message) {
		for in.left() > 0 && !in.done() {
			in.skip(2)
			n := in.u16()
			in.skip((n + 3) &^ 3)
		}
	})
}

func stunStream(m *message) { stun(m) }

// coap is RFC 7252, section 3. Its answers are known by identifier and token.
func coap(m *message) {
	head, code, id := m.u8(), m.u8(), m.u16()
	m.want(head>>6 == 1, 2)
	token := head & 15
	m.want(token <= 8, 0)
	class := code >> 5
	m.want(class == 0 && code <= 7 || class == 2 && code&31 <= 31 || class >= 4 && class <= 5 && code&31 < 16, 1)
	at := slices.Index(m.said.ids, uint32(id))
	asked := at >= 0
	if asked && class != 0 { // each is answered once
		m.said.ids = slices.Delete(m.said.ids, at, at+1)
	}
	switch value := string(m.take(token)); {
	case class == 0 && asked: // sent again, or no number at all
		m.bits = 0
	case class == 0:
		m.said.ids, m.said.token = append(m.said.ids, uint32(id)), value
	case asked && value == m.said.token:
		m.want(true, 13+8*token)
	case asked:
		m.want(true, 13)
	}
	for option := 0; m.left() > 0 && !m.done(); {
		b := m.u8()
		if b == 0xff {
			m.want(m.left() > 0, 0)
			break
		}
		delta, n := coapNumber(m, b>>4), coapNumber(m, b&15)
		option += delta
		m.want(option <= 65 || option == 258, 0)
		if option == 3 || option == 8 || option == 11 || option == 15 || option == 20 {
			m.printable(n)
			continue
		}
		m.skip(n)
	}
	m.rest()
}

func coapNumber(m *message, nibble int) int {
	switch nibble {
	case 13:
		return m.u8() + 13
	case 14:
		return m.u16() + 269
	case 15:
		m.bad = true
	}
	return nibble
}

// bgp is RFC 4271, section 4.1.
func bgp(m *message) {
	for range 16 {
		m.want(m.u8() == 0xff, 8)
	}
	length := m.u16()
	m.want(length >= 19 && length <= 4096, 4)
	m.want(m.u8()-1 < 5, 5)
	m.skip(length - 19)
}

// rip is versions 1 and 2 (RFC 2453, section 4).
func rip(m *message) {
	command, version := m.u8(), m.u8()
	m.want((command == 1 || command == 2) && (version == 1 || version == 2), 14)
	m.zeros(2)
	m.want(m.left() > 0 && (m.left()%20 == 0 || m.open), 2)
	for m.left() > 0 && !m.done() {
		m.in(m.u16(), 1<<16, 0, 2, 0xffff)
		m.skip(18)
	}
}

// netflow is versions 5 and 9.
func netflow(m *message) {
	version, count := m.u16(), m.u16()
	switch version {
	case 5:
		m.want(count >= 1 && count <= 30 && (len(m.b) == 24+48*count || m.open), 11)
		m.skip(4)
		m.want(m.u32()>>30 == 1, 2)
		m.below(m.u32(), 32, 30)
		m.skip(8 + 36)
		m.zeros(1)
		m.skip(9)
		m.zeros(2)
	case 9: // since 2004
		m.want(count >= 1 && count < 64, 10)
		m.skip(4)
		m.want(m.u32()>>30 == 1, 2)
		m.skip(8)
		for m.left() > 0 && !m.done() {
			m.want(m.u16() < 1024, 6)
			m.skip(m.u16() - 4)
		}
	default:
		m.want(false, 0)
		return
	}
	m.want(true, 15)
	m.rest()
}

// ipfix is RFC 7011, section 3.
func ipfix(m *message) {
	m.lit("\x00\x0a")
	length := m.u16()
	m.exact(length)
	m.want(m.u32()>>30 == 1, 2)
	m.skip(8)
	for m.left() > 0 && !m.done() {
		m.want(m.u16() < 1024, 6)
		m.skip(m.u16() - 4)
	}
}

// sflow is version 5.
func sflow(m *message) {
	m.lit("\x00\x00\x00\x05\x00\x00\x00")
	m.in(m.u8(), 256, 1, 2)
	m.rest()
}

// telnet is the negotiation of RFC 854; what else is said is text.
func telnet(m *message) {
	const iac, sb, se = 0xff, 0xfa, 0xf0
	n := 0
	for m.peek() == iac && n < 32 && !m.done() {
		n++
		m.skip(1)
		switch command := m.u8(); {
		case command >= 0xfb && command <= 0xfe:
			m.want(m.u8() < 64, 15)
		case command == sb:
			m.want(m.u8() < 64, 15)
			for m.left() >= 2 && (m.b[m.at] != iac || m.b[m.at+1] != se) && !m.done() {
				m.skip(1)
			}
			m.skip(2)
		case command >= se && command < sb:
			m.want(true, 12)
		default:
			m.want(false, 0)
		}
	}
	m.want(n > 0, 0)
	m.rest()
}

// vnc is the versions that both ends say, of RFC 6143, section 7.1.1.
func vnc(m *message) {
	m.lit("RFB 00")
	m.skip(1)
	m.lit(".00")
	m.skip(1)
	m.lit("\n")
	m.rest()
}

// x11 is the set-up of a connection.
func x11(m *message) {
	if m.role == server {
		m.want(m.u8() <= 2, 6)
		m.rest()
		return
	}
	order := m.u8()
	m.zeros(1)
	switch order {
	case 'l':
		m.lit("\x0b\x00\x00\x00")
	case 'B':
		m.lit("\x00\x0b\x00\x00")
	default:
		m.want(false, 0)
	}
	m.want(m.first, 7)
	m.rest()
}

// modbus is Modbus/TCP.
func modbus(m *message) {
	m.skip(2)
	m.zeros(2)
	length := m.u16()
	m.want(length >= 3 && length <= 254, 8)
	m.skip(1)
	function := m.u8() &^ (0x80 * int(m.role))
	m.want(function >= 1 && function <= 24 || function == 43, 2)
	m.skip(length - 2)
}

// dicom is an association (PS3.8, section 9.3).
func dicom(m *message) {
	typ := m.u8()
	m.zeros(1)
	length := m.u32()
	m.below(length, 32, 26)
	if !m.first {
		m.want(typ >= 1 && typ <= 7, 5)
		m.skip(length)
		return
	}
	m.want(typ >= 1 && typ <= 3, 6)
	m.want(m.u16() < 16, 12)
	m.zeros(2)
	if typ != 3 {
		m.printable(32)
	}
	m.rest()
}

// s7 is Siemens S7 in ISO transport (RFC 1006).
func s7(m *message) {
	m.lit("\x03\x00")
	length := m.u16()
	m.want(length >= 7 && length < 2048, 5)
	m.inner(length-4, func(in *message) {
		n, typ := in.u8(), in.u8()
		if typ == 0xf0 {
			in.want(n == 2, 8)
			in.lit("\x80\x32")
			in.in(in.u8(), 256, 1, 2, 3, 7)
		}
		in.skip(in.left())
		if typ != 0xf0 {
			in.bits = 0 // RDP begins so too
		}
	})
}

// dnp3 is IEEE 1815.
func dnp3(m *message) {
	m.lit("\x05\x64")
	n := m.u8()
	m.want(n >= 5, 0)
	m.skip(7) // control, addresses, check sum
	if body := n - 5; body > 0 {
		m.skip(body + 2*((body+15)/16))
	}
}

// bacnet is BACnet/IP.
func bacnet(m *message) {
	m.lit("\x81")
	m.want(m.u8() <= 0x0b, 4)
	length := m.u16()
	m.exact(length)
	m.lit("\x01")
	m.want(m.u8()&0x50 == 0, 2)
	m.rest()
}

// uint32At is zero where there are no four bytes.
func uint32At(b []byte, i int) uint32 {
	if i < 0 || i+4 > len(b) {
		return 0
	}
	return binary.BigEndian.Uint32(b[i:])
}
