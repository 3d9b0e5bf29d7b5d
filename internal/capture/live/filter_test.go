package live

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// shape is a packet before it is bytes.
type shape struct {
	tags     int
	ether    uint16 // anything but IP, or 0
	src, dst netip.Addr
	proto    uint8
	options  int    // words of IPv4 options; length of IPv6 extensions
	fragment int    // offset of a fragment, in units of 8 bytes
	exts     []byte // of IPv6
	from, to uint16
}

// few of everything, so that filters and packets meet often.
var (
	someAddrs = rapid.SampledFrom([]netip.Addr{
		netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.1.3"), netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("127.9.9.9"),
	})
	someAddrs6 = rapid.SampledFrom([]netip.Addr{
		netip.MustParseAddr("fd77::2"), netip.MustParseAddr("fd77:0:0:1::3"), netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("::1"), netip.MustParseAddr("::2"),
	})
	somePorts    = rapid.SampledFrom([]uint16{53, 80, 443, 2929, 40000, 65535})
	someProtos   = rapid.SampledFrom([]uint8{1, 6, 17, 50, 58, 132, 89})
	somePrefixes = rapid.Map(rapid.SampledFrom([]string{
		"10.1.0.2/32", "10.1.0.0/16", "10.0.0.0/7", "0.0.0.0/0", "fd77::/64", "fd77::2/128", "fd77::/33", "::/0", "2001:db8::/32", "192.0.2.8/31",
	}), netip.MustParsePrefix)
)

var shapes = rapid.Custom(func(t *rapid.T) shape {
	s := shape{
		tags:  rapid.IntRange(0, 2).Draw(t, "tags"),
		proto: someProtos.Draw(t, "proto"), options: rapid.IntRange(0, 10).Draw(t, "options"),
		from: somePorts.Draw(t, "from"), to: somePorts.Draw(t, "to"),
		exts: rapid.SliceOfN(rapid.SampledFrom([]byte{0, 43, 60, 44}), 0, 2).Draw(t, "extensions"),
	}
	switch rapid.IntRange(0, 6).Draw(t, "what") {
	case 0:
		s.ether = rapid.SampledFrom([]uint16{0x0806, 0x88e5, 0x88cc}).Draw(t, "ether")
	case 1, 2, 3:
		s.src, s.dst = someAddrs.Draw(t, "src"), someAddrs.Draw(t, "dst")
		s.fragment = rapid.SampledFrom([]int{0, 0, 0, 1, 0x1fff}).Draw(t, "fragment")
	default:
		s.src, s.dst = someAddrs6.Draw(t, "src"), someAddrs6.Draw(t, "dst")
	}
	return s
})

// bytes of the packet, on a link with or without a header of its own.
func (s shape) bytes(link layers.LinkType) []byte {
	var b []byte
	if link == layers.LinkTypeEthernet {
		b = make([]byte, 12)
		for range s.tags {
			b = append(b, 0x81, 0, 0, 42)
		}
		ether := s.ether
		switch {
		case ether != 0:
		case s.src.Is4():
			ether = etherIPv4
		default:
			ether = etherIPv6
		}
		b = binary.BigEndian.AppendUint16(b, ether)
	}
	if s.ether != 0 {
		return append(b, make([]byte, 46)...)
	}
	var ip []byte
	if s.src.Is4() {
		ip = make([]byte, 20+4*s.options)
		ip[0] = 0x40 | byte(5+s.options)
		binary.BigEndian.PutUint16(ip[6:], uint16(s.fragment))
		ip[9] = s.proto
		copy(ip[12:], s.src.AsSlice())
		copy(ip[16:], s.dst.AsSlice())
	} else {
		ip = make([]byte, 40)
		ip[0], ip[6] = 0x60, s.proto
		copy(ip[8:], s.src.AsSlice())
		copy(ip[24:], s.dst.AsSlice())
		next := 6
		for _, ext := range s.exts {
			ip[next] = ext
			next = len(ip)
			header := make([]byte, 8)
			if ext != 44 {
				header = make([]byte, 8+8*s.options)
				header[1] = byte(s.options)
			}
			ip = append(ip, header...)
		}
		ip[next] = s.proto
	}
	b = append(b, ip...)
	b = binary.BigEndian.AppendUint16(b, s.from)
	b = binary.BigEndian.AppendUint16(b, s.to)
	return append(b, make([]byte, 20)...)
}

// passes is what a filter means, as slowly and plainly as it can be said.
func passes(f Filter, s shape) bool {
	if s.ether != 0 {
		return len(f.Ports)+len(f.Peers)+len(f.Protos) == 0
	}
	if f.NotLoopback && (s.src.IsLoopback() || s.dst.IsLoopback()) {
		return false
	}
	peer := func(p netip.Prefix) bool { return p.Contains(s.src) || p.Contains(s.dst) }
	if len(f.Peers) > 0 && !slices.ContainsFunc(f.Peers, peer) {
		return false
	}
	if s.src.Is6() && (len(s.exts) > 1 || slices.Contains(s.exts, 44)) {
		return true
	}
	proto := func(p capture.Proto) bool { return protoNumbers[p] == uint32(s.proto) }
	if len(f.Protos) > 0 && !slices.ContainsFunc(f.Protos, proto) {
		return false
	}
	if len(f.Ports) == 0 {
		return true
	}
	if !slices.Contains([]uint8{6, 17, 132}, s.proto) {
		return false
	}
	return s.fragment != 0 || slices.Contains(f.Ports, s.from) || slices.Contains(f.Ports, s.to)
}

var filters = rapid.Custom(func(t *rapid.T) Filter {
	return Filter{
		Ports:       rapid.SliceOfN(somePorts, 0, 3).Draw(t, "ports"),
		Peers:       rapid.SliceOfN(somePrefixes, 0, 3).Draw(t, "peers"),
		Protos:      rapid.SliceOfN(rapid.SampledFrom([]capture.Proto{capture.TCP, capture.UDP, capture.ICMP, capture.ESP, capture.ICMPv6}), 0, 3).Draw(t, "protos"),
		NotLoopback: rapid.Bool().Draw(t, "not loopback"),
	}
})

// verdict is how many bytes of a packet the program keeps.
func verdict(t rapid.TB, f Filter, link layers.LinkType, packet []byte) int {
	t.Helper()
	raw, err := f.compile(link, 1234)
	if err != nil {
		t.Fatal(err)
	}
	code, _ := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestProgramMeansWhatTheFilterSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, s := filters.Draw(t, "filter"), shapes.Draw(t, "packet")
		link := layers.LinkTypeEthernet
		if rapid.Bool().Draw(t, "raw") && s.ether == 0 {
			link = layers.LinkTypeRaw
		}
		want := 0
		if passes(f, s) {
			want = 1234
		}
		if got := verdict(t, f, link, s.bytes(link)); got != want {
			t.Fatalf("%v: keeps %d bytes of %+v, want %d", f, got, s, want)
		}
	})
}

// More alternatives than a conditional jump reaches over.
func TestLongFiltersReachTheirEnd(t *testing.T) {
	var f Filter
	for i := range 200 {
		f.Ports = append(f.Ports, uint16(1000+i))
		f.Peers = append(f.Peers, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i), 1}), 32))
	}
	s := shape{src: netip.MustParseAddr("10.9.199.1"), dst: netip.MustParseAddr("10.1.1.1"), proto: 6, from: 40000, to: 1199}
	if got := verdict(t, f, layers.LinkTypeEthernet, s.bytes(layers.LinkTypeEthernet)); got != 1234 {
		t.Errorf("keeps %d bytes", got)
	}
	s.to = 1200
	if got := verdict(t, f, layers.LinkTypeEthernet, s.bytes(layers.LinkTypeEthernet)); got != 0 {
		t.Errorf("another port: keeps %d bytes", got)
	}
}

func TestFilterIsValidated(t *testing.T) {
	var many Filter
	for i := range 1000 {
		many.Peers = append(many.Peers, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}), 32))
	}
	for name, f := range map[string]Filter{
		"unknown protocol": {Protos: []capture.Proto{"tpc"}},
		"port 0":           {Ports: []uint16{0}},
		"no prefix":        {Peers: []netip.Prefix{{}}},
		"mapped prefix":    {Peers: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.1"), 128)}},
		"too many peers":   many,
	} {
		if err := f.Validate(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := (Filter{}).Validate(); err != nil {
		t.Error(err)
	}
}

func ExampleFilter_String() {
	fmt.Println(Filter{
		Ports: []uint16{80, 443}, Peers: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		Protos: []capture.Proto{capture.TCP, capture.ESP}, NotLoopback: true,
	})
	// Output: (tcp or ip proto 50 or ip6 proto 50) and (port 80 or port 443) and (net 10.1.0.0/16) and not net 127.0.0.0/8 and not host ::1
}
