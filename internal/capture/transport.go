package capture

// transport reads what IP carries. Nothing is guessed from port numbers, but for
// overlays, which then must hold.
func (d *decoder) transport() stage {
	switch d.protocol {
	case protoTCP:
		return d.tcp()
	case protoUDP:
		return d.udp()
	case protoICMP:
		return d.icmp(8, 0)
	case protoICMPv6:
		return d.icmp(128, 129)
	case protoSCTP:
		return d.ports(protoSCTP, 12)
	case protoUDPLite:
		return d.ports(protoUDPLite, 8)
	case protoAH: // it authenticates and does not encrypt
		return d.extension(4, 8)
	case protoGRE:
		return d.gre()
	case protoIPv4, protoIPv6, protoEtherIP, protoMPLS:
		return d.inIP()
	case protoIGMP, protoRSVP, protoNone, protoEIGRP, protoOSPF, protoPIM, protoVRRP:
		return isControl
	}
	if d.packet.src.family == familyIPv6 {
		switch d.protocol {
		case protoHopByHop, protoRouting, protoDestination:
			return d.extension(8, 8)
		case protoFragment:
			return d.fragment6()
		case protoMobility, protoHIP, protoShim:
			return isControl
		}
	}
	return d.carry(code(d.protocol), 0)
}

func (d *decoder) tcp() stage {
	if !d.need(20) {
		return isUndecoded
	}
	h := d.data
	header := int(h[12]>>4) * 4
	if header < 20 || header > d.wire {
		return d.undecoded(badHeader)
	}
	p := &d.packet
	p.src.port, p.dst.port = be.Uint16(h), be.Uint16(h[2:])
	p.seq, p.acknowledged = be.Uint32(h[4:]), be.Uint32(h[8:])
	p.flags = h[13]
	return d.carry(protoTCP, header)
}

// ports reads a header that begins with them.
func (d *decoder) ports(proto code, header int) stage {
	if !d.need(header) {
		return isUndecoded
	}
	d.packet.src.port, d.packet.dst.port = be.Uint16(d.data), be.Uint16(d.data[2:])
	return d.carry(proto, header)
}

func (d *decoder) udp() stage {
	if !d.need(8) {
		return isUndecoded
	}
	length := int(be.Uint16(d.data[4:]))
	if length == 0 { // longer than 16 bits
		length = d.wire
	}
	if length < 8 || !d.limit(length) {
		return d.undecoded(badHeader)
	}
	d.ports(protoUDP, 8)
	switch d.packet.dst.port {
	case portVXLAN, portVXLANLinux:
		return d.vxlan()
	case portGeneve:
		return d.geneve()
	}
	return isFlow
}

// icmp makes flows of echoes: their payload is whatever the sender likes. All
// else is between machines.
func (d *decoder) icmp(request, reply byte) stage {
	if !d.need(8) {
		return isUndecoded
	}
	p := &d.packet
	p.request, p.reply = d.data[0] == request, d.data[0] == reply
	if !p.request && !p.reply {
		return isControl
	}
	return d.carry(code(d.protocol), 8)
}
