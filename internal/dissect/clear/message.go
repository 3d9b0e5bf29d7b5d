package clear

import (
	"math/bits"
	"slices"
)

// role is who sent a message.
type role int

const (
	client role = iota
	server
)

// shared is what recognizers remember from the client's messages for the
// server's.
type shared struct {
	ids   []uint32
	token string
}

// message is read from its beginning. Whatever is read behind the end of an open
// message is zero, and is not counted.
type message struct {
	b    []byte
	at   int
	bits int
	role role
	said *shared
	// first of a stream that was seen from its beginning.
	first bool
	// open: more followed that is not here. over: it was read beyond b.
	open, over bool
	// bad: it has not the form.
	bad bool
}

// done reports whether there is nothing more to find out.
func (m *message) done() bool { return m.bad || m.over }

// want counts bits if what the protocol demands is so.
func (m *message) want(so bool, bits int) {
	switch {
	case m.done():
	case so:
		m.bits += bits
	default:
		m.bad = true
	}
}

// take reads n bytes.
func (m *message) take(n int) []byte {
	if n < 0 || m.bad {
		m.bad = true
		return nil
	}
	if n <= len(m.b)-m.at {
		m.at += n
		return m.b[m.at-n : m.at]
	}
	m.over, m.bad = m.open, !m.open
	m.at = len(m.b)
	return nil
}

// big and little read an unsigned number of n bytes.
func (m *message) big(n int) (v int) {
	for _, c := range m.take(n) {
		v = v<<8 | int(c)
	}
	return v
}

func (m *message) little(n int) (v int) {
	for i, c := range m.take(n) {
		v |= int(c) << (8 * i)
	}
	return v
}

func (m *message) u8() int    { return m.big(1) }
func (m *message) u16() int   { return m.big(2) }
func (m *message) u24() int   { return m.big(3) }
func (m *message) u32() int   { return m.big(4) }
func (m *message) le16() int  { return m.little(2) }
func (m *message) le24() int  { return m.little(3) }
func (m *message) le32() int  { return m.little(4) }
func (m *message) skip(n int) { m.take(n) }

// peek is the next byte, or -1.
func (m *message) peek() int {
	if m.at < len(m.b) {
		return int(m.b[m.at])
	}
	return -1
}

// left is how many bytes are here.
func (m *message) left() int { return len(m.b) - m.at }

// lit demands these very bytes. Of those that are cut off what is here counts.
func (m *message) lit(s string) {
	n := min(len(s), m.left())
	m.want(n == 0 || string(m.b[m.at:m.at+n]) == s[:n], 8*n)
	m.skip(len(s))
}

// zeros demands n bytes of zero.
func (m *message) zeros(n int) {
	for range n {
		m.want(m.u8() == 0, 8)
	}
}

// in demands that a number drawn from size values is one of few.
func (m *message) in(v, size int, few ...int) {
	m.want(slices.Contains(few, v), bits.Len(uint(size/len(few)))-1)
}

// below demands that a number drawn from 2^bits values is less than 2^n.
func (m *message) below(v, bits, n int) { m.want(v < 1<<n, bits-n) }

// end demands that nothing follows, unless it is a stream.
func (m *message) end() { m.want(m.left() == 0, 0) }

// exact demands that a length of 16 bits is that of the datagram.
func (m *message) exact(length int) {
	if m.open {
		m.want(length >= len(m.b) && length < 4096, 4)
		return
	}
	m.want(length == len(m.b), 16)
}

// inner reads n bytes as a message of its own, which each must use up.
func (m *message) inner(n int, read form) {
	if n < 0 {
		m.bad = true
	}
	if m.done() {
		return
	}
	here := min(n, m.left())
	in := message{b: m.b[m.at : m.at+here], open: here < n, role: m.role, first: m.first, said: m.said}
	read(&in)
	in.end()
	m.bits += in.bits
	m.bad = m.bad || in.bad
	m.skip(n)
}

// text reads printable characters up to a mark and the mark, of at most limit
// bytes, and counts one bit for each and eight for each byte of the mark.
func (m *message) text(mark string, limit int) string {
	if m.done() {
		return ""
	}
	for i := m.at; ; i++ {
		switch {
		case i-m.at > limit:
			m.bad = true
			return ""
		case i+len(mark) > len(m.b):
			if m.open { // what is here was fit so far
				m.bits += i - m.at
			}
			s := string(m.b[m.at:min(i, len(m.b))])
			m.take(len(m.b) - m.at + 1)
			return s
		case string(m.b[i:i+len(mark)]) == mark:
			s := string(m.b[m.at:i])
			m.bits += len(s) + 8*len(mark)
			m.at = i + len(mark)
			return s
		case m.b[i] < ' ' && m.b[i] != '\t' || m.b[i] >= 0x7f:
			m.bad = true
			return ""
		}
	}
}

// printable demands n printable bytes and counts one bit for each.
func (m *message) printable(n int) string {
	if n < 0 {
		m.bad = true
	}
	if m.done() {
		return ""
	}
	here := min(n, m.left())
	s := string(m.b[m.at : m.at+here])
	for i := range here {
		m.want(s[i] >= ' ' && s[i] < 0x7f, 1)
	}
	m.skip(n)
	return s
}
