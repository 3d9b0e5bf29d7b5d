package main

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/gopacket/gopacket/layers"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Each wrap puts one frame into another, or into several. What a frame is not
// made of, it leaves alone.

// The ends of tunnels.
var (
	tunnelA = [4]byte{192, 0, 2, 1}
	tunnelB = [4]byte{192, 0, 2, 2}
)

// every wraps each frame.
func every(wrap func(f capture.Frame, p packet) [][]byte) func([]capture.Frame) []capture.Frame {
	return func(frames []capture.Frame) []capture.Frame {
		var all []capture.Frame
		for _, f := range frames {
			p := dissect(f.Data)
			if p.etherType == 0 {
				all = append(all, f)
				continue
			}
			for _, data := range wrap(f, p) {
				all = append(all, with(f, data))
			}
		}
		return all
	}
}

// tagged puts VLAN tags before the type, the outermost first.
func tagged(tags ...uint32) func(capture.Frame, packet) [][]byte {
	return func(f capture.Frame, _ packet) [][]byte {
		data := slices.Clone(f.Data[:12])
		for _, tag := range tags {
			data = binary.BigEndian.AppendUint32(data, tag)
		}
		return [][]byte{append(data, f.Data[12:]...)}
	}
}

// tunnelled4 is a frame's inside, in an outer IPv4 packet behind more headers. The
// outer addresses go the way the inner ones do.
func tunnelled4(f capture.Frame, p packet, proto byte, headers, inside []byte) [][]byte {
	src, dst := tunnelA, tunnelB
	if p.dst.Addr().Less(p.src.Addr()) {
		src, dst = dst, src
	}
	data := slices.Clone(f.Data[:12])
	data = binary.BigEndian.AppendUint16(data, typeIP4)
	data = append(data, header4(proto, src, dst, len(headers)+len(inside), 0, 0)...)
	return [][]byte{slices.Concat(data, headers, inside)}
}

// overUDP is a UDP header to a port.
func overUDP(port uint16, length int) []byte {
	h := binary.BigEndian.AppendUint16(nil, 50000)
	h = binary.BigEndian.AppendUint16(h, port)
	h = binary.BigEndian.AppendUint16(h, uint16(udpHeader+length))
	return append(h, 0, 0)
}

func vxlan(f capture.Frame, p packet) [][]byte {
	h := append(overUDP(4789, 8+len(f.Data)), 8, 0, 0, 0, 0, 0, 42, 0)
	return tunnelled4(f, p, protoUDP, h, f.Data)
}

func geneve(f capture.Frame, p packet) [][]byte {
	h := append(overUDP(6081, 8+len(f.Data)), 0, 0, 0x65, 0x58, 0, 0, 42, 0)
	return tunnelled4(f, p, protoUDP, h, f.Data)
}

func gre(f capture.Frame, p packet) [][]byte {
	h := binary.BigEndian.AppendUint16([]byte{0, 0}, p.etherType)
	return tunnelled4(f, p, protoGRE, h, f.Data[ethernetHeader:p.end])
}

func greTap(f capture.Frame, p packet) [][]byte {
	return tunnelled4(f, p, protoGRE, []byte{0x20, 0, 0x65, 0x58, 0, 0, 0, 42}, f.Data)
}

func ipip(f capture.Frame, p packet) [][]byte {
	proto := byte(protoIPIP)
	if p.etherType == typeIP6 {
		proto = protoIPv6
	}
	return tunnelled4(f, p, proto, nil, f.Data[ethernetHeader:p.end])
}

// nullESP puts packets into IPsec that only signs (RFC 2410): in tunnel mode
// all of an inner packet, else what is behind its IP header. In UDP or not.
func nullESP(tunnel, udp bool) func([]capture.Frame) []capture.Frame {
	return func(frames []capture.Frame) []capture.Frame {
		sequence := map[bool]uint32{}
		wrap := func(f capture.Frame, p packet) [][]byte {
			inside, next := f.Data[p.transport:p.end], p.proto
			if tunnel {
				inside, next = f.Data[ethernetHeader:p.end], protoIPIP
				if p.etherType == typeIP6 {
					next = protoIPv6
				}
			}
			back := p.dst.Addr().Less(p.src.Addr())
			sequence[back]++
			esp := binary.BigEndian.AppendUint32(nil, map[bool]uint32{false: 0xc0ffee01, true: 0xdecade02}[back])
			esp = binary.BigEndian.AppendUint32(esp, sequence[back])
			esp = append(esp, inside...)
			pad := byte(-(len(inside) + 2) & 3)
			esp = append(esp, []byte{1, 2, 3}[:pad]...)
			esp = append(esp, pad, next)
			signed := sha256.Sum256(esp)
			esp = append(esp, signed[:12]...)
			if !udp {
				return tunnelled4(f, p, protoESP, nil, esp)
			}
			return tunnelled4(f, p, protoUDP, overUDP(4500, len(esp)), esp)
		}
		return every(wrap)(frames)
	}
}

// pieces cuts what is behind the IP header into fragments of at most 256 bytes,
// the last one first: they need not come in order.
func pieces(f capture.Frame, p packet) [][]byte {
	const size = 256
	body := f.Data[p.transport:p.end]
	if len(body) <= size {
		return [][]byte{f.Data}
	}
	var all [][]byte
	id := uint16(f.Time.UnixMicro())
	for at := 0; at < len(body); at += size {
		part := body[at:min(at+size, len(body))]
		more := at+size < len(body)
		if p.etherType == typeIP4 {
			field := uint16(at / 8)
			if more {
				field |= 0x2000
			}
			h := header4(p.proto, p.src.Addr().As4(), p.dst.Addr().As4(), len(part), id, field)
			all = append(all, slices.Concat(f.Data[:ethernetHeader], h, part))
			continue
		}
		h := slices.Clone(f.Data[:p.transport])
		binary.BigEndian.PutUint16(h[ethernetHeader+4:], uint16(8+len(part)))
		h[ethernetHeader+6] = protoFragment
		field := uint16(at)
		if more {
			field |= 1
		}
		x := binary.BigEndian.AppendUint16([]byte{p.proto, 0}, field)
		x = binary.BigEndian.AppendUint32(x, uint32(id))
		all = append(all, slices.Concat(h, x, part))
	}
	slices.Reverse(all)
	return all
}

// relinked gives frames another link layer than Ethernet.
func relinked(link layers.LinkType, header func(etherType uint16) []byte) func([]capture.Frame) []capture.Frame {
	return func(frames []capture.Frame) []capture.Frame {
		var all []capture.Frame
		for _, f := range frames {
			p := dissect(f.Data)
			if p.etherType == 0 {
				continue // of another link layer, a capture holds nothing but what it can say
			}
			f = with(f, append(header(p.etherType), f.Data[ethernetHeader:p.end]...))
			f.Link = link
			all = append(all, f)
		}
		return all
	}
}

func cooked(etherType uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}, etherType)
}

func cooked2(etherType uint16) []byte {
	return append(binary.BigEndian.AppendUint16(nil, etherType), 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0)
}

func bare(uint16) []byte { return nil }
