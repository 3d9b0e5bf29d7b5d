package clear

import "math/bits"

// smb is SMB 1 to 3 on TCP that is not encrypted, once it is known that it will
// not be: behind the set-up of the session.
func smb(m *message) {
	m.zeros(1)
	length := m.u24()
	m.below(length, 24, 20)
	m.inner(length, func(in *message) {
		switch in.u8() {
		case 0xff:
			in.lit("SMB")
			if command := in.u8(); command == 0x72 || command == 0x73 {
				in.bits = 0 // negotiate, session set-up
			}
		case 0xfe:
			in.lit("SMB\x40\x00")
			in.skip(6)
			in.want(in.le16() <= 0x12, 11)
			if in.done() || in.b[12] <= 1 {
				in.bits = 0
			}
		default:
			in.want(false, 0)
		}
		in.skip(in.left())
	})
}

// dceRPC is version 5 of connection-oriented DCE/RPC, without privacy.
func dceRPC(m *message) {
	m.lit("\x05\x00")
	m.want(m.u8() <= 19, 3)
	m.skip(1)
	m.lit("\x10\x00\x00\x00")
	length := m.le16()
	m.want(length >= 16, 0)
	m.skip(length - 10)
}

// Numbers of Sun's RPC (RFC 5531).
const (
	rpcCall      = 0
	rpcReply     = 1
	rpcGSS       = 6 // the flavor whose arguments may be sealed
	rpcTLS       = 7 // the flavor that asks for TLS (RFC 9289)
	rpcPrivacy   = 3 // the service of rpcGSS that seals
	rpcFragments = 1 << 31
)

// sunRPC is a call or a reply, as of NFS and of the port mapper.
func sunRPC(m *message) {
	m.skip(4)
	switch kind := m.u32(); kind {
	case rpcCall:
		m.want(m.u32() == 2, 63)
		program := m.u32()
		m.want(program >= 100000 && program < 400000 || program>>29 != 0 && program>>31 == 0, 1)
		m.want(m.u32() <= 10, 28)
		m.below(m.u32(), 32, 8)
		flavor := m.u32()
		m.want(flavor <= rpcTLS, 29)
	case rpcReply:
		m.want(m.u32() <= 1, 62)
		m.want(m.u32() <= rpcTLS, 29)
		m.below(m.u32(), 32, 9)
	default:
		m.want(false, 0)
	}
	m.rest()
}

// sunRPCStream has a mark before each record; only whole ones count.
func sunRPCStream(m *message) {
	mark := m.u32()
	m.want(mark >= rpcFragments && mark&^rpcFragments < 1<<24, 8)
	m.inner(mark&^rpcFragments, sunRPC)
}

// radius is RFC 2865, section 3, whose attributes fill it.
func radius(m *message) {
	code, id := m.u8(), m.u8()
	m.in(code, 256, 1, 2, 3, 4, 5, 11, 12, 13, 40, 41, 42, 43, 44, 45)
	length := m.u16()
	m.want(length >= 20, 0)
	m.exact(length)
	if m.role == client {
		m.said.ids = append(m.said.ids, uint32(id))
	}
	m.skip(16)
	for m.left() > 0 && !m.done() {
		typ, n := m.u8(), m.u8()
		m.want(typ > 0 && n >= 2, 0)
		if left := m.left() + 2; !m.open && left < 128 { // and no further
			m.want(n <= left, 8-bits.Len(uint(left)))
		}
		switch typ {
		case 1, 11, 30, 31, 32, 87: // names
			m.printable(n - 2)
		case 4, 5, 6, 7, 8, 27, 40, 61: // four bytes
			m.want(n == 6, 7)
			m.skip(n - 2)
		case 2: // a password, hidden in blocks
			m.want(n >= 18 && n <= 130 && n%16 == 2, 5)
			m.skip(n - 2)
		case 79, 80:
			m.want(typ == 79 || n == 18, 4)
			m.skip(n - 2)
		default:
			m.skip(n - 2)
		}
	}
}

// diameter is RFC 6733, section 3.
func diameter(m *message) {
	m.lit("\x01")
	length := m.u24()
	m.want(length >= 20 && length%4 == 0 && length < 1<<16, 10)
	m.want(m.u8()&15 == 0, 4)
	command := m.u24()
	m.want(command >= 257 && command < 400 || command >= 8388608 && command < 8389000, 15)
	m.want(m.u32() < 1<<25, 7)
	m.skip(length - 12)
}
