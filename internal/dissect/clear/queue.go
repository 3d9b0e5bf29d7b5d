package clear

import (
	"slices"
	"strings"
)

// kafka is requests, and answers by the identifiers of the requests.
func kafka(m *message) {
	length := m.u32()
	m.below(length, 32, 26)
	m.want(length >= 4, 0)
	if m.role == server {
		id := m.u32()
		if len(m.said.ids) > 0 && !m.done() {
			m.want(slices.Contains(m.said.ids, uint32(id)), 27)
		}
		m.skip(length - 4)
		return
	}
	m.inner(length, func(in *message) {
		in.want(in.u16() <= 92, 9)
		in.want(in.u16() <= 20, 11)
		id := uint32(in.u32())
		if n := in.u16(); n != 0xffff {
			in.below(n, 16, 8)
			in.printable(n)
		}
		if !in.bad {
			m.said.ids = append(m.said.ids, id)
		}
		in.skip(in.left())
	})
}

// amqp is AMQP 0-9-1: a header of eight bytes, then frames that end in 0xCE.
func amqp(m *message) {
	if m.peek() == 'A' {
		amqpHeader(m, "\x00\x00\x09\x01", "\x01\x01\x00\x09", "\x01\x01\x08\x00", "\x01\x01\x09\x01")
		return
	}
	typ := m.u8()
	m.in(typ, 256, 1, 2, 3, 8)
	m.skip(2)
	length := m.u32()
	m.below(length, 32, 20)
	m.inner(length, func(in *message) {
		if typ == 1 {
			in.in(in.u16(), 1<<16, 10, 20, 30, 40, 50, 60, 85, 90)
			in.below(in.u16(), 16, 7)
		}
		in.skip(in.left())
	})
	m.lit("\xce")
}

// amqp1 is AMQP 1.0, where both sides send a header; that of SASL too.
func amqp1(m *message) {
	if m.peek() == 'A' {
		amqpHeader(m, "\x00\x01\x00\x00", "\x03\x01\x00\x00")
		return
	}
	length := m.u32()
	m.below(length, 32, 20)
	m.want(m.u8() == 2, 8)
	m.want(m.u8() <= 1, 7)
	m.skip(2)
	m.inner(length-8, func(in *message) {
		if in.left() > 0 {
			in.lit("\x00\x53")
			code := in.u8()
			in.want(code >= 0x10 && code <= 0x18 || code >= 0x40 && code <= 0x44, 4)
		}
		in.skip(in.left())
	})
}

func amqpHeader(m *message, versions ...string) {
	m.lit("AMQP")
	if v := m.take(4); v != nil {
		m.want(slices.Contains(versions, string(v)), 30)
	}
}

// mqtt is versions 3.1, 3.1.1 and 5: each packet says its type, its flags and how
// much follows.
func mqtt(m *message) {
	head := m.u8()
	length, ok := mqttLength(m)
	m.want(ok, 0)
	typ, flags := head>>4, head&15
	if m.first {
		m.want(head == 0x10+0x10*int(m.role), 8)
	}
	fixed := 0
	if typ == 6 || typ == 8 || typ == 10 {
		fixed = 2
	}
	m.want(typ == 3 && flags&6 != 6 || typ != 3 && flags == fixed, 3)
	m.inner(length, func(in *message) {
		switch typ {
		case 0:
			in.bad = true
		case 1:
			if in.u16() == 4 {
				in.lit("MQTT")
				in.in(in.u8(), 256, 4, 5)
			} else {
				in.lit("MQIsdp\x03")
			}
			in.want(true, 15) // the length of the name
			in.want(in.u8()&1 == 0, 1)
		case 2:
			in.want(in.u8() <= 1, 7)
			code := in.u8()
			in.want(length > 2 && length < 128 || length == 2 && code <= 5, 3)
		case 3:
			in.printable(in.u16())
		case 8, 10:
			in.skip(2)
		case 12, 13:
			in.want(length == 0, 7)
		}
		in.skip(in.left())
	})
}

// mqttLength is 7 bits to a byte, the low ones first, of at most four.
func mqttLength(m *message) (n int, ok bool) {
	for i := range 4 {
		b := m.u8()
		n |= b & 0x7f << (7 * i)
		if b < 0x80 {
			return n, true
		}
	}
	return 0, false
}

// zookeeper begins with a request to connect and its answer, each with a password
// of 16 bytes.
func zookeeper(m *message) {
	length := m.u32()
	if !m.first {
		m.want(length >= 8 && length < 1<<20, 12)
		m.skip(length)
		return
	}
	m.want(length >= 36 && length <= 45, 28)
	m.zeros(4)
	if m.role == client {
		m.skip(8)
	}
	m.want(m.u32() < 1<<22, 10)
	m.skip(8)
	m.lit("\x00\x00\x00\x10")
	m.skip(16)
	m.skip(length - 40 + 8*int(m.role))
}

// elasticsearch is the transport between nodes.
func elasticsearch(m *message) {
	m.lit("ES")
	length := m.u32()
	m.below(length, 32, 28)
	m.want(length >= 13, 0)
	m.zeros(3)
	m.skip(5)
	m.below(m.u8(), 8, 5)
	m.below(m.u32(), 32, 28)
	m.skip(length - 13)
}

// thrift is the strict binary protocol, framed or not.
func thrift(m *message) {
	framed := m.peek() == 0
	if framed {
		m.below(m.u32(), 32, 25)
		m.want(true, -1) // either form may fit
	}
	m.lit("\x80\x01\x00")
	typ := m.u8()
	m.want(typ >= 1 && typ <= 4, 6)
	n := m.u32()
	m.want(n > 0 && n <= 128, 25)
	m.printable(n)
	m.rest()
}

// zabbix is agents and servers.
func zabbix(m *message) {
	m.lit("ZBXD")
	m.in(m.u8(), 256, 1, 3)
	m.below(m.le32(), 32, 27)
	m.rest()
}

// bitTorrent is its handshake (BEP 3).
func bitTorrent(m *message) {
	m.lit("\x13BitTorrent protocol")
	m.rest()
}

// fix is the Financial Information eXchange in tags and values.
func fix(m *message) {
	m.lit("8=FIX")
	m.rest()
}

// fastCGI begins a request, and answers in records of the same head.
func fastCGI(m *message) {
	m.lit("\x01")
	typ := m.u8()
	m.want(typ >= 1 && typ <= 11, 4)
	m.below(m.u16(), 16, 8)
	length, padding := m.u16(), m.u8()
	m.want(padding < 8, 5)
	m.zeros(1)
	if m.first && m.role == client {
		m.want(typ == 1 && length == 8, 19)
		m.lit("\x00")
		m.in(m.u8(), 256, 1, 2, 3)
		m.below(m.u8(), 8, 1)
		m.zeros(5)
	} else {
		m.skip(length)
	}
	m.skip(padding)
}

// ajp is what a web server says to an application server.
func ajp(m *message) {
	magic := "\x12\x34"
	if m.role == server {
		magic = "AB"
	}
	m.lit(magic)
	length := m.u16()
	m.want(length > 0 && length <= 8192, 3)
	typ := m.u8()
	m.want(m.role == client && (typ == 2 || typ == 10) || m.role == server && typ >= 3 && typ <= 9, 5)
	if typ == 2 && m.role == client {
		m.want(m.u8() < 28, 3)
		n := m.u16()
		m.want(n == 8, 16)
		m.want(strings.HasPrefix(m.printable(n), "HTTP/"[:min(5, max(m.left(), 0))]) || m.done(), 0)
		m.skip(length - 12)
		return
	}
	m.skip(length - 1)
}
