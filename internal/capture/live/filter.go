package live

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Filter says which packets to capture: those that all of its parts let pass; an
// empty part lets all pass. It only spares work, so what it cannot judge passes:
// fragments after the first, and IPv6 packets behind more than one extension
// header, have no ports that it finds. Of packets inside others it sees the outer
// header.
type Filter struct {
	// Ports of TCP, UDP or SCTP, at either end.
	Ports []uint16
	// Peers are addresses at either end.
	Peers []netip.Prefix
	// Protos are names of capture.Proto.
	Protos []capture.Proto
	// NotLoopback leaves out packets from or to loopback addresses, on whatever
	// interface they are.
	NotLoopback bool
}

// protoNumbers of IP.
var protoNumbers = map[capture.Proto]uint32{
	capture.ICMP: 1, capture.TCP: 6, capture.UDP: 17, capture.ESP: 50, capture.ICMPv6: 58, capture.SCTP: 132,
}

// Protos are the names that a filter knows.
func Protos() []string {
	var names []string
	for p := range protoNumbers {
		names = append(names, string(p))
	}
	slices.Sort(names)
	return names
}

// loopback addresses of both families.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// empty reports whether every packet passes.
func (f Filter) empty() bool {
	return len(f.Ports) == 0 && len(f.Peers) == 0 && len(f.Protos) == 0 && !f.NotLoopback
}

// String is the filter in the language of pcap-filter(7), for people to read.
func (f Filter) String() string {
	var parts []string
	part := func(n int, each func(int) string) {
		var any []string
		for i := range n {
			any = append(any, each(i))
		}
		if n > 0 {
			parts = append(parts, "("+strings.Join(any, " or ")+")")
		}
	}
	part(len(f.Protos), func(i int) string {
		if number, ok := protoNumbers[f.Protos[i]]; ok && (f.Protos[i] == capture.ESP || f.Protos[i] == capture.ICMPv6) {
			return "ip proto " + strconv.Itoa(int(number)) + " or ip6 proto " + strconv.Itoa(int(number))
		}
		return string(f.Protos[i])
	})
	part(len(f.Ports), func(i int) string { return "port " + strconv.Itoa(int(f.Ports[i])) })
	part(len(f.Peers), func(i int) string { return "net " + f.Peers[i].String() })
	if f.NotLoopback {
		parts = append(parts, "not net 127.0.0.0/8", "not host ::1")
	}
	return strings.Join(parts, " and ")
}

// maxInstructions of a program, as the kernel has it.
const maxInstructions = 4096

// Validate reports every problem.
func (f Filter) Validate() error {
	var problems []error
	for _, p := range f.Protos {
		if _, ok := protoNumbers[p]; !ok {
			problems = append(problems, fmt.Errorf("protocol %q: must be one of %s", p, strings.Join(Protos(), ", ")))
		}
	}
	for _, p := range f.Peers {
		if !p.IsValid() || p.Addr().Is4In6() {
			problems = append(problems, fmt.Errorf("peer %v: must be an address or a prefix", p))
		}
	}
	if slices.Contains(f.Ports, 0) {
		problems = append(problems, errors.New("port 0: must be 1 to 65535"))
	}
	if len(problems) == 0 {
		_, err := f.compile(layers.LinkTypeEthernet, 1)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// compile makes the program that keeps snapLen bytes of what passes. Of a link
// without a header of its own packets begin with IP.
func (f Filter) compile(link layers.LinkType, snapLen int) ([]bpf.RawInstruction, error) {
	var a assembler
	pass, drop, v4, v6 := a.label(), a.label(), a.label(), a.label()
	if !f.empty() {
		f.network(&a, link, v4, v6)
		if len(f.Ports)+len(f.Peers)+len(f.Protos) == 0 {
			a.jump(pass) // not IP, so not from a loopback address
		} else {
			a.jump(drop)
		}
		a.place(v4)
		f.ipv4(&a, pass, drop)
		a.place(v6)
		f.ipv6(&a, pass, drop)
	}
	a.place(pass)
	a.emit(bpf.RetConstant{Val: uint32(snapLen)})
	a.place(drop)
	a.emit(bpf.RetConstant{Val: 0})
	if len(a.code) > maxInstructions {
		return nil, fmt.Errorf("filter needs %d instructions: the kernel takes %d, name fewer ports or peers", len(a.code), maxInstructions)
	}
	return a.assemble()
}

// EtherTypes that matter here.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// network finds the IP header, behind up to two VLAN tags: X is its offset at v4
// and v6. The kernel may have taken the outer tag off already.
func (f Filter) network(a *assembler, link layers.LinkType, v4, v6 label) {
	if link != layers.LinkTypeEthernet {
		a.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: 0},
			bpf.LoadAbsolute{Off: 0, Size: 1}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4})
		a.when(bpf.JumpEqual, 4, v4)
		a.when(bpf.JumpEqual, 6, v6)
		return
	}
	end := a.label()
	for tags := range uint32(3) {
		a.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: 14 + 4*tags}, bpf.LoadAbsolute{Off: 12 + 4*tags, Size: 2})
		a.when(bpf.JumpEqual, etherIPv4, v4)
		a.when(bpf.JumpEqual, etherIPv6, v6)
		tag := a.label()
		for _, tpid := range []uint32{0x8100, 0x88a8, 0x9100} {
			a.when(bpf.JumpEqual, tpid, tag)
		}
		a.jump(end)
		a.place(tag)
	}
	a.place(end)
}

// Memory of a program.
const (
	memIP     = 0 // offset of the IP header
	memHeader = 1 // offset of the transport header
)

func (f Filter) ipv4(a *assembler, pass, drop label) {
	a.emit(bpf.StoreScratch{Src: bpf.RegX, N: memIP})
	f.peers(a, 12, 16, 4, drop)
	a.emit(bpf.LoadScratch{Dst: bpf.RegX, N: memIP}, bpf.LoadIndirect{Off: 9, Size: 1})
	f.protos(a, drop)
	if len(f.Ports) == 0 {
		a.jump(pass)
		return
	}
	f.hasPorts(a, drop)
	a.emit(bpf.LoadIndirect{Off: 6, Size: 2})
	a.when(bpf.JumpBitsSet, 0x1fff, pass)
	a.emit(bpf.LoadIndirect{Off: 0, Size: 1}, // length of the header, in words
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0f},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.StoreScratch{Src: bpf.RegA, N: memHeader})
	f.ports(a, pass, drop)
}

// extensions of IPv6: hop-by-hop, routing and destination options, which begin
// alike; fragment, authentication, mobility.
var extensions = []uint32{0, 43, 60, 44, 51, 135}

func (f Filter) ipv6(a *assembler, pass, drop label) {
	a.emit(bpf.StoreScratch{Src: bpf.RegX, N: memIP})
	f.peers(a, 8, 24, 16, drop)
	a.emit(bpf.LoadScratch{Dst: bpf.RegX, N: memIP},
		bpf.TXA{}, bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 40}, bpf.StoreScratch{Src: bpf.RegA, N: memHeader},
		bpf.LoadIndirect{Off: 6, Size: 1})
	extended, found := a.label(), a.label()
	for _, extension := range extensions[:3] {
		a.when(bpf.JumpEqual, extension, extended)
	}
	a.jump(found)
	a.place(extended)
	a.emit(bpf.LoadIndirect{Off: 41, Size: 1}, // length in units of 8 bytes, less one
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 48},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.StoreScratch{Src: bpf.RegA, N: memHeader},
		bpf.LoadIndirect{Off: 40, Size: 1})
	a.place(found)
	for _, extension := range extensions {
		a.when(bpf.JumpEqual, extension, pass)
	}
	f.protos(a, drop)
	if len(f.Ports) == 0 {
		a.jump(pass)
		return
	}
	f.hasPorts(a, drop)
	f.ports(a, pass, drop)
}

// protos judges the protocol in A.
func (f Filter) protos(a *assembler, drop label) {
	if len(f.Protos) == 0 {
		return
	}
	match := a.label()
	for _, p := range f.Protos {
		a.when(bpf.JumpEqual, protoNumbers[p], match)
	}
	a.jump(drop)
	a.place(match)
}

// hasPorts judges whether the protocol in A has ports at all.
func (f Filter) hasPorts(a *assembler, drop label) {
	match := a.label()
	for _, p := range []capture.Proto{capture.TCP, capture.UDP, capture.SCTP} {
		a.when(bpf.JumpEqual, protoNumbers[p], match)
	}
	a.jump(drop)
	a.place(match)
}

func (f Filter) ports(a *assembler, pass, drop label) {
	a.emit(bpf.LoadScratch{Dst: bpf.RegX, N: memHeader})
	for _, offset := range []uint32{0, 2} {
		a.emit(bpf.LoadIndirect{Off: offset, Size: 2})
		for _, port := range f.Ports {
			a.when(bpf.JumpEqual, uint32(port), pass)
		}
	}
	a.jump(drop)
}

// peers judges the addresses at two offsets from the IP header, size bytes long.
func (f Filter) peers(a *assembler, src, dst uint32, size int, drop label) {
	if f.NotLoopback {
		for _, p := range loopback {
			f.within(a, p, src, size, drop)
			f.within(a, p, dst, size, drop)
		}
	}
	if len(f.Peers) == 0 {
		return
	}
	match := a.label()
	for _, p := range f.Peers {
		f.within(a, p, src, size, match)
		f.within(a, p, dst, size, match)
	}
	a.jump(drop)
	a.place(match)
}

// within jumps if the address at an offset from the IP header lies in a prefix of
// its family. X is the offset of the IP header.
func (f Filter) within(a *assembler, p netip.Prefix, offset uint32, size int, match label) {
	address := p.Masked().Addr().AsSlice()
	if len(address) != size {
		return
	}
	differs := a.label()
	for word, bits := uint32(0), p.Bits(); bits > 0; word, bits = word+1, bits-32 {
		want := uint32(address[4*word])<<24 | uint32(address[4*word+1])<<16 | uint32(address[4*word+2])<<8 | uint32(address[4*word+3])
		a.emit(bpf.LoadIndirect{Off: offset + 4*word, Size: 4})
		if bits < 32 {
			a.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(0) << (32 - bits)})
		}
		a.when(bpf.JumpNotEqual, want, differs)
	}
	a.jump(match)
	a.place(differs)
}
