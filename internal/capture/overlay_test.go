package capture

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// vxlan is a frame in VXLAN, as the payload of UDP.
func vxlan(number int, frame []byte) []byte {
	return bytesOf(8, 0, 0, 0, number>>16, number>>8, number, 0, frame)
}

// overlayCase is hello in overlays, and what they are called.
type overlayCase struct {
	name, want string
	data       []byte
}

func everyOverlay(t testing.TB) []overlayCase {
	t.Helper()
	v4, v6, frame := hello4(t), hello6(t), helloFrame(t)
	gre := func(flags, typ int, rest ...any) []byte {
		return ip4Packet(t, protoGRE, bytesOf(be16(flags), be16(typ), bytesOf(rest...)))
	}
	return []overlayCase{
		{"VXLAN", "vxlan 42", udpPacket(t, portVXLAN, vxlan(42, frame))},
		{"VXLAN on Linux's port", "vxlan 0", udpPacket(t, portVXLANLinux, vxlan(0, frame))},
		{"VXLAN with a group policy", "vxlan 42", udpPacket(t, portVXLAN, bytesOf(0x88, 0, 1, 2, 0, 0, 42, 0, frame))},
		{"Geneve", "geneve 7", udpPacket(t, portGeneve, bytesOf(1, 0, be16(etherBridging), 0, 0, 7, 0, 0, 0, 0, 0, frame))},
		{"Geneve with IP", "geneve 7", udpPacket(t, portGeneve, bytesOf(0, 0, be16(etherIPv6), 0, 0, 7, 0, v6))},
		{"GRE", "gre", gre(0, etherIPv4, v4)},
		{"GRE with all options", "gre", gre(0xb000, etherIPv6, make([]byte, 12), v6)},
		{"GRE bridging", "gre 9", gre(0x2000, etherBridging, 0, 0, 0, 9, frame)},
		{"PPTP", "gre", gre(0x3081, etherPPP, be16(1+len(v4)), make([]byte, 10), 0x21, v4)},
		{"ERSPAN I", "erspan", gre(0, 0x88be, frame)},
		{"ERSPAN II", "erspan 5", gre(0x1000, 0x88be, 0, 0, 0, 1, 0x10, 0, 0, 5, 0, 0, 0, 0, frame)},
		{"ERSPAN III", "erspan 5", gre(0x1000, 0x22eb, 0, 0, 0, 1, 0x20, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, make([]byte, 8), frame)},
		{"IP in IP", "ipip", ip4Packet(t, protoIPv4, v4)},
		{"6in4", "6in4", ip4Packet(t, protoIPv6, v6)},
		{"4in6", "4in6", ip6Packet(t, protoIPv4, v4)},
		{"IPv6 in IPv6", "ip6ip6", ip6Packet(t, protoIPv6, v6)},
		{"Ethernet in IP", "etherip", ip4Packet(t, protoEtherIP, bytesOf(0x30, 0, frame))},
		{"MPLS in IP", "mpls", ip4Packet(t, protoMPLS, bytesOf(0, 0, 1, 64, v4))},
		{"one in another", "vxlan 42, gre, ipip", udpPacket(t, portVXLAN, vxlan(42, bytesOf(make([]byte, 12), be16(etherIPv4), gre(0, etherIPv4, ip4Packet(t, protoIPv4, v4)))))},
	}
}

func TestOverlaysAreTakenOff(t *testing.T) {
	for _, tc := range everyOverlay(t) {
		t.Run(tc.name, func(t *testing.T) {
			what, p := decoded(layers.LinkTypeRaw, tc.data)
			if what != isFlow || p.proto != protoTCP || string(p.payload) != "hello" || p.path.String() != tc.want {
				t.Errorf("stage %d, %s, payload %q, in %q", what, protos[p.proto], p.payload, p.path)
			}
		})
	}
}

// What only looks like an overlay by its port or protocol is what it is without.
func TestAnOverlayMustHold(t *testing.T) {
	frame := helloFrame(t)
	deep := hello4(t)
	for range maxNesting + 1 {
		deep = ip4Packet(t, protoIPv4, deep)
	}
	other := bytesOf(make([]byte, 12), be16(0x8915), "text that is no packet")
	long := slices.Clone(frame)
	long[14+3] += 50 // an IP packet longer than what carries it
	for _, tc := range []struct {
		name  string
		data  []byte
		proto Proto
		path  int
	}{
		{"text on VXLAN's port", udpPacket(t, portVXLAN, []byte("GET / HTTP/1.1\r\nHost: here\r\n\r\n")), UDP, 0},
		{"a flag too many", udpPacket(t, portVXLAN, bytesOf(0x0c, 0, 0, 0, 0, 0, 42, 0, frame)), UDP, 0},
		{"reserved bits", udpPacket(t, portVXLAN, bytesOf(8, 0, 0, 0, 0, 0, 42, 1, frame)), UDP, 0},
		{"no packet inside", udpPacket(t, portVXLAN, vxlan(42, other)), UDP, 0},
		{"a packet that is too long", udpPacket(t, portVXLAN, vxlan(42, long)), UDP, 0},
		{"short", udpPacket(t, portVXLAN, []byte{8, 0, 0}), UDP, 0},
		{"on another port", udpPacket(t, 4790, vxlan(42, frame)), UDP, 0},
		{"Geneve of the future", udpPacket(t, portGeneve, bytesOf(0x40, 0, be16(etherIPv4), 0, 0, 7, 0, hello4(t))), UDP, 0},
		{"text on Geneve's port", udpPacket(t, portGeneve, []byte("GET / HTTP/1.1\r\n")), UDP, 0},
		{"GRE with another protocol", ip4Packet(t, protoGRE, bytesOf(0, 0, 0x20, 1, "text")), "ip-47", 0},
		{"GRE with routing", ip4Packet(t, protoGRE, bytesOf(0x40, 0, be16(etherIPv4), 0, 0, 0, 0, hello4(t))), "ip-47", 0},
		{"IP in IP that is not", ip4Packet(t, protoIPv4, []byte("text that is no packet")), "ip-4", 0},
		{"too deep", deep, "ip-4", maxNesting},
	} {
		t.Run(tc.name, func(t *testing.T) {
			what, p := decoded(layers.LinkTypeRaw, tc.data)
			if what != isFlow || protos[p.proto] != tc.proto || len(p.payload) == 0 || p.path.n != tc.path {
				t.Errorf("stage %d, %s, payload %q, in %q", what, protos[p.proto], p.payload, p.path)
			}
		})
	}
	var d decoder
	cut := udpPacket(t, portVXLAN, vxlan(42, frame))
	if got := d.decode(&Frame{Data: cut[:80], Length: len(cut), Link: layers.LinkTypeRaw}); got != isUndecoded {
		t.Errorf("cut off inside: stage %d", got)
	}
}

// read adds packets, which begin with their IP header, to a table of their own.
func read(packets ...[]byte) ([]*Flow, Counts) {
	file := &File{}
	t := NewTable(Limits{}, func(f *Flow) { file.Flows = append(file.Flows, f) })
	t.keep = true
	for i, p := range packets {
		t.Add(&Frame{Data: p, Length: len(p), Link: layers.LinkTypeRaw, Time: time.Unix(int64(i), 0)})
	}
	counts := t.Close()
	file.sort()
	return file.Flows, counts
}

// A Cilium node puts the sender's identity where VXLAN has its network.
func TestTheTwoDirectionsOfAFlowMayBeNumberedDifferently(t *testing.T) {
	in := func(number int, data []byte) []byte {
		return udpPacket(t, portVXLAN, vxlan(number, bytesOf(make([]byte, 12), be16(etherIPv4), data)))
	}
	question := udpPacket(t, 53, []byte("question"))
	answer := ip4Packet(t, protoUDP, bytesOf(be16(53), be16(40000), be16(14), 0, 0, "answer"))
	copy(answer[12:], question[16:20])
	copy(answer[16:], question[12:16])
	flows, _ := read(in(1, question), in(2, answer), in(1, question), in(2, answer))
	if len(flows) != 1 || flows[0].Overlay != "vxlan 1" || flows[0].ToServer.Packets != 2 || flows[0].ToClient.Packets != 2 {
		t.Errorf("%d flows, the first %+v", len(flows), flows[0])
	}
	flows, _ = read(in(1, question), in(1, answer), in(2, question), in(2, answer))
	if len(flows) != 2 || flows[0].ToClient.Packets != 1 || flows[1].ToClient.Packets != 1 {
		t.Errorf("two networks with the same addresses: %d flows", len(flows))
	}
}

// TestWrappingChangesNoFlow: whatever a connection is carried in, its flow holds
// the same.
func TestWrappingChangesNoFlow(t *testing.T) {
	wraps := map[string]func([]byte) []byte{
		"vxlan": func(b []byte) []byte {
			return udpPacket(t, portVXLAN, vxlan(1, bytesOf(make([]byte, 12), be16(etherIPv4), b)))
		},
		"vlan in geneve": func(b []byte) []byte {
			return udpPacket(t, portGeneve, bytesOf(0, 0, be16(etherBridging), 0, 0, 7, 0, make([]byte, 12), be16(etherVLAN), 0, 0, be16(etherIPv4), b))
		},
		"gre":  func(b []byte) []byte { return ip4Packet(t, protoGRE, bytesOf(0, 0, be16(etherIPv4), b)) },
		"ipip": func(b []byte) []byte { return ip4Packet(t, protoIPv4, b) },
		"ah":   func(b []byte) []byte { return ip4Packet(t, protoAH, bytesOf(protoIPv4, 1, make([]byte, 10), b)) },
	}
	rapid.Check(t, func(r *rapid.T) {
		var plain, wrapped [][]byte
		name := rapid.SampledFrom([]string{"vxlan", "vlan in geneve", "gre", "ipip", "ah"}).Draw(r, "wrap")
		seq := rapid.Uint32().Draw(r, "seq")
		for range rapid.IntRange(1, 8).Draw(r, "segments") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(r, "data")
			segment := ip4Packet(t, protoTCP, bytesOf(0, 9, 0, 8, be.AppendUint32(nil, seq), 0, 0, 0, 0, 0x50, 0, make([]byte, 6), data))
			seq += uint32(rapid.IntRange(0, 250).Draw(r, "step"))
			plain, wrapped = append(plain, segment), append(wrapped, wraps[name](segment))
		}
		a, _ := read(plain...)
		b, _ := read(wrapped...)
		if len(a) != 1 || len(b) != 1 {
			r.Fatalf("%d flows plain, %d wrapped", len(a), len(b))
		}
		x, y := a[0].ToServer, b[0].ToServer
		if x.Bytes != y.Bytes || x.Missing != y.Missing || x.Conflict != y.Conflict || !equal(texts(x.Chunks), texts(y.Chunks)) {
			r.Errorf("plain %+v, wrapped %+v", x, y)
		}
		if a[0].Client != b[0].Client || b[0].Overlay == "" {
			r.Errorf("client %s, wrapped %s in %q", a[0].Client, b[0].Client, b[0].Overlay)
		}
	})
}

// fragmentOf is one piece of an IPv4 packet of UDP.
func fragmentOf(t testing.TB, id, offset int, more bool, data string) []byte {
	t.Helper()
	header := ip4(protoUDP)
	header.Id, header.FragOffset = uint16(id), uint16(offset/8)
	if more {
		header.Flags = layers.IPv4MoreFragments
	}
	return rendered(t, header, gopacketPayload(data))
}

func TestFragmentsArePutTogether(t *testing.T) {
	whole := string(bytesOf(0, 1, 0, 2, 0, 32, 0, 0, "a datagram in 3 pieces!!"))
	piece := func(offset, until int) []byte {
		return fragmentOf(t, 1, offset, until < len(whole), whole[offset:until])
	}
	six := func(offset, until int) []byte {
		flags := offset
		if until < len(whole) {
			flags++
		}
		return ip6Packet(t, protoFragment, bytesOf(protoUDP, 0, be16(flags), 0, 0, 0, 1, whole[offset:until]))
	}
	const text = "a datagram in 3 pieces!!"
	for _, tc := range []struct {
		name   string
		pieces [][]byte
		want   string // payload, or nothing
		lost   int
	}{
		{"in order", [][]byte{piece(0, 8), piece(8, 24), piece(24, 32)}, text, 0},
		{"out of order", [][]byte{piece(24, 32), piece(0, 8), piece(8, 24)}, text, 0},
		{"sent again", [][]byte{piece(0, 8), piece(0, 8), piece(8, 24), piece(24, 32)}, text, 0},
		{"overlapping, the same", [][]byte{piece(0, 16), piece(8, 24), piece(24, 32)}, text, 0},
		{"overlapping, another", [][]byte{piece(0, 16), fragmentOf(t, 1, 8, true, "other content"+"..."), piece(8, 24), piece(24, 32)}, "", 4},
		{"one missing", [][]byte{piece(0, 8), piece(24, 32)}, "", 2},
		{"two ends", [][]byte{piece(24, 32), fragmentOf(t, 1, 8, false, "12345678"), piece(0, 24)}, "", 3},
		{"beyond the end", [][]byte{piece(24, 32), fragmentOf(t, 1, 32, true, "12345678"), piece(0, 24)}, "", 3},
		{"of odd length", [][]byte{fragmentOf(t, 1, 0, true, whole[:7]), piece(8, 24), piece(24, 32)}, "", 3},
		{"too long", [][]byte{fragmentOf(t, 1, 65528, false, "12345678"), piece(0, 32)[:0]}, "", 1},
		{"IPv6", [][]byte{six(0, 8), six(24, 32), six(8, 24)}, text, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pieces := slices.DeleteFunc(tc.pieces, func(b []byte) bool { return len(b) == 0 })
			flows, counts := read(pieces...)
			if counts.Fragments != tc.lost || tc.want == "" && len(flows) > 0 {
				t.Fatalf("%d fragments lost, %d flows: %+v", counts.Fragments, len(flows), counts)
			}
			if tc.want == "" {
				return
			}
			if len(flows) != 1 || counts.Reassembled != len(pieces)-1 || !equal(texts(flows[0].ToServer.Chunks), []string{tc.want}) {
				t.Errorf("%d flows, %+v", len(flows), counts)
			}
		})
	}
}

func TestFragmentsAreBounded(t *testing.T) {
	var d decoder
	long := strings.Repeat("12345678", 1000)
	for i := range 4 * maxFragmented {
		data := fragmentOf(t, i, 8*i, true, long)
		d.decode(&Frame{Data: data, Length: len(data), Link: layers.LinkTypeRaw, Time: time.Unix(1, 0)})
	}
	fs := &d.fragments
	if len(fs.waiting) > maxFragmented+1 || fs.bytes > maxFragmentBytes+maxPacket || len(fs.order) != len(fs.waiting) {
		t.Errorf("%d packets, %d bytes", len(fs.waiting), fs.bytes)
	}
	late := fragmentOf(t, 1, 0, true, "12345678")
	d.decode(&Frame{Data: late, Length: len(late), Link: layers.LinkTypeRaw, Time: time.Unix(100, 0)})
	if len(fs.waiting) != 1 {
		t.Errorf("%d packets are kept for ever", len(fs.waiting)-1)
	}
	fs.close()
	if want := 4*maxFragmented + 1; fs.lost != want || fs.bytes != 0 {
		t.Errorf("%d lost of %d, %d bytes held", fs.lost, want, fs.bytes)
	}
}

func TestADatagramsWindow(t *testing.T) {
	for _, tc := range []struct {
		name        string
		sizes       []int
		chunks, all int // kept
	}{
		{"small ones", []int{100, 200, 300}, 3, 600},
		{"until the window is full", append(slices.Repeat([]int{0}, 5), slices.Repeat([]int{1000}, 20)...), 17, Window},
		{"a large one", []int{60000}, 1, Window},
		{"first ones in any case", slices.Repeat([]int{9000}, 20), 16, Window + 14*datagramBytes},
		{"very many", slices.Repeat([]int{1}, 5000), maxDatagrams, maxDatagrams},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var packets []packet
			sent := 0
			for _, n := range tc.sizes {
				packets = append(packets, packet{proto: protoUDP, src: endOf(client), dst: endOf(server), payload: bytes.Repeat([]byte{byte(n)}, n)})
				sent += n
			}
			d := assembled(packets...)[0].ToServer
			kept := 0
			for _, c := range d.Chunks {
				kept += len(c.Data)
			}
			if len(d.Chunks) != tc.chunks || kept != tc.all || d.Packets != len(tc.sizes) || d.Bytes != int64(sent) || d.Missing != 0 {
				t.Errorf("%d chunks of %d bytes; %d packets, %d bytes", len(d.Chunks), kept, d.Packets, d.Bytes)
			}
		})
	}
}
