package capture

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// segment is one TCP packet. Its payload is valid until the next is decoded.
type segment struct {
	src, dst            netip.AddrPort
	seq, ack            uint32
	syn, fin, rst, acks bool // acks: ack means something
	payload             []byte
	// cut bytes follow the payload, but the capture did not keep them.
	cut int64
	at  time.Time
}

// kind is what a packet turned out to be.
type kind uint8

const (
	isTCP kind = iota
	isNotIP
	isNotTCP
	isFragment
	isBroken
)

// decoder takes headers apart. Its parsers stop at TCP and at everything that
// is not IP; what is above is nobody's guess.
type decoder struct {
	ethernet layers.Ethernet
	vlan     layers.Dot1Q
	sll      layers.LinuxSLL
	sll2     layers.LinuxSLL2
	ip4      layers.IPv4
	ip6      layers.IPv6
	ip6ext   layers.IPv6ExtensionSkipper
	tcp      layers.TCP

	parsers map[gopacket.LayerType]*gopacket.DecodingLayerParser
	seen    []gopacket.LayerType
}

func newDecoder() *decoder {
	d := &decoder{parsers: make(map[gopacket.LayerType]*gopacket.DecodingLayerParser)}
	for _, first := range []gopacket.LayerType{
		layers.LayerTypeEthernet, layers.LayerTypeLinuxSLL, layers.LayerTypeLinuxSLL2, layers.LayerTypeIPv4, layers.LayerTypeIPv6,
	} {
		p := gopacket.NewDecodingLayerParser(first, &d.ethernet, &d.vlan, &d.sll, &d.sll2,
			&d.ip4, &d.ip6, &d.ip6ext, &d.tcp)
		p.IgnoreUnsupported = true
		d.parsers[first] = p
	}
	return d
}

// firstLayer is what a packet of a link type begins with.
func firstLayer(link layers.LinkType, data []byte) (gopacket.LayerType, bool) {
	switch link {
	case layers.LinkTypeEthernet:
		return layers.LayerTypeEthernet, true
	case layers.LinkTypeLinuxSLL:
		return layers.LayerTypeLinuxSLL, true
	case layers.LinkTypeLinuxSLL2:
		return layers.LayerTypeLinuxSLL2, true
	case layers.LinkTypeIPv4:
		return layers.LayerTypeIPv4, true
	case layers.LinkTypeIPv6:
		return layers.LayerTypeIPv6, true
	case layers.LinkTypeRaw, linkTypeDLTRaw:
		if len(data) > 0 && data[0]>>4 == 4 {
			return layers.LayerTypeIPv4, true
		}
		return layers.LayerTypeIPv6, len(data) > 0 && data[0]>>4 == 6
	}
	return 0, false
}

// linkTypeDLTRaw is what some writers put where LINKTYPE_RAW belongs.
const linkTypeDLTRaw = 12

// decode takes one packet apart.
func (d *decoder) decode(link layers.LinkType, data []byte, info gopacket.CaptureInfo) (segment, kind) {
	first, ok := firstLayer(link, data)
	if !ok {
		return segment{}, isBroken
	}
	parser := d.parsers[first]
	err := parser.DecodeLayers(data, &d.seen)
	if d.isFragment() { // what follows its header is no header, if it reads as one or not
		return segment{}, isFragment
	}
	if err != nil {
		return segment{}, isBroken
	}
	if !slices.Contains(d.seen, layers.LayerTypeTCP) {
		switch src, _ := d.addresses(); {
		case parser.Truncated:
			return segment{}, isBroken
		case src == nil:
			return segment{}, isNotIP
		}
		return segment{}, isNotTCP
	}
	src, dst := d.addresses()
	from, _ := netip.AddrFromSlice(src) // 4 or 16 bytes, as the IP layer cut them
	to, _ := netip.AddrFromSlice(dst)
	seg := segment{
		src: netip.AddrPortFrom(from, uint16(d.tcp.SrcPort)),
		dst: netip.AddrPortFrom(to, uint16(d.tcp.DstPort)),
		seq: d.tcp.Seq, ack: d.tcp.Ack,
		syn: d.tcp.SYN, fin: d.tcp.FIN, rst: d.tcp.RST, acks: d.tcp.ACK,
		payload: d.tcp.Payload,
		at:      info.Timestamp,
	}
	if parser.Truncated {
		seg.cut = int64(max(info.Length-info.CaptureLength, 0))
	}
	return seg, isTCP
}

// isFragment reports whether the packet is a piece of an IP packet.
func (d *decoder) isFragment() bool {
	return slices.Contains(d.seen, layers.LayerTypeIPv6Fragment) ||
		slices.Contains(d.seen, layers.LayerTypeIPv4) && d.ip4.NextLayerType() == gopacket.LayerTypeFragment
}

// addresses of the innermost IP header.
func (d *decoder) addresses() (src, dst net.IP) {
	for _, layer := range slices.Backward(d.seen) {
		switch layer {
		case layers.LayerTypeIPv4:
			return d.ip4.SrcIP, d.ip4.DstIP
		case layers.LayerTypeIPv6:
			return d.ip6.SrcIP, d.ip6.DstIP
		}
	}
	return nil, nil
}
