package clear

import "strings"

// postgres is the frontend/backend protocol, version 3.
func postgres(m *message) {
	const sslRequest, gssRequest, cancel = 80877103, 80877104, 80877102
	switch {
	case m.role == client && m.peek() == 0:
		length, code := m.u32(), m.u32()
		switch code {
		case sslRequest, gssRequest:
			m.want(length == 8, 32) // says nothing by itself
		case cancel:
			m.want(length == 16, 64)
			m.skip(8)
		default:
			m.want(code>>16 == 3 && code&0xffff <= 2 && length < 10000 && length > 8, 44)
			m.inner(length-8, func(in *message) {
				for in.peek() > 0 && !in.done() {
					in.text("\x00", 64)
					in.text("\x00", 1024)
				}
				in.zeros(1)
			})
		}
	case m.role == server && m.first && m.peek() == 'N' && (m.left() == 1 || m.b[1] != 0):
		m.lit("N")
	case m.role == server:
		postgresAnswer(m)
	default:
		typ, length := m.u8(), m.u32()
		m.want(strings.IndexByte("QPBEDSHCXdcfpF", byte(typ)) >= 0, 4)
		m.want(length >= 4 && length < 1<<24, 8)
		if typ == 'Q' {
			m.inner(length-4, func(in *message) { in.text("\x00", 1<<20) })
			return
		}
		m.want(typ != 'S' && typ != 'X' && typ != 'H' && typ != 'c' || length == 4, 0)
		m.skip(length - 4)
	}
}

func postgresAnswer(m *message) {
	typ, length := m.u8(), m.u32()
	m.want(strings.IndexByte("RSKZTDCENvntsIAGHW123cd", byte(typ)) >= 0, 3)
	m.want(length >= 4 && length < 1<<24, 8)
	switch typ {
	case 'R':
		m.want(length >= 8 && length < 512, 15)
		m.want(m.u32() <= 12, 28)
		m.skip(length - 8)
	case 'Z':
		m.want(length == 5, 24)
		m.in(m.u8(), 256, 'I', 'T', 'E')
	case 'K':
		m.want(length >= 12 && length <= 264, 15)
		m.skip(length - 4)
	case 'S':
		m.inner(length-4, func(in *message) {
			in.text("\x00", 128)
			in.text("\x00", 4096)
		})
	case 'E', 'N':
		m.inner(length-4, func(in *message) {
			in.want(in.peek() == 'S', 8)
			for in.peek() > 0 && !in.done() {
				in.skip(1)
				in.text("\x00", 8192)
			}
			in.zeros(1)
		})
	default:
		m.skip(length - 4)
	}
}

// mysql is the greeting of a server, the answer of a client, and packets of the
// same framing behind them. MariaDB keeps flags in the last four reserved bytes.
func mysql(m *message) {
	length, sequence := m.le24(), m.u8()
	switch {
	case m.first && m.role == server && m.peek() == 0xff:
		m.want(length < 512 && sequence == 0, 23)
		m.skip(1)
		code := m.le16()
		m.want(code >= 1000 && code < 2100, 6)
		m.printable(length - 3)
	case m.first && m.role == server:
		m.want(length > 40 && length < 512 && sequence == 0, 23)
		m.inner(length, func(in *message) {
			in.lit("\x0a")
			in.want(strings.Contains(in.text("\x00", 96), "."), 0)
			in.skip(4 + 8)
			in.zeros(1)
			in.skip(2 + 1 + 2 + 2)
			in.want(in.u8() <= 64, 2)
			in.zeros(6)
			in.rest()
			in.over = false
		})
	case m.first:
		m.want(length >= 32 && length < 4096 && sequence == 1, 20)
		m.skip(4 + 4 + 1)
		m.zeros(19)
		m.skip(length - 28)
	default:
		m.want(length > 0 && length < 1<<20 && sequence < 64, 6)
		m.skip(length)
	}
}

// mongo is the wire protocol: OP_MSG, OP_QUERY, OP_REPLY, OP_COMPRESSED and the
// older ones.
func mongo(m *message) {
	length := m.le32()
	m.skip(8)
	op := m.le32()
	m.want(length > 16 && length < 48<<20, 6)
	m.in(op, 1<<32, 1, 2001, 2002, 2004, 2005, 2006, 2007, 2012, 2013)
	m.inner(length-16, func(in *message) {
		switch op {
		case 2013:
			in.want(in.le32()&^0x10003 == 0, 29)
			in.want(in.u8() <= 1, 7)
			in.below(in.le32(), 32, 26)
		case 2004:
			in.below(in.le32(), 32, 8)
			in.text("\x00", 256)
			in.skip(8)
			in.below(in.le32(), 32, 26)
		case 1:
			in.below(in.le32(), 32, 4)
			in.skip(8 + 4)
			in.below(in.le32(), 32, 20)
		case 2012:
			in.in(in.le32(), 1<<32, 1, 2001, 2002, 2004, 2005, 2006, 2007, 2013)
			in.below(in.le32(), 32, 26)
			in.below(in.u8(), 8, 2)
		}
		in.skip(in.left())
	})
}

// redis is RESP, versions 2 and 3.
func redis(m *message) {
	if m.role == client && m.peek() != '*' {
		m.bad = true // commands in a line are text
		return
	}
	resp(m, 0)
}

func resp(m *message, depth int) {
	if depth > 8 {
		m.bad = true
	}
	if m.done() {
		return
	}
	switch typ := m.u8(); typ {
	case '+', '-':
		m.want(true, 4)
		m.text("\r\n", 1024)
	case ':', '(', ',', '#', '_':
		m.want(true, 4)
		for _, c := range []byte(m.text("\r\n", 64)) {
			m.want(c >= '0' && c <= '9' || strings.IndexByte("+-.eEinftruals", c) >= 0, 2)
		}
	case '$', '=', '!':
		m.want(true, 4)
		n, null := respLength(m)
		if !null {
			m.skip(n)
			m.lit("\r\n")
		}
	case '*', '%', '~', '>', '|':
		m.want(true, 4)
		n, null := respLength(m)
		if typ == '%' || typ == '|' {
			n *= 2
		}
		for i := 0; i < n && !null && !m.done(); i++ {
			resp(m, depth+1)
		}
	default:
		m.want(false, 0)
	}
}

func respLength(m *message) (n int, null bool) {
	s := m.text("\r\n", 10)
	if s == "-1" {
		return 0, true
	}
	m.want(s != "", 0)
	for _, c := range []byte(s) {
		m.want(c >= '0' && c <= '9', 3)
		n = n*10 + int(c-'0')
	}
	return n, m.done()
}

// memcached is its binary protocol; the other one is text.
func memcached(m *message) {
	m.want(m.u8() == 0x80+int(m.role), 8)
	m.below(m.u8(), 8, 6)
	key, extras := m.u16(), m.u8()
	m.below(key, 16, 8)
	m.below(extras, 8, 5)
	m.zeros(1)
	m.below(m.u16(), 16, 10)
	body := m.u32()
	m.want(body >= key+extras && body < 1<<21, 11)
	m.skip(8 + body + 4)
}

// memcachedDatagram has a header before what memcached says in text.
func memcachedDatagram(m *message) {
	m.skip(2)
	number, total := m.u16(), m.u16()
	m.want(number < total && total < 256, 8)
	m.zeros(2)
	for _, word := range []string{"get ", "gets ", "set ", "add ", "stats", "version", "VALUE ", "STORED\r\n", "END\r\n", "STAT ", "VERSION ", "ERROR\r\n", "NOT_"} {
		if m.at+len(word) <= len(m.b) && string(m.b[m.at:m.at+len(word)]) == word {
			m.lit(word)
			m.rest()
			return
		}
	}
	m.want(false, 0)
}

// cassandra is the native protocol of CQL, versions 3 to 5.
func cassandra(m *message) {
	version, flags := m.u8(), m.u8()
	v := version &^ 0x80
	m.want(version>>7 == int(m.role) && v >= 3 && v <= 5, 6)
	m.below(flags, 8, 5)
	m.skip(2)
	opcode, length := m.u8(), m.u32()
	m.below(opcode, 8, 5)
	m.below(length, 32, 24)
	switch opcode {
	case 1: // STARTUP
		m.want(m.u16() > 0, 0)
		m.want(m.u16() < 64, 10)
		m.printable(min(length-4, 11))
		m.skip(length - 4 - min(length-4, 11))
	case 5, 2: // OPTIONS, READY
		m.want(length == 0, 24)
	default:
		m.skip(length)
	}
}

// tds is Microsoft SQL Server's framing, of packets that are not TLS inside.
func tds(m *message) {
	m.in(m.u8(), 256, 1, 2, 3, 4, 6, 7, 14, 16, 17, 18)
	m.below(m.u8(), 8, 4)
	length := m.u16()
	m.want(length > 8, 0)
	m.below(m.u16(), 16, 12)
	m.skip(1)
	m.zeros(1)
	m.want(m.peek() != 0x16 && m.peek() != 0x17, 0)
	if m.first {
		m.lit("\x00\x00") // VERSION comes first in a pre-login
		m.skip(length - 10)
		m.bits = 0 // it may lead to TLS
		return
	}
	m.skip(length - 8)
}
