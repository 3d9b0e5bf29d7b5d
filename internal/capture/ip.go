package capture

// ip reads a packet of either version.
func (d *decoder) ip() stage {
	if !d.need(1) {
		return isUndecoded
	}
	switch d.data[0] >> 4 {
	case 4:
		return atIPv4
	case 6:
		return atIPv6
	}
	return d.undecoded(badHeader)
}

func (d *decoder) ipv4() stage {
	if !d.need(20) {
		return isUndecoded
	}
	h := d.data
	header, total := int(h[0]&15)*4, int(be.Uint16(h[2:]))
	if total == 0 { // to be segmented by the network card: longer than 16 bits
		total = d.wire
	}
	if h[0]>>4 != 4 || header < 20 || total < header || !d.limit(total) || !d.need(header) {
		return d.undecoded(badHeader)
	}
	p := &d.packet
	p.src, p.dst = end{family: familyIPv4}, end{family: familyIPv4}
	copy(p.src.addr[:4], h[12:16])
	copy(p.dst.addr[:4], h[16:20])
	d.protocol = h[9]
	piece := be.Uint16(h[6:])
	d.skip(header)
	if piece&0x3fff != 0 { // an offset, or more to come
		return d.fragment(fragmentHeader{
			id: uint32(be.Uint16(h[4:])), offset: int(piece&0x1fff) * 8, more: piece&0x2000 != 0, protocol: d.protocol,
		})
	}
	return atProtocol
}

func (d *decoder) ipv6() stage {
	if !d.need(40) {
		return isUndecoded
	}
	h := d.data
	total := 40 + int(be.Uint16(h[4:]))
	if total == 40 && h[6] != protoNone { // a jumbogram, or as above
		total = d.wire
	}
	if h[0]>>4 != 6 || !d.limit(total) {
		return d.undecoded(badHeader)
	}
	p := &d.packet
	p.src, p.dst = end{family: familyIPv6}, end{family: familyIPv6}
	copy(p.src.addr[:], h[8:24])
	copy(p.dst.addr[:], h[24:40])
	d.protocol = h[6]
	d.skip(40)
	return atProtocol
}

// Extension headers of IPv6, and protocols that serve IP itself.
const (
	protoHopByHop    = 0
	protoIGMP        = 2
	protoRouting     = 43
	protoFragment    = 44
	protoRSVP        = 46
	protoNone        = 59
	protoDestination = 60
	protoEIGRP       = 88
	protoOSPF        = 89
	protoPIM         = 103
	protoVRRP        = 112
	protoMobility    = 135
	protoHIP         = 139
	protoShim        = 140
)

// extension skips a header whose length is counted in units, less some bytes.
func (d *decoder) extension(unit, less int) stage {
	if !d.need(8) {
		return isUndecoded
	}
	length := int(d.data[1])*unit + less
	next := d.data[0]
	if !d.need(length) {
		return isUndecoded
	}
	d.skip(length)
	d.protocol = next
	return atProtocol
}

// fragment6 reads the extension header of a piece.
func (d *decoder) fragment6() stage {
	if !d.need(8) {
		return isUndecoded
	}
	h := d.data
	piece := be.Uint16(h[2:])
	d.skip(8)
	d.protocol = h[0]
	if piece&0xfff9 == 0 { // all of the packet in one piece (RFC 6946)
		return atProtocol
	}
	return d.fragment(fragmentHeader{id: be.Uint32(h[4:]), offset: int(piece &^ 7), more: piece&1 != 0, protocol: h[0]})
}
