package capture

import (
	"fmt"
	"strings"
)

// maxNesting bounds packets in packets. One that goes deeper is a flow of the
// overlay that is too much.
const maxNesting = 8

// path is the overlays around a packet, the outermost first: a kind in the upper
// half, a number in the lower.
type path struct {
	hops [maxNesting]uint64
	n    int
}

// overlay is a kind of packets in packets.
type overlay uint64

const (
	overVXLAN overlay = 1 + iota
	overGeneve
	overGRE
	overERSPAN
	overIPIP
	over6in4
	over4in6
	overIPv6
	overEtherIP
	overMPLS
)

var overlayNames = map[overlay]string{
	overVXLAN: "vxlan", overGeneve: "geneve", overGRE: "gre", overERSPAN: "erspan", overIPIP: "ipip",
	over6in4: "6in4", over4in6: "4in6", overIPv6: "ip6ip6", overEtherIP: "etherip", overMPLS: "mpls",
}

// Marks of a hop: a number is there, as 0 is one too; any number may be.
const (
	numbered = 1 << 63
	anyhow   = 1 << 62
	marked   = numbered | anyhow
)

func (p *path) push(kind overlay, number uint64) {
	p.hops[p.n] = uint64(kind)<<48 | number
	p.n++
}

// kinds is the path with any number where it has one.
func (p path) kinds() path {
	for i, hop := range p.hops[:p.n] {
		if hop&numbered != 0 {
			p.hops[i] = uint64(kindOf(hop))<<48 | anyhow
		}
	}
	return p
}

func kindOf(hop uint64) overlay { return overlay((hop &^ marked) >> 48) }

func (p path) String() string {
	var names []string
	for _, hop := range p.hops[:p.n] {
		name := overlayNames[kindOf(hop)]
		if hop&numbered != 0 {
			name = fmt.Sprintf("%s %d", name, uint32(hop))
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// inside reads on with what an overlay carries, behind a header. Where that is
// no packet, neither is the overlay one: what it would be without, d.packet, is
// what it is.
func (d *decoder) inside(kind overlay, number uint64, header int, next stage) stage {
	outer, data, wire := d.packet, d.data, d.wire
	if outer.path.n == maxNesting {
		return isFlow
	}
	d.packet.path.push(kind, number)
	d.skip(header)
	got := d.run(next)
	if got == isUndecoded && !d.short {
		d.packet, d.data, d.wire = outer, data, wire
		return isFlow
	}
	return got
}

// UDP ports of overlays: IANA's, and what Linux used before there was one.
const (
	portVXLAN      = 4789
	portVXLANLinux = 8472
	portGeneve     = 6081
)

// vxlan reads RFC 7348: the flag that says there is an identifier, perhaps that
// of a group policy, and nothing in what is reserved.
func (d *decoder) vxlan() stage {
	const udp, header, identified, policy = 8, 8, 0x08, 0x80
	if !d.need(udp + header) {
		return isFlow
	}
	h := d.data[udp:]
	if h[0]&^policy != identified || h[7] != 0 || h[0]&policy == 0 && be.Uint16(h[1:]) != 0 {
		return isFlow
	}
	return d.inside(overVXLAN, numbered|uint64(be.Uint32(h[4:])>>8), udp+header, atEthernet)
}

// geneve reads RFC 8926.
func (d *decoder) geneve() stage {
	const udp, header = 8, 8
	if !d.need(udp + header) {
		return isFlow
	}
	h := d.data[udp:]
	length := header + int(h[0]&0x3f)*4
	next, ok := carried(be.Uint16(h[2:]))
	if h[0]>>6 != 0 || h[1]&0x3f != 0 || h[7] != 0 || !ok || !d.need(udp+length) {
		return isFlow
	}
	return d.inside(overGeneve, numbered|uint64(be.Uint32(h[4:])>>8), udp+length, next)
}

// carried is what an EtherType says an overlay carries.
func carried(etherType uint16) (next stage, ok bool) {
	switch etherType {
	case etherBridging:
		return atEthernet, true
	case etherIPv4:
		return atIPv4, true
	case etherIPv6:
		return atIPv6, true
	case etherMPLS, etherMPLSMore:
		return atMPLS, true
	}
	return 0, false
}

// gre reads RFC 2784 and 2890, and version 1 of PPTP (RFC 2637).
func (d *decoder) gre() stage {
	d.carry(protoGRE, 0)
	const checksum, routing, key, sequence, acknowledgment = 0x8000, 0x4000, 0x2000, 0x1000, 0x0080
	if !d.need(4) {
		return isUndecoded
	}
	flags, etherType, header := be.Uint16(d.data), be.Uint16(d.data[2:]), 4
	keyAt := 0
	for _, optional := range [...]uint16{checksum, key, sequence} {
		if flags&optional != 0 {
			if optional == key {
				keyAt = header
			}
			header += 4
		}
	}
	version := flags & 7
	if version == 1 && flags&acknowledgment != 0 {
		header += 4
	}
	if flags&routing != 0 || version > 1 || !d.need(header) {
		return isFlow
	}
	if version == 1 {
		if etherType != etherPPP {
			return isFlow
		}
		return d.inside(overGRE, 0, header, atPPP)
	}
	switch next, ok := carried(etherType); {
	case ok && next == atEthernet && keyAt > 0: // the key is a tenant's
		return d.inside(overGRE, numbered|uint64(be.Uint32(d.data[keyAt:])), header, next)
	case ok:
		return d.inside(overGRE, 0, header, next)
	}
	return d.erspan(etherType, header, flags&sequence != 0)
}

// erspan reads mirrored frames of type I, II and III in GRE.
func (d *decoder) erspan(etherType uint16, header int, sequenced bool) stage {
	const typeII, typeIII = 0x88be, 0x22eb
	switch {
	case etherType == typeII && !sequenced:
		return d.inside(overERSPAN, 0, header, atEthernet)
	case etherType == typeII && d.need(header+8):
		session := uint64(be.Uint16(d.data[header+2:]) & 0x3ff)
		return d.inside(overERSPAN, numbered|session, header+8, atEthernet)
	case etherType == typeIII && d.need(header+12):
		session := uint64(be.Uint16(d.data[header+2:]) & 0x3ff)
		more := int(d.data[header+11]&1) * 8
		if !d.need(header + 12 + more) {
			return isFlow
		}
		return d.inside(overERSPAN, numbered|session, header+12+more, atEthernet)
	}
	return isFlow
}

// inIP reads IP, MPLS and Ethernet right behind an IP header.
func (d *decoder) inIP() stage {
	d.carry(code(d.protocol), 0)
	over6 := d.packet.src.family == familyIPv6
	switch {
	case d.protocol == protoIPv4 && over6:
		return d.inside(over4in6, 0, 0, atIPv4)
	case d.protocol == protoIPv4:
		return d.inside(overIPIP, 0, 0, atIPv4)
	case d.protocol == protoIPv6 && over6:
		return d.inside(overIPv6, 0, 0, atIPv6)
	case d.protocol == protoIPv6:
		return d.inside(over6in4, 0, 0, atIPv6)
	case d.protocol == protoMPLS:
		return d.inside(overMPLS, 0, 0, atMPLS)
	case d.need(2) && d.data[0] == 0x30 && d.data[1] == 0:
		return d.inside(overEtherIP, 0, 2, atEthernet)
	}
	return isFlow
}
