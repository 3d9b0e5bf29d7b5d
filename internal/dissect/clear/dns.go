package clear

// dns is a message of RFC 1035, section 4, that uses up all its bytes.
func dns(m *message) { dnsMessage(m, dnsName) }

// dnsStream has a length before each (RFC 1035, section 4.2.2).
func dnsStream(m *message) { m.inner(m.u16(), dns) }

// netbiosName is a NetBIOS name service packet (RFC 1002, section 4.2): of the
// same layout, and its names are encoded in 32 letters from A to P.
func netbiosName(m *message) {
	dnsMessage(m, func(m *message) {
		if m.peek() >= 0xc0 {
			m.skip(2)
			return
		}
		m.want(m.u8() == 32, 8)
		netbiosLetters(m)
		dnsName(m) // the scope, most often empty
	})
}

func dnsMessage(m *message, name form) {
	m.skip(2)
	flags := m.u16()
	opcode := flags >> 11 & 15
	m.want(opcode <= 9 && opcode != 3, 0)
	m.want(flags&0x40 == 0, 1)
	if flags>>15 == 0 {
		m.want(flags&15 == 0, 4)
	}
	questions := m.u16()
	m.below(questions, 16, 3)
	records := 0
	for range 3 {
		n := m.u16()
		m.below(n, 16, 8)
		records += n
	}
	m.want(questions+records > 0, 0)
	for i := 0; i < questions && !m.done(); i++ {
		name(m)
		m.below(m.u16(), 16, 9)
		dnsClass(m, m.u16())
	}
	for i := 0; i < records && !m.done(); i++ {
		name(m)
		typ, class := m.u16(), m.u16()
		m.want(typ <= 264 || typ >= 32768 && typ <= 32769 || typ >= 65280, 7)
		if typ != 41 { // OPT keeps a size there
			dnsClass(m, class)
		}
		m.skip(4)
		m.skip(m.u16())
	}
}

// dnsClass leaves out the highest bit, which mDNS uses.
func dnsClass(m *message, class int) { m.in(class&0x7fff, 1<<15, 1, 3, 4, 254, 255) }

// dnsName is labels up to the root or to a pointer.
func dnsName(m *message) {
	for total := 0; !m.done(); {
		n := m.u8()
		switch {
		case n == 0:
			return
		case n >= 0xc0:
			m.skip(1)
			return
		}
		total += n + 1
		m.want(n < 64 && total < 256, 0)
		m.skip(n)
	}
}

// netbiosLetters is a name: two letters from A to P for each of 16 bytes.
func netbiosLetters(m *message) {
	for i := 0; i < 32 && !m.done(); i++ {
		c := m.u8()
		m.want(c >= 'A' && c <= 'P', 4)
	}
}

// netbiosDatagram is RFC 1002, section 4.4.
func netbiosDatagram(m *message) {
	m.want(m.u8()&^0x03 == 0x10, 6)
	m.below(m.u8(), 8, 4)
	m.skip(2 + 4 + 2 + 2 + 2)
	for range 2 {
		m.want(m.u8() == 32, 8)
		netbiosLetters(m)
		m.zeros(1)
	}
	m.rest()
}

// netbiosSession is a session request (RFC 1002, section 4.3.2).
func netbiosSession(m *message) {
	if m.role == server {
		m.in(m.u8(), 256, 0x82, 0x83, 0)
		m.zeros(1)
		m.skip(m.u16())
		return
	}
	if !m.first {
		m.zeros(1)
		m.skip(m.u24())
		return
	}
	m.lit("\x81\x00\x00\x44\x20")
	netbiosLetters(m)
	m.skip(0x44 - 33)
}
