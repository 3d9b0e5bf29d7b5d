package capture

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// A packet is taken apart from the outside in. Each stage takes its header off
// the data and names the next stage, or says what the packet is:
//
//	link.go      the link's own header, down to an EtherType, PPP or IP
//	ethertype.go VLAN, MPLS, PPPoE, LLC, MACsec: they lead to each other and to IP
//	ip.go        IPv4, IPv6 and its extension headers, AH
//	fragment.go  pieces of IP packets, put together
//	transport.go ports, sequence numbers, payload
//	overlay.go   packets in packets: back to Ethernet or IP
//
// Headers are read here and not by gopacket, because its parser holds one header
// of a kind and so cannot follow packets in packets; and because which lengths
// are to be believed, and what is to become of a packet that contradicts itself,
// decides about verdicts.

// stage is what comes next in a packet, or what the packet turned out to be.
type stage uint8

const (
	atEthernet stage = iota
	atEtherType
	atLLC
	atPPP
	atMPLS
	atIP // of the version that its first bits say
	atIPv4
	atIPv6
	atProtocol

	isFlow
	isNotIP
	isControl
	isFragment // kept, until the others of its packet come
	isUndecoded
)

// packet is what a frame carries. Its payload is valid until the next is decoded.
type packet struct {
	proto    code
	src, dst end
	payload  []byte
	// cut bytes follow the payload, but the capture did not keep them.
	cut int64
	// Of TCP: acknowledged means something if flags say so.
	seq, acknowledged uint32
	flags             uint8
	// Of ICMP echo: which of the two.
	request, reply bool
	path           path
	at             time.Time
	number         int
}

// Flags of TCP.
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagACK = 1 << 4
)

func (p *packet) has(flag uint8) bool { return p.flags&flag != 0 }

// end is one side of a packet. Of an IPv4 address only the first four bytes are
// used, of a MAC address six.
type end struct {
	addr   [16]byte
	port   uint16
	family uint16
}

const (
	familyIPv4 = 4
	familyIPv6 = 6
	familyMAC  = 48
)

// addrPort is the end as others see it.
func (e *end) addrPort() netip.AddrPort {
	switch e.family {
	case familyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.addr[:4])), e.port)
	case familyIPv6:
		return netip.AddrPortFrom(netip.AddrFrom16(e.addr), e.port)
	}
	return netip.AddrPort{}
}

// code is a number for each Proto: an IP protocol's own, or codeMACsec.
type code uint16

const (
	protoICMP    = 1
	protoIPv4    = 4
	protoTCP     = 6
	protoUDP     = 17
	protoIPv6    = 41
	protoGRE     = 47
	protoESP     = 50
	protoAH      = 51
	protoICMPv6  = 58
	protoEtherIP = 97
	protoSCTP    = 132
	protoUDPLite = 136
	protoMPLS    = 137

	codeMACsec code = 256
)

// protos are the names by code.
var protos = func() (all [codeMACsec + 1]Proto) {
	for i := range all {
		all[i] = Proto(fmt.Sprintf("ip-%d", i))
	}
	all[protoTCP], all[protoUDP], all[protoSCTP] = TCP, UDP, SCTP
	all[protoICMP], all[protoICMPv6] = ICMP, ICMPv6
	all[protoESP], all[codeMACsec] = ESP, MACsec
	return all
}()

// decoder takes packets apart.
type decoder struct {
	packet packet
	// data is what is left of the packet as captured, and wire how long that was
	// on the wire; never less.
	data []byte
	wire int
	// short: a header is not there because the capture cut it off.
	short bool
	why   reason

	vantage   string
	macs      []byte // destination and source of the innermost Ethernet header, or nil
	etherType uint16
	protocol  uint8

	fragments fragments
}

// reason says why a packet is undecoded: a kind in the upper half, a number in
// the lower.
type reason uint32

const (
	badHeader reason = 0
	badLink   reason = 1 << 16
	badType   reason = 2 << 16
	badSAP    reason = 3 << 16
	badPPP    reason = 4 << 16
	badSealed reason = 5 << 16 // encrypted by the radio link
)

func (r reason) String() string {
	n := r & 0xffff
	switch r &^ 0xffff {
	case badLink:
		return fmt.Sprintf("link type %d", n)
	case badType:
		return fmt.Sprintf("EtherType 0x%04x", uint32(n))
	case badSAP:
		return fmt.Sprintf("LLC 0x%04x", uint32(n))
	case badPPP:
		return fmt.Sprintf("PPP protocol 0x%04x", uint32(n))
	case badSealed:
		return "encrypted by 802.11"
	}
	return "malformed or cut off in a header"
}

// decode takes a frame apart. What it is stands in d.packet.
func (d *decoder) decode(f *Frame) stage {
	d.packet = packet{at: f.Time, number: f.Number}
	d.data, d.wire = f.Data, max(f.Length, len(f.Data))
	d.short, d.why = false, badHeader
	d.vantage, d.macs = f.Vantage, nil
	return d.run(d.link(f.Link))
}

// run goes from stage to stage. It comes to an end, as each takes bytes off.
func (d *decoder) run(s stage) stage {
	for {
		switch s {
		case atEthernet:
			s = d.ethernet()
		case atEtherType:
			s = d.ethertype()
		case atLLC:
			s = d.llc()
		case atPPP:
			s = d.ppp()
		case atMPLS:
			s = d.mpls()
		case atIP:
			s = d.ip()
		case atIPv4:
			s = d.ipv4()
		case atIPv6:
			s = d.ipv6()
		case atProtocol:
			s = d.transport()
		case isFlow, isNotIP, isControl, isFragment, isUndecoded:
			return s
		}
	}
}

// need reports whether the next n bytes are there.
func (d *decoder) need(n int) bool {
	if len(d.data) >= n {
		return true
	}
	d.short = d.short || d.wire >= n
	return false
}

// skip takes n bytes off, which are there.
func (d *decoder) skip(n int) {
	d.data = d.data[n:]
	d.wire -= n
}

// limit believes a header's word that n bytes are left. What lies behind is
// padding. What is lacking was cut off, unless an outer header knows better.
func (d *decoder) limit(n int) bool {
	if n > d.wire && d.packet.path.n > 0 {
		return false
	}
	d.wire = n
	d.data = d.data[:min(n, len(d.data))]
	return true
}

// undecoded gives a packet up.
func (d *decoder) undecoded(why reason) stage {
	d.why = why
	return isUndecoded
}

// carry makes the packet one of a flow, its payload behind a header.
func (d *decoder) carry(proto code, header int) stage {
	p := &d.packet
	p.proto = proto
	p.payload = d.data[min(header, len(d.data)):]
	p.cut = int64(d.wire - header - len(p.payload))
	return isFlow
}

// linkTypes that gopacket has no name for, or none that fits.
const (
	linkRawBSD   layers.LinkType = 12
	linkRawOther layers.LinkType = 14
	linkPPPDir   layers.LinkType = 204
	linkNFLOG    layers.LinkType = 239
	linkIPoIB    layers.LinkType = 242
)
