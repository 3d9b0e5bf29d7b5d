package capture

import (
	"encoding/binary"

	"github.com/gopacket/gopacket/layers"
)

var be = binary.BigEndian

// link takes off what the link put before the packet.
func (d *decoder) link(l layers.LinkType) stage {
	switch l {
	case layers.LinkTypeEthernet:
		return atEthernet
	case layers.LinkTypeLinuxSLL:
		return d.cooked(16, 14, 2)
	case layers.LinkTypeLinuxSLL2:
		return d.cooked(20, 0, 8)
	case layers.LinkTypeRaw, linkRawBSD, linkRawOther:
		return atIP
	case layers.LinkTypeIPv4:
		return atIPv4
	case layers.LinkTypeIPv6:
		return atIPv6
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		return d.loopback()
	case layers.LinkTypePPP, layers.LinkTypePPP_HDLC:
		return d.hdlc()
	case layers.LinkTypePPPEthernet:
		return d.pppoe()
	case linkPPPDir:
		if !d.need(1) {
			return isUndecoded
		}
		d.skip(1)
		return d.hdlc()
	case linkNFLOG:
		return d.nflog()
	case layers.LinkTypeIEEE802_11:
		return d.wireless()
	case layers.LinkTypeIEEE80211Radio:
		return d.radiotap()
	case linkIPoIB:
		return d.infiniband()
	}
	return d.undecoded(badLink | reason(l))
}

// arphrdNetlink marks messages to and from the kernel.
const arphrdNetlink = 824

// cooked reads the header of Linux's "any" interface, of either version.
func (d *decoder) cooked(header, protocol, hardware int) stage {
	if !d.need(header) {
		return isUndecoded
	}
	d.etherType = be.Uint16(d.data[protocol:])
	kind := be.Uint16(d.data[hardware:])
	d.skip(header)
	switch {
	case kind == arphrdNetlink:
		return isNotIP
	case d.etherType == 4: // ETH_P_802_2
		return atLLC
	}
	return atEtherType
}

// loopback reads the address family that BSD puts before a packet, in the byte
// order of its machine.
func (d *decoder) loopback() stage {
	if !d.need(4) {
		return isUndecoded
	}
	family := be.Uint32(d.data)
	if family > 0xffff {
		family = binary.LittleEndian.Uint32(d.data)
	}
	d.skip(4)
	switch family {
	case 2:
		return atIPv4
	case 10, 24, 28, 30: // Linux, NetBSD, FreeBSD, macOS
		return atIPv6
	}
	return d.undecoded(badHeader)
}

// hdlc reads PPP with or without the address and control bytes of HDLC.
func (d *decoder) hdlc() stage {
	if d.need(2) && d.data[0] == 0xff && d.data[1] == 0x03 {
		d.skip(2)
	}
	return atPPP
}

// nflogPayload is the attribute that holds the packet.
const nflogPayload = 9

// nflog reads what Linux's netfilter logs: attributes, the last of them the
// packet from its IP header on. Their lengths are in the machine's byte order.
func (d *decoder) nflog() stage {
	if !d.need(4) {
		return isUndecoded
	}
	family := d.data[0]
	d.skip(4)
	for d.need(4) {
		length, kind := int(binary.LittleEndian.Uint16(d.data)), binary.LittleEndian.Uint16(d.data[2:])
		if kind > 0xff && kind&0xff == 0 {
			length, kind = int(be.Uint16(d.data)), be.Uint16(d.data[2:])
		}
		if length < 4 {
			return isUndecoded
		}
		if kind == nflogPayload {
			d.skip(4)
			d.limit(length - 4)
			return atFamily(family)
		}
		length = (length + 3) &^ 3
		if !d.need(length) {
			return isUndecoded
		}
		d.skip(length)
	}
	return isUndecoded
}

func atFamily(family byte) stage {
	switch family {
	case 2:
		return atIPv4
	case 10:
		return atIPv6
	case 3, 7: // ARP, bridge
		return isNotIP
	}
	return isUndecoded
}

// radiotap skips what a radio says about a frame. Its length, alone of all, is
// in little endian order.
func (d *decoder) radiotap() stage {
	if !d.need(8) {
		return isUndecoded
	}
	length := int(binary.LittleEndian.Uint16(d.data[2:]))
	if length < 8 || !d.need(length) {
		return isUndecoded
	}
	d.skip(length)
	return d.wireless()
}

// wireless reads an 802.11 header down to its LLC.
func (d *decoder) wireless() stage {
	if !d.need(2) {
		return isUndecoded
	}
	const (
		data                             = 2
		qos, empty                       = 8, 4 // of the subtype of data frames
		toDS, fromDS, protected, ordered = 1, 2, 0x40, 0x80
	)
	kind, subtype, flags := d.data[0]>>2&3, d.data[0]>>4, d.data[1]
	if kind != data || subtype&empty != 0 {
		return isNotIP
	}
	header := 24
	if flags&(toDS|fromDS) == toDS|fromDS {
		header += 6
	}
	aggregated := false
	if subtype&qos != 0 {
		if !d.need(header + 2) {
			return isUndecoded
		}
		aggregated = d.data[header]&0x80 != 0
		header += 2
		if flags&ordered != 0 {
			header += 4
		}
	}
	if flags&protected != 0 || aggregated || !d.need(header) {
		return d.undecoded(badSealed)
	}
	d.skip(header)
	return atLLC
}

// infiniband reads IP over InfiniBand (RFC 4391), behind a routing header.
func (d *decoder) infiniband() stage {
	const routing, header = 40, 44
	if !d.need(header) {
		return isUndecoded
	}
	d.etherType = be.Uint16(d.data[routing:])
	d.skip(header)
	return atEtherType
}
