package main

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Sizes and numbers of the headers of the goldens, which are all Ethernet.
const (
	ethernetHeader = 14
	ip4Header      = 20
	ip6Header      = 40
	udpHeader      = 8
	typeIP4        = 0x0800
	typeIP6        = 0x86dd
	protoTCP       = 6
	protoUDP       = 17
	protoGRE       = 47
	protoESP       = 50
	protoIPIP      = 4
	protoIPv6      = 41
	protoFragment  = 44
	finSynRst      = 0x07
)

// packet is where the parts of a golden's frame are. The zero packet is one that
// is left as it is.
type packet struct {
	etherType uint16
	proto     byte
	src, dst  netip.AddrPort
	// transport, payload and end are offsets in the frame; end is that of the IP
	// packet.
	transport, payload, end int
}

// dissect finds the parts of a frame of IPv4 or IPv6 without options.
func dissect(frame []byte) packet {
	if len(frame) < ethernetHeader+ip4Header {
		return packet{}
	}
	p := packet{etherType: binary.BigEndian.Uint16(frame[12:])}
	ip := frame[ethernetHeader:]
	var src, dst netip.Addr
	switch {
	case p.etherType == typeIP4 && ip[0] == 0x45:
		p.proto, p.transport = ip[9], ethernetHeader+ip4Header
		p.end = ethernetHeader + int(binary.BigEndian.Uint16(ip[2:]))
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	case p.etherType == typeIP6 && len(ip) >= ip6Header:
		p.proto, p.transport = ip[6], ethernetHeader+ip6Header
		p.end = p.transport + int(binary.BigEndian.Uint16(ip[4:]))
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	default:
		return packet{}
	}
	p.end = min(p.end, len(frame))
	p.payload = p.end
	p.src, p.dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	t := frame[p.transport:p.end]
	switch {
	case p.proto == protoTCP && len(t) >= 20:
		p.payload = min(p.transport+int(t[12]>>4)*4, p.end)
	case p.proto == protoUDP && len(t) >= udpHeader:
		p.payload = p.transport + udpHeader
	default:
		return p
	}
	p.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(t))
	p.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(t[2:]))
	return p
}

// says reports whether the packet has payload.
func (p packet) says() bool { return p.end > p.payload }

// ends are the two ends of a flow, whichever way a packet of it goes.
type ends struct {
	proto byte
	a, b  netip.AddrPort
}

func (p packet) flow() ends {
	if p.dst.Compare(p.src) < 0 {
		return ends{p.proto, p.dst, p.src}
	}
	return ends{p.proto, p.src, p.dst}
}

// clone is frames that may be written to.
func clone(frames []capture.Frame) []capture.Frame {
	all := slices.Clone(frames)
	for i := range all {
		all[i].Data = slices.Clone(all[i].Data)
	}
	return all
}

// with is a frame with other bytes, all of them captured.
func with(f capture.Frame, data []byte) capture.Frame {
	f.Data, f.Length = data, len(data)
	return f
}

// header4 is an IPv4 header without options before a payload.
func header4(proto byte, src, dst [4]byte, length int, id, fragment uint16) []byte {
	h := make([]byte, ip4Header)
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(ip4Header+length))
	binary.BigEndian.PutUint16(h[4:], id)
	binary.BigEndian.PutUint16(h[6:], fragment)
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return h
}

// checksum of an IPv4 header whose own checksum is 0.
func checksum(h []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
