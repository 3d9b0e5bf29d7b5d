package verify

import (
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// record is what a flow has of its own, and how a ledger keeps it:
//
//	uvarint  number
//	byte     form
//	4+4, 16+16 or 6+6 bytes: addresses, as the form says
//	uvarint  ports, detail, packets and bytes, two each but the detail
//	32 bytes random of the ClientHello, if the form says so
//	uvarint  packet, length and the bytes of the evidence, if the form says so
type record struct {
	number   uint64
	form     form
	src, dst [16]byte
	sport    uint16
	dport    uint16
	detail   uint32
	packets  [2]uint64
	bytes    [2]uint64
	random   [32]byte
	packet   uint64
	evidence []byte // of the slab it was read from
}

// form of what a record has.
type form uint8

const (
	formIPv4 form = 1 << iota
	formMAC
	formPorts
	formRandom
	formEvidence
	formFromServer
)

// maxRecord is more than any record takes.
const maxRecord = 320

// newRecord takes what a finding has of its own. Evidence that is no bytes, such
// as the name of a cipher suite, stays in the detail.
func newRecord(f *capture.Flow, found *Finding) record {
	r := record{
		number:  uint64(found.Number),
		sport:   f.Client.Port(),
		dport:   f.Server.Port(),
		packets: [2]uint64{uint64(found.Packets[0]), uint64(found.Packets[1])},
		bytes:   [2]uint64{uint64(found.Bytes[0]), uint64(found.Bytes[1])},
	}
	if hasPorts(f.Proto) {
		r.form |= formPorts
	}
	switch client, server := f.Client.Addr(), f.Server.Addr(); {
	case f.Proto == capture.MACsec:
		r.form |= formMAC
		copy(r.src[:], f.ClientMAC[:])
		copy(r.dst[:], f.ServerMAC[:])
	case client.Is4() && server.Is4():
		r.form |= formIPv4
		a, b := client.As4(), server.As4()
		copy(r.src[:], a[:])
		copy(r.dst[:], b[:])
	default:
		r.src, r.dst = client.As16(), server.As16()
	}
	if t := found.TLS; t != nil && isRandom(t.Random) {
		_, _ = hex.Decode(r.random[:], []byte(t.Random)) // what is not hex would be a mistake of ours
		r.form |= formRandom
	}
	if e := found.Evidence; e != nil && quotesBytes(e) {
		r.evidence, _ = hex.DecodeString(e.Hex) // likewise
		r.packet = uint64(e.Packet)
		r.form |= formEvidence
		if e.From == fromServer {
			r.form |= formFromServer
		}
	}
	return r
}

// addressSize is how many bytes an address takes.
func (f form) addressSize() int {
	switch {
	case f&formMAC != 0:
		return 6
	case f&formIPv4 != 0:
		return 4
	}
	return 16
}

// append writes the record behind b.
func (r *record) append(b []byte) []byte {
	b = append(binary.AppendUvarint(b, r.number), byte(r.form))
	size := r.form.addressSize()
	b = append(append(b, r.src[:size]...), r.dst[:size]...)
	for _, n := range [...]uint64{uint64(r.sport), uint64(r.dport), uint64(r.detail), r.packets[0], r.packets[1], r.bytes[0], r.bytes[1]} {
		b = binary.AppendUvarint(b, n)
	}
	if r.form&formRandom != 0 {
		b = append(b, r.random[:]...)
	}
	if r.form&formEvidence != 0 {
		b = binary.AppendUvarint(binary.AppendUvarint(b, r.packet), uint64(len(r.evidence)))
		b = append(b, r.evidence...)
	}
	return b
}

// numberOf is the number of the record that b begins with.
func numberOf(b []byte) uint64 {
	n, _ := binary.Uvarint(b)
	return n
}

// read reads the record that b begins with, and returns what is behind it.
func (r *record) read(b []byte) []byte {
	uvarint := func() uint64 {
		n, size := binary.Uvarint(b)
		b = b[size:]
		return n
	}
	r.number = uvarint()
	r.form, b = form(b[0]), b[1:]
	size := r.form.addressSize()
	copy(r.src[:], b[:size])
	copy(r.dst[:], b[size:2*size])
	b = b[2*size:]
	r.sport, r.dport, r.detail = uint16(uvarint()), uint16(uvarint()), uint32(uvarint())
	for _, n := range [...]*uint64{&r.packets[0], &r.packets[1], &r.bytes[0], &r.bytes[1]} {
		*n = uvarint()
	}
	if r.form&formRandom != 0 {
		b = b[copy(r.random[:], b):]
	}
	r.evidence = nil
	if r.form&formEvidence != 0 {
		r.packet = uvarint()
		n := uvarint()
		r.evidence, b = b[:n:n], b[n:]
	}
	return b
}

// address is one of the two.
func (r *record) address(raw [16]byte) netip.Addr {
	if r.form&formIPv4 != 0 {
		return netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrFrom16(raw)
}

// addresses of a record's ends; not valid of a MACsec flow.
func (r *record) addresses() (src, dst netip.AddrPort) {
	if r.form&formMAC != 0 {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	return netip.AddrPortFrom(r.address(r.src), r.sport), netip.AddrPortFrom(r.address(r.dst), r.dport)
}

// end is one side of a record as a person writes it.
func (r *record) end(raw [16]byte, port uint16) string {
	switch {
	case r.form&formMAC != 0:
		return net.HardwareAddr(raw[:6]).String()
	case r.form&formPorts == 0:
		return r.address(raw).String()
	}
	return netip.AddrPortFrom(r.address(raw), port).String()
}
