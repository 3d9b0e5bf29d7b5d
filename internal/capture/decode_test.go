package capture

import (
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// bytesOf joins bytes, numbers below 256 and texts.
func bytesOf(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		switch p := part.(type) {
		case int:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func be16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// decoded is what a frame turns out to be. Its parts stay as they are.
func decoded(link layers.LinkType, data []byte) (stage, packet) {
	var d decoder
	what := d.decode(&Frame{Data: data, Length: len(data), Link: link})
	return what, d.packet
}

// ip4Packet and ip6Packet carry anything, headers right.
func ip4Packet(t testing.TB, protocol int, payload []byte) []byte {
	t.Helper()
	return rendered(t, ip4(layers.IPProtocol(protocol)), gopacket.Payload(payload))
}

func ip6Packet(t testing.TB, protocol int, payload []byte) []byte {
	t.Helper()
	return rendered(t, ip6(layers.IPProtocol(protocol)), gopacket.Payload(payload))
}

func hello4(t testing.TB) []byte {
	t.Helper()
	return rendered(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
}

func hello6(t testing.TB) []byte {
	t.Helper()
	return rendered(t, ip6(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
}

func helloFrame(t testing.TB) []byte {
	t.Helper()
	return bytesOf(make([]byte, 12), be16(etherIPv4), hello4(t))
}

func udpPacket(t testing.TB, dst int, payload []byte) []byte {
	t.Helper()
	return ip4Packet(t, protoUDP, bytesOf(be16(40000), be16(dst), be16(8+len(payload)), 0, 0, payload))
}

// linkCase is hello, as it is on some link.
type linkCase struct {
	name string
	link layers.LinkType
	data []byte
}

func everyLink(t testing.TB) []linkCase {
	t.Helper()
	v4, v6, frame := hello4(t), hello6(t), helloFrame(t)
	vlan := func(typ int, rest ...any) []byte { return bytesOf(be16(typ), 0, 7, bytesOf(rest...)) }
	type8 := be16(etherIPv4)
	snap := bytesOf(0xaa, 0xaa, 3, 0, 0, 0, type8, v4)
	macs := make([]byte, 12)
	return []linkCase{
		{"Ethernet IPv4", 1, frame},
		{"Ethernet IPv6", 1, bytesOf(macs, be16(etherIPv6), v6)},
		{"VLAN", 1, bytesOf(macs, vlan(etherVLAN, type8, v4))},
		{"VLAN 0", 1, bytesOf(macs, be16(etherVLAN), 0, 0, type8, v4)},
		{"QinQ", 1, bytesOf(macs, vlan(etherQinQ, vlan(etherVLAN, type8, v4)))},
		{"QinQ of old", 1, bytesOf(macs, vlan(etherOldQinQ, vlan(etherVLAN, type8, v4)))},
		{"SNAP", 1, bytesOf(macs, be16(len(snap)), snap)},
		{"MPLS", 1, bytesOf(macs, be16(etherMPLS), 0, 1, 0, 64, 0, 2, 1, 64, v6)},
		{"MPLS with a control word", 1, bytesOf(macs, be16(etherMPLS), 0, 2, 1, 64, 0, 0, 0, 0, 0, 0x50, 0x56, 1, 1, 1, 0, 0x50, 0x56, 1, 1, 2, frame[12:])},
		{"MPLS without one", 1, bytesOf(macs, be16(etherMPLS), 0, 2, 1, 64, 0, 0x50, 0x56, 1, 1, 1, 0, 0x50, 0x56, 1, 1, 2, frame[12:])},
		{"PPPoE", 1, bytesOf(macs, be16(etherPPPoE), 0x11, 0, 0, 1, be16(2+len(v4)), 0, 0x21, v4)},
		{"MACsec without encryption", 1, bytesOf(macs, be16(etherMACsec), 0x20, 0, 0, 0, 0, 1, make([]byte, 8), type8, v4, make([]byte, 16))},
		{"padding", 1, bytesOf(frame, make([]byte, 6))},
		{"cooked", 113, bytesOf(0, 0, 0, 1, 0, 6, make([]byte, 8), type8, v4)},
		{"cooked, VLAN", 113, bytesOf(0, 0, 0, 1, 0, 6, make([]byte, 8), vlan(etherVLAN, type8, v4))},
		{"cooked 2", 276, bytesOf(be16(etherIPv6), 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, make([]byte, 8), v6)},
		{"raw", 101, v4}, {"raw 6", 101, v6}, {"raw 12", 12, v4}, {"raw 14", 14, v6}, {"IPv4", 228, v4}, {"IPv6", 229, v6},
		{"null", 0, bytesOf(2, 0, 0, 0, v4)}, {"null of a big machine", 0, bytesOf(0, 0, 0, 2, v4)},
		{"null 6", 0, bytesOf(30, 0, 0, 0, v6)}, {"loop", 108, bytesOf(0, 0, 0, 24, v6)},
		{"PPP", 9, bytesOf(0xff, 3, 0, 0x21, v4)}, {"PPP compressed", 9, bytesOf(0x21, v4)},
		{"PPP HDLC", 50, bytesOf(0xff, 3, 0, 0x57, v6)}, {"PPP with a direction", 204, bytesOf(1, 0xff, 3, 0, 0x21, v4)},
		{"PPPoE alone", 51, bytesOf(0x11, 0, 0, 1, be16(2+len(v4)), 0, 0x21, v4)},
		{"NFLOG", 239, bytesOf(2, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 0, 5, 0, 10, 0, int('x'), 0, 0, 0, 4+len(v4), 0, 9, 0, v4)},
		{"802.11", 105, bytesOf(0x08, 1, make([]byte, 22), 0xaa, 0xaa, 3, 0, 0, 0, type8, v4)},
		{"802.11 QoS, four addresses", 105, bytesOf(0x88, 3, make([]byte, 22+6+2), 0xaa, 0xaa, 3, 0, 0, 0, type8, v4)},
		{"radiotap", 127, bytesOf(0, 0, 10, 0, make([]byte, 6), 0x08, 2, make([]byte, 22), 0xaa, 0xaa, 3, 0, 0, 0, type8, v4, "FCS!")},
		{"InfiniBand", 242, bytesOf(make([]byte, 40), type8, 0, 0, v4)},
	}
}

func TestEveryLinkLeadsToThePacket(t *testing.T) {
	for _, tc := range everyLink(t) {
		t.Run(tc.name, func(t *testing.T) {
			what, p := decoded(tc.link, tc.data)
			if what != isFlow || string(p.payload) != "hello" || p.cut != 0 {
				t.Fatalf("stage %d, payload %q, cut %d", what, p.payload, p.cut)
			}
			if p.src.port != 40112 || p.dst.port != 2929 || !p.has(flagSYN) || p.seq != 7 || p.path.n != 0 {
				t.Errorf("packet %+v", p)
			}
		})
	}
}

// tshark, which shares no code with us, reads the same in them.
func TestTsharkFollowsTheSamePackets(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("not compared with tshark: it is not installed")
	}
	le := binary.LittleEndian
	file := sectionOf(le)
	var names []string
	add := func(name string, link layers.LinkType, data []byte) {
		file = append(file, interfaceOf(le, int(link), 0)...)
		file = append(file, packetOf(le, uint32(len(names)), 1, data)...)
		names = append(names, name)
	}
	for _, tc := range everyLink(t) {
		add(tc.name, tc.link, tc.data)
	}
	for _, tc := range everyOverlay(t) {
		add(tc.name, layers.LinkTypeRaw, tc.data)
	}
	path := filepath.Join(t.TempDir(), "every.pcapng")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), tshark, "-r", path, "-d", "udp.port==8472,vxlan", "-T", "fields", "-e", "tcp.dstport", "-e", "tcp.len").Output()
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		if line != "2929\t5" {
			t.Errorf("%s: tshark reads %q", names[i], line)
		}
	}
}

func TestWhatIsNoFlow(t *testing.T) {
	macs := make([]byte, 12)
	ether := func(typ int, rest ...any) []byte { return bytesOf(macs, be16(typ), bytesOf(rest...)) }
	for _, tc := range []struct {
		name string
		link layers.LinkType
		data []byte
		want stage
		why  string
	}{
		{"ARP", 1, ether(etherARP, make([]byte, 28)), isNotIP, ""},
		{"LLDP", 1, ether(0x88cc, 2, 7), isNotIP, ""},
		{"spanning tree", 1, ether(39, 0x42, 0x42, 3, make([]byte, 43)), isNotIP, ""},
		{"802.11 beacon", 105, make([]byte, 60), isNotIP, ""},
		{"PPP link control", 9, bytesOf(0xff, 3, 0xc0, 0x21, 1, 1), isNotIP, ""},
		{"netlink, cooked", 113, bytesOf(0, 4, be16(arphrdNetlink), make([]byte, 12), 1, 2), isNotIP, ""},
		{"ICMP unreachable", 101, ip4Packet(t, protoICMP, bytesOf(3, 1, make([]byte, 6), hello4(t))), isControl, ""},
		{"neighbour discovery", 101, ip6Packet(t, protoICMPv6, bytesOf(135, 0, make([]byte, 22))), isControl, ""},
		{"multicast listener, behind options", 101, ip6Packet(t, protoHopByHop, bytesOf(protoICMPv6, 0, 5, 2, 0, 0, 1, 0, 143, make([]byte, 27))), isControl, ""},
		{"IGMP", 101, ip4Packet(t, protoIGMP, make([]byte, 8)), isControl, ""},
		{"OSPF", 101, ip4Packet(t, protoOSPF, make([]byte, 44)), isControl, ""},
		{"VRRP", 101, ip6Packet(t, protoVRRP, make([]byte, 12)), isControl, ""},
		{"another EtherType", 1, ether(0x8915, make([]byte, 60)), isUndecoded, "EtherType 0x8915"},
		{"another link", 147, []byte{1, 2, 3}, isUndecoded, "link type 147"},
		{"NetBIOS in 802.3", 1, ether(20, 0xf0, 0xf0, 3, make([]byte, 17)), isUndecoded, "LLC 0xf0f0"},
		{"encrypted by the radio", 105, bytesOf(0x08, 0x41, make([]byte, 60)), isUndecoded, "encrypted by 802.11"},
		{"cut inside the TCP header", 101, hello4(t)[:30], isUndecoded, "malformed or cut off in a header"},
		{"cut inside Ethernet", 1, macs, isUndecoded, "malformed or cut off in a header"},
		{"not IP at all", 101, []byte{0xff, 1, 2}, isUndecoded, "malformed or cut off in a header"},
		{"empty", 101, nil, isUndecoded, "malformed or cut off in a header"},
		{"IPv4 fragment", 101, fragmentOf(t, 1, 0, true, "12345678"), isFragment, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d decoder
			if got := d.decode(&Frame{Data: tc.data, Length: len(tc.data), Link: tc.link}); got != tc.want {
				t.Fatalf("stage %d, want %d", got, tc.want)
			}
			if tc.want == isUndecoded && d.why.String() != tc.why {
				t.Errorf("because of %q, want %q", d.why, tc.why)
			}
		})
	}
}

func TestProtocolsOnTopOfIP(t *testing.T) {
	for _, tc := range []struct {
		name    string
		data    []byte
		proto   Proto
		ports   [2]uint16
		payload string
	}{
		{"UDP", udpPacket(t, 53, []byte("hello")), UDP, [2]uint16{40000, 53}, "hello"},
		{"UDP without a length", ip4Packet(t, protoUDP, bytesOf(0, 1, 0, 2, 0, 0, 0, 0, "hello")), UDP, [2]uint16{1, 2}, "hello"},
		{"UDP Lite", ip4Packet(t, protoUDPLite, bytesOf(0, 1, 0, 2, 0, 8, 0, 0, "hello")), "ip-136", [2]uint16{1, 2}, "hello"},
		{"SCTP", ip4Packet(t, protoSCTP, bytesOf(0, 1, 0, 2, make([]byte, 8), "hello")), SCTP, [2]uint16{1, 2}, "hello"},
		{"echo", ip4Packet(t, protoICMP, bytesOf(8, 0, 0, 0, 0, 1, 0, 1, "hello")), ICMP, [2]uint16{}, "hello"},
		{"echo 6", ip6Packet(t, protoICMPv6, bytesOf(128, 0, 0, 0, 0, 1, 0, 1, "hello")), ICMPv6, [2]uint16{}, "hello"},
		{"ESP", ip4Packet(t, protoESP, []byte("12345678")), ESP, [2]uint16{}, "12345678"},
		{"AH", ip4Packet(t, protoAH, bytesOf(protoUDP, 4, 0, 0, make([]byte, 20), 0, 1, 0, 2, 0, 13, 0, 0, "hello")), UDP, [2]uint16{1, 2}, "hello"},
		{"behind extension headers", ip6Packet(t, protoHopByHop, bytesOf(protoDestination, 0, make([]byte, 6), protoFragment, 1, make([]byte, 14),
			protoUDP, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 2, 0, 13, 0, 0, "hello")), UDP, [2]uint16{1, 2}, "hello"},
		{"L2TP", ip4Packet(t, 115, []byte("hello")), "ip-115", [2]uint16{}, "hello"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			what, p := decoded(layers.LinkTypeRaw, tc.data)
			if what != isFlow || protos[p.proto] != tc.proto || string(p.payload) != tc.payload || [2]uint16{p.src.port, p.dst.port} != tc.ports {
				t.Errorf("stage %d, %s, ports %d and %d, payload %q", what, protos[p.proto], p.src.port, p.dst.port, p.payload)
			}
		})
	}
	what, p := decoded(layers.LinkTypeEthernet, bytesOf(1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, be16(etherMACsec), 0x2c, 0, "sealed, from the tag on"))
	if what != isFlow || p.proto != codeMACsec || p.src.addr[0] != 2 || p.dst.addr[0] != 1 || p.payload[0] != 0x2c {
		t.Errorf("MACsec: stage %d, %+v", what, p)
	}
}

func TestLengthsAreBelievedOrNot(t *testing.T) {
	whole := rendered(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello, world"))
	segmented := slices.Clone(whole)
	segmented[2], segmented[3] = 0, 0 // the network card will segment it
	long := slices.Clone(whole)
	long[3] += 100
	for _, tc := range []struct {
		name    string
		data    []byte
		length  int
		payload string
		cut     int64
	}{
		{"whole", whole, len(whole), "hello, world", 0},
		{"without a length", segmented, len(whole), "hello, world", 0},
		{"cut off", whole[:len(whole)-7], len(whole), "hello", 7},
		{"cut off inside TCP's options", whole[:40], len(whole), "", 12},
		{"longer than the frame", long, len(whole), "hello, world", 100},
		{"padded", append(slices.Clone(whole), 0, 0, 0), len(whole) + 3, "hello, world", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var d decoder
			what := d.decode(&Frame{Data: tc.data, Length: tc.length, Link: layers.LinkTypeRaw})
			if p := d.packet; what != isFlow || string(p.payload) != tc.payload || p.cut != tc.cut {
				t.Errorf("stage %d, payload %q, cut %d", what, p.payload, p.cut)
			}
		})
	}
}

func TestBytesCutOffByTheCaptureAreMissing(t *testing.T) {
	first := from(client, server, "S", 7, "hello")
	first.cut = 7
	for name, packets := range map[string][]packet{
		"then more":    {first, from(client, server, "", 7+1+12, "next")},
		"then nothing": {first},
	} {
		if d := assembled(packets...)[0].ToServer; d.Missing != 7 || d.Bytes < 12 {
			t.Errorf("%s: missing %d of %d bytes", name, d.Missing, d.Bytes)
		}
	}
}

// ends of every packet here, by their names.
func ip4(protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: client.Addr().AsSlice(), DstIP: server.Addr().AsSlice()}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP("fd77::1"), DstIP: net.ParseIP("fd77::2")}
}

func tcp() *layers.TCP {
	return &layers.TCP{SrcPort: 40112, DstPort: 2929, Seq: 7, SYN: true}
}
