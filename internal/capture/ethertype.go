package capture

// EtherTypes that lead to something.
const (
	etherIPv4     = 0x0800
	etherARP      = 0x0806
	etherBridging = 0x6558 // Ethernet, in GRE and Geneve
	etherVLAN     = 0x8100
	etherIPv6     = 0x86dd
	etherMPLS     = 0x8847
	etherMPLSMore = 0x8848
	etherPPPoE    = 0x8864
	etherJumbo    = 0x8870
	etherPPP      = 0x880b
	etherQinQ     = 0x88a8
	etherMACsec   = 0x88e5
	etherOldQinQ  = 0x9100
)

// control are EtherTypes that machines keep their links up with. They carry no
// workload's payload; of any other that is unknown here nothing can be said.
func controls(etherType uint16) bool {
	switch etherType {
	case etherARP, 0x8035, // RARP
		0x0842,                         // wake on LAN
		0x2000,                         // Cisco discovery
		0x22ea, 0x22f4, 0x88f5, 0x88f6, // stream reservation, IS-IS, MVRP, MMRP
		0x8809, 0x88cc, // LACP, LLDP
		0x8863, 0x888e, // discovery of PPPoE, EAP and MKA
		0x8899, 0x886c, 0x8874, // loop detection and the like of switch makers
		0x88d9, 0x893a, 0x88e1, 0x8912, // topology discovery, 1905.1, HomePlug management
		0x8902, 0x88f7, 0x8914, 0x9000: // fault management, PTP, FIP, loopback test
		return true
	}
	return false
}

// ethernet reads a header of two addresses and a type, or a length.
func (d *decoder) ethernet() stage {
	if !d.need(14) {
		return isUndecoded
	}
	d.macs = d.data[:12]
	d.etherType = be.Uint16(d.data[12:])
	d.skip(14)
	return atEtherType
}

func (d *decoder) ethertype() stage {
	for {
		switch d.etherType {
		case etherIPv4:
			return atIPv4
		case etherIPv6:
			return atIPv6
		case etherVLAN, etherQinQ, etherOldQinQ:
			if !d.need(4) {
				return isUndecoded
			}
			d.etherType = be.Uint16(d.data[2:])
			d.skip(4)
			continue
		case etherMPLS, etherMPLSMore:
			return atMPLS
		case etherPPPoE:
			return d.pppoe()
		case etherMACsec:
			return d.macsec()
		case etherJumbo:
			return atLLC
		}
		break
	}
	switch {
	case controls(d.etherType):
		return isNotIP
	case d.etherType > 1 && d.etherType <= 1500 && d.macs != nil:
		if !d.limit(int(d.etherType)) {
			return isUndecoded
		}
		return atLLC
	}
	return d.undecoded(badType | reason(d.etherType))
}

// llc reads IEEE 802.2, and SNAP if that follows.
func (d *decoder) llc() stage {
	if !d.need(3) {
		return isUndecoded
	}
	const snap, spanningTree, osi = 0xaaaa, 0x4242, 0xfefe
	saps, control := be.Uint16(d.data), d.data[2]&^0x10
	switch {
	case saps == snap && control == 3:
		if !d.need(8) {
			return isUndecoded
		}
		organization := uint32(d.data[3])<<16 | uint32(d.data[4])<<8 | uint32(d.data[5])
		d.etherType = be.Uint16(d.data[6:])
		d.skip(8)
		switch organization {
		case 0, 0x0000f8: // Ethernet, and bridged to it
			d.macs = nil // a length has no place here
			return atEtherType
		case 0x00000c: // Cisco's discovery and spanning trees
			return isNotIP
		}
		return d.undecoded(badSAP | snap)
	case saps == spanningTree, saps == osi, control == 0xaf, control == 0xe3: // XID and TEST
		return isNotIP
	}
	return d.undecoded(badSAP | reason(saps))
}

// pppoe reads the header of a PPPoE session (RFC 2516).
func (d *decoder) pppoe() stage {
	if !d.need(6) || d.data[0] != 0x11 || d.data[1] != 0 {
		return d.undecoded(badHeader)
	}
	length := int(be.Uint16(d.data[4:]))
	d.skip(6)
	if length > 0 && !d.limit(length) {
		return isUndecoded
	}
	return atPPP
}

// ppp reads the protocol field, of one byte or two (RFC 1661, section 2).
func (d *decoder) ppp() stage {
	if !d.need(1) {
		return isUndecoded
	}
	protocol, length := uint16(d.data[0]), 1
	if protocol&1 == 0 {
		if !d.need(2) {
			return isUndecoded
		}
		protocol, length = be.Uint16(d.data), 2
	}
	d.skip(length)
	switch {
	case protocol == 0x21:
		return atIPv4
	case protocol == 0x57:
		return atIPv6
	case protocol == 0x281, protocol == 0x283:
		return atMPLS
	case protocol >= 0x8000: // network and link control
		return isNotIP
	}
	return d.undecoded(badPPP | reason(protocol))
}

// mpls takes off a stack of labels. What follows has no type: it is IP by its
// first bits, or Ethernet with an EtherType that is known here, perhaps behind a
// control word that begins with four zeros.
func (d *decoder) mpls() stage {
	for {
		if !d.need(4) {
			return isUndecoded
		}
		bottom := d.data[2]&1 != 0
		d.skip(4)
		if bottom {
			break
		}
	}
	if !d.need(1) {
		return isUndecoded
	}
	const control, header = 4, 14
	switch first := d.data[0] >> 4; {
	case first == 4, first == 6:
		return atIP
	case first == 0 && d.need(control+header) && leads(be.Uint16(d.data[control+header-2:])):
		d.skip(control)
		return atEthernet
	case d.need(header) && leads(be.Uint16(d.data[header-2:])):
		return atEthernet
	}
	return d.undecoded(badHeader)
}

// leads reports whether an EtherType leads to IP, or says that there is none.
func leads(etherType uint16) bool {
	switch etherType {
	case etherIPv4, etherIPv6, etherVLAN, etherQinQ, etherOldQinQ, etherMPLS, etherMPLSMore, etherPPPoE, etherMACsec:
		return true
	}
	return controls(etherType)
}

// macsec reads the SecTAG of IEEE 802.1AE. A frame that is only authenticated is
// read on: it is in clear. One that is encrypted belongs to a flow of its own.
func (d *decoder) macsec() stage {
	const explicit, encrypted, changed, icv = 0x20, 0x08, 0x04, 16
	if !d.need(6) || d.macs == nil || d.data[0]&0x80 != 0 {
		return d.undecoded(badHeader)
	}
	flags, header := d.data[0], 6
	if flags&explicit != 0 {
		header += 8
	}
	if flags&encrypted != 0 {
		p := &d.packet
		p.dst, p.src = end{family: familyMAC}, end{family: familyMAC}
		copy(p.dst.addr[:6], d.macs)
		copy(p.src.addr[:6], d.macs[6:])
		return d.carry(codeMACsec, 0)
	}
	if flags&changed != 0 { // not encrypted, but not as it was either
		return d.undecoded(badType | etherMACsec)
	}
	if !d.need(header+2) || d.wire < header+2+icv {
		return d.undecoded(badHeader)
	}
	d.limit(d.wire - icv)
	d.etherType = be.Uint16(d.data[header:])
	d.skip(header + 2)
	return atEtherType
}
