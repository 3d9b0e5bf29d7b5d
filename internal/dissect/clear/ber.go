package clear

import "slices"

// tlv reads the head of a BER element (X.690, section 8.1) of definite length.
func (m *message) tlv() (tag, length int) {
	tag = m.u8()
	length = m.u8()
	if length < 0x80 {
		return tag, length
	}
	n := length & 0x7f
	m.want(n >= 1 && n <= 4, 5)
	if m.done() {
		return tag, 0
	}
	length = 0
	for range n {
		length = length<<8 | m.u8()
	}
	m.want(length < 1<<24, 0)
	return tag, length
}

// sequence demands one and reads its content.
func (m *message) sequence(read form) {
	tag, length := m.tlv()
	m.want(tag == 0x30, 8)
	m.inner(length, read)
}

// integer demands a small one.
func (m *message) integer() (v int) {
	got, length := m.tlv()
	m.want(got == 2 && length >= 1 && length <= 5, 13)
	if m.done() {
		return 0
	}
	for range length {
		v = v<<8 | m.u8()
	}
	return v
}

// ldap is an LDAPMessage (RFC 4511, section 4.1.1).
func ldap(m *message) {
	requests := []int{0x60, 0x42, 0x63, 0x66, 0x68, 0x4a, 0x6c, 0x6e, 0x50, 0x77}
	answers := []int{0x61, 0x64, 0x65, 0x67, 0x69, 0x6b, 0x6d, 0x6f, 0x73, 0x78, 0x79}
	m.sequence(func(in *message) {
		in.integer()
		op, length := in.tlv()
		if in.role == client {
			in.want(slices.Contains(requests, op), 4)
		} else {
			in.want(slices.Contains(answers, op), 4)
		}
		in.want(length <= in.left() || in.open, 4)
		in.inner(length, func(body *message) {
			switch {
			case op == 0x60:
				v := body.integer()
				body.want(v == 2 || v == 3, 7)
			case body.role == server && op != 0x64 && op != 0x73:
				body.lit("\x0a\x01")
				body.below(body.u8(), 8, 7)
			case op == 0x63 || op == 0x64 || op == 0x68:
				body.want(body.peek() == 4, 8)
			}
			body.skip(body.left())
		})
		if op == 0x77 || op == 0x78 {
			in.bits = 0 // it may lead to TLS
		}
		if in.left() > 0 {
			in.want(in.u8() == 0xa0, 8)
			in.skip(in.left())
		}
	})
}

// snmp is versions 1 and 2c (RFC 3416), and version 3 without privacy (RFC 3412):
// with it, only the envelope is in clear.
func snmp(m *message) {
	m.sequence(func(in *message) {
		version := in.integer()
		if version == 3 {
			snmp3(in)
			return
		}
		in.want(version == 0 || version == 1, 7)
		tag, n := in.tlv()
		in.want(tag == 4, 8)
		in.printable(n)
		snmpPDU(in)
	})
}

func snmpPDU(in *message) {
	tag, length := in.tlv()
	in.want(tag >= 0xa0 && tag <= 0xa8, 4)
	in.inner(length, func(pdu *message) {
		if tag != 0xa4 {
			pdu.integer()
			pdu.integer()
			pdu.integer()
		}
		pdu.skip(pdu.left())
	})
}

// snmpPrivate is the bit of msgFlags that says encrypted.
const snmpPrivate = 2

func snmp3(in *message) {
	in.sequence(func(head *message) {
		head.integer()
		head.integer()
		tag, n := head.tlv()
		head.want(tag == 4 && n == 1, 16)
		head.want(head.u8()&^5 == 0, 6) // without privacy
		head.integer()
	})
	tag, n := in.tlv()
	in.want(tag == 4, 8)
	in.skip(n)
	in.sequence(func(scoped *message) {
		for range 2 {
			tag, n := scoped.tlv()
			scoped.want(tag == 4, 8)
			scoped.skip(n)
		}
		snmpPDU(scoped)
	})
}

// kerberos is RFC 4120, section 5: requests, answers and errors to and from a KDC.
func kerberos(m *message) {
	types := []int{0x6a, 0x6b, 0x6c, 0x6d, 0x7e}
	tag, length := m.tlv()
	i := slices.Index(types, tag)
	m.want(i >= 0, 5)
	if m.done() {
		return
	}
	m.inner(length, func(in *message) {
		in.sequence(func(body *message) {
			body.want(body.u8() == []int{0xa1, 0xa0, 0xa1, 0xa0, 0xa0}[i], 8)
			body.lit("\x03\x02\x01\x05")
			body.want(body.u8() == []int{0xa2, 0xa1, 0xa2, 0xa1, 0xa1}[i], 8)
			body.lit("\x03\x02\x01")
			body.want(body.u8() == []int{10, 11, 12, 13, 30}[i], 8)
			body.skip(body.left())
		})
	})
}

// kerberosStream has a length before each.
func kerberosStream(m *message) { m.inner(m.u32(), kerberos) }
