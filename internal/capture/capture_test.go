package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"pgregory.net/rapid"
)

// The two ends of every flow here.
var (
	client = netip.MustParseAddrPort("10.77.1.11:40112")
	server = netip.MustParseAddrPort("10.77.2.11:2929")
)

// from makes a segment, written as a trace is read.
func from(src, dst netip.AddrPort, flags string, seq uint32, data string) segment {
	s := segment{src: src, dst: dst, seq: seq, payload: []byte(data), at: time.Unix(1, 0)}
	for _, flag := range flags {
		switch flag {
		case 'S':
			s.syn = true
		case 'F':
			s.fin = true
		case 'R':
			s.rst = true
		}
	}
	return s
}

// acking adds an acknowledgement.
func (s segment) acking(ack uint32) segment {
	s.acks, s.ack = true, ack
	return s
}

func up(flags string, seq uint32, data string) segment { return from(client, server, flags, seq, data) }
func down(flags string, seq uint32, data string) segment {
	return from(server, client, flags, seq, data)
}

// assembled is the flows that segments make.
func assembled(segments ...segment) []*Flow {
	f := &File{}
	a := newAssembler(f)
	for i, s := range segments {
		a.add(s, i+1)
	}
	a.finish()
	return f.Flows
}

func TestStreamsAreReadBySequenceNumber(t *testing.T) {
	type want struct {
		chunks   []string // as text; a gap lies between each two
		missing  int64
		conflict bool
	}
	for _, tc := range []struct {
		name     string
		segments []segment
		want     want
	}{
		{"in order", []segment{up("S", 100, ""), up("", 101, "abc"), up("", 104, "def")}, want{chunks: []string{"abcdef"}}},
		{"out of order", []segment{up("S", 100, ""), up("", 104, "def"), up("", 101, "abc")}, want{chunks: []string{"abcdef"}}},
		{"sent again", []segment{up("S", 100, ""), up("", 101, "abc"), up("", 101, "abc"), up("", 101, "abcdef")}, want{chunks: []string{"abcdef"}}},
		{"overlapping", []segment{up("S", 100, ""), up("", 103, "cde"), up("", 101, "abcdefg")}, want{chunks: []string{"abcdefg"}}},
		{"sent again with another content", []segment{up("S", 100, ""), up("", 101, "abc"), up("", 102, "Xcd")}, want{chunks: []string{"abcd"}, conflict: true}},
		{"gap", []segment{up("S", 100, ""), up("", 101, "abc"), up("", 106, "fg")}, want{chunks: []string{"abc", "fg"}, missing: 2}},
		{"gap at the end, acknowledged", []segment{up("S", 100, ""), up("", 101, "abc"), down("", 1, "").acking(106)}, want{chunks: []string{"abc"}, missing: 2}},
		{"gap at the end, before the FIN", []segment{up("S", 100, ""), up("", 101, "abc"), up("F", 106, ""), down("", 1, "").acking(107)}, want{chunks: []string{"abc"}, missing: 2}},
		{"FIN acknowledged", []segment{up("S", 100, ""), up("F", 101, "abc"), down("", 1, "").acking(105)}, want{chunks: []string{"abc"}}},
		{"across the end of the numbers", []segment{up("S", math.MaxUint32-2, ""), up("", 1, "def"), up("", math.MaxUint32-1, "abc")}, want{chunks: []string{"abcdef"}}},
		{"data with the SYN", []segment{up("S", 100, "abc"), up("", 104, "def")}, want{chunks: []string{"abcdef"}}},
		{"keep-alive probe", []segment{up("S", 100, ""), up("", 101, "abc"), up("", 103, "\x00"), up("", 104, "def")}, want{chunks: []string{"abcdef"}}},
		{"reset with a wild acknowledgement", []segment{up("S", 100, ""), up("", 101, "abc"), down("R", 1, "").acking(9999)}, want{chunks: []string{"abc"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows := assembled(tc.segments...)
			if len(flows) != 1 {
				t.Fatalf("%d flows", len(flows))
			}
			d := flows[0].ToServer
			if got := texts(d.Chunks); !equal(got, tc.want.chunks) || d.Missing != tc.want.missing || d.Conflict != tc.want.conflict {
				t.Errorf("chunks %q, missing %d, conflict %t; want %+v", got, d.Missing, d.Conflict, tc.want)
			}
		})
	}
}

func texts(chunks []Chunk) (all []string) {
	for _, c := range chunks {
		all = append(all, string(c.Data))
	}
	return all
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestWhoOpenedTheFlow(t *testing.T) {
	for _, tc := range []struct {
		name     string
		segments []segment
		opened   bool
		start    string
	}{
		{"SYN", []segment{up("S", 1, ""), down("S", 1, "").acking(2), up("", 2, "abc")}, true, "abc"},
		{"only the answer", []segment{down("S", 1, "").acking(2), up("", 2, "abc")}, true, ""},
		{"neither: the lesser port serves", []segment{down("", 7, "x").acking(2), up("", 2, "abc")}, false, ""},
		{"a SYN that came late", []segment{up("", 5, "def"), up("S", 1, ""), up("", 2, "abc")}, true, "abc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows := assembled(tc.segments...)
			f := flows[len(flows)-1]
			if f.Client != client || f.Server != server || f.Opened != tc.opened {
				t.Errorf("%s → %s, opened %t", f.Client, f.Server, f.Opened)
			}
			if got := string(f.ToServer.Start()); got != tc.start {
				t.Errorf("starts with %q, want %q", got, tc.start)
			}
		})
	}
}

func TestAReusedPortIsAnotherFlow(t *testing.T) {
	flows := assembled(
		up("S", 100, ""), up("", 101, "first"), up("F", 106, ""),
		up("S", 9000, ""), up("S", 9000, ""), up("", 9001, "second"),
	)
	if len(flows) != 2 || string(flows[0].ToServer.Start()) != "first" || string(flows[1].ToServer.Start()) != "second" {
		t.Errorf("flows %v", flows)
	}
}

func TestASegmentBeforeTheSYNIsNotTheBeginning(t *testing.T) {
	// The server's data overtakes its SYN in the capture: taken as the stream's
	// base, it would hide what came before it.
	flows := assembled(up("S", 1, ""), down("", 205, "later"), down("S", 100, "").acking(2), down("", 101, "soon"))
	if got := flows[0].ToClient.Start(); got != nil {
		t.Errorf("begins with %q, which is not shown", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	segments := []segment{up("S", 0, "")}
	for i := range uint32(4 * maxSpans) {
		segments = append(segments, up("", 1+2*i, "x"))
	}
	segments = append(segments, up("", Window, string(make([]byte, 100_000))))
	d := assembled(segments...)[0].ToServer
	if len(d.Chunks) > maxSpans {
		t.Errorf("%d chunks are kept", len(d.Chunks))
	}
	last := d.Chunks[len(d.Chunks)-1]
	if last.Offset+len(last.Data) > Window {
		t.Errorf("%d bytes are kept", last.Offset+len(last.Data))
	}
	if d.Missing < 2*maxSpans {
		t.Errorf("only %d bytes are said to be missing", d.Missing)
	}
	if want := int64(4*maxSpans + 100_000); d.Bytes != want {
		t.Errorf("%d bytes counted, want %d", d.Bytes, want)
	}

	file := &File{}
	a := newAssembler(file)
	for i := range maxFlows + 5 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1000)
		a.add(from(src, server, "S", 1, ""), i)
	}
	if len(file.Flows) != maxFlows || file.Counts.Excess != 5 {
		t.Errorf("%d flows kept, %d segments in excess", len(file.Flows), file.Counts.Excess)
	}
}

// TestAnyOrderOfSegmentsIsTheSameStream cuts a stream anyhow, sends pieces
// twice and shuffles all of it: what is read is the stream.
func TestAnyOrderOfSegmentsIsTheSameStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.SliceOfN(rapid.Byte(), 2, 300).Draw(t, "stream")
		isn := rapid.Uint32().Draw(t, "isn")
		var pieces []segment
		for at := 0; at < len(stream); {
			n := rapid.IntRange(2, 40).Draw(t, "size")
			end := min(at+n, len(stream))
			begin := max(0, at-rapid.IntRange(0, 5).Draw(t, "overlap"))
			if end-begin == 1 { // could be taken for a keep-alive probe
				begin--
			}
			pieces = append(pieces, up("", isn+1+uint32(begin), string(stream[begin:end])))
			at = end
		}
		twice := append(pieces, pieces[rapid.IntRange(0, len(pieces)-1).Draw(t, "again")])
		shuffled := rapid.Permutation(twice).Draw(t, "order")
		d := assembled(append([]segment{up("S", isn, "")}, shuffled...)...)[0].ToServer
		if !bytes.Equal(d.Start(), stream) || d.Missing != 0 || d.Conflict {
			t.Fatalf("read %q, missing %d, conflict %t; sent %q", d.Start(), d.Missing, d.Conflict, stream)
		}
	})
}

func TestThePacketOfEachByteIsKnown(t *testing.T) {
	d := assembled(up("S", 100, ""), up("", 104, "def"), up("", 101, "abc"))[0].ToServer
	for i, want := range []int{3, 3, 3, 2, 2, 2} {
		if got := d.Chunks[0].Packet(i); got != want {
			t.Errorf("byte %d came in packet %d, want %d", i, got, want)
		}
	}
}

// packet renders headers and payload as they are on a link.
func packet(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func ip4(protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: client.Addr().AsSlice(), DstIP: server.Addr().AsSlice()}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP("fd77::1"), DstIP: net.ParseIP("fd77::2")}
}

func tcp() *layers.TCP {
	return &layers.TCP{SrcPort: 40112, DstPort: 2929, Seq: 7, SYN: true}
}

func ethernet(typ layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: typ}
}

// pcapFile is a capture of packets.
func pcapFile(t testing.TB, link layers.LinkType, packets ...[]byte) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := pcapgo.NewWriter(&buf)
	if err := w.WriteFileHeader(1<<16, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	return &buf
}

func TestPacketsOfEveryLinkAreDecoded(t *testing.T) {
	hello := gopacket.Payload("hello")
	fragment := ip4(layers.IPProtocolTCP)
	fragment.Flags = layers.IPv4MoreFragments
	sll2 := make([]byte, 20)
	binary.BigEndian.PutUint16(sll2, uint16(layers.EthernetTypeIPv4))
	binary.BigEndian.PutUint16(sll2[8:], 1)
	fragment6 := append([]byte{byte(layers.IPProtocolTCP), 0, 0, 1, 0, 0, 0, 1}, make([]byte, 40)...)

	for _, tc := range []struct {
		name   string
		link   layers.LinkType
		packet []byte
		want   kind
	}{
		{"Ethernet IPv4", layers.LinkTypeEthernet, packet(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(), hello), isTCP},
		{"Ethernet IPv6", layers.LinkTypeEthernet, packet(t, ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP), tcp(), hello), isTCP},
		{"VLAN", layers.LinkTypeEthernet, packet(t, ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeIPv4}, ip4(layers.IPProtocolTCP), tcp(), hello), isTCP},
		{"raw IPv4", layers.LinkTypeRaw, packet(t, ip4(layers.IPProtocolTCP), tcp(), hello), isTCP},
		{"raw IPv6", layers.LinkTypeRaw, packet(t, ip6(layers.IPProtocolTCP), tcp(), hello), isTCP},
		{"any interface", layers.LinkTypeLinuxSLL2, append(sll2, packet(t, ip4(layers.IPProtocolTCP), tcp(), hello)...), isTCP},
		{"UDP", layers.LinkTypeRaw, packet(t, ip4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 2929, DstPort: 53}, hello), isNotTCP},
		{"ARP", layers.LinkTypeEthernet, packet(t, ethernet(layers.EthernetTypeARP), gopacket.Payload(make([]byte, 28))), isNotIP},
		{"IPv4 fragment", layers.LinkTypeRaw, packet(t, fragment, tcp(), hello), isFragment},
		{"IPv6 fragment", layers.LinkTypeRaw, packet(t, ip6(layers.IPProtocolIPv6Fragment), gopacket.Payload(fragment6)), isFragment},
		{"cut inside the TCP header", layers.LinkTypeRaw, packet(t, ip4(layers.IPProtocolTCP), tcp(), hello)[:30], isBroken},
		{"not IP at all", layers.LinkTypeRaw, []byte{0xff, 1, 2}, isBroken},
		{"empty", layers.LinkTypeRaw, nil, isBroken},
		{"unknown link", layers.LinkTypePPP, []byte{1, 2, 3}, isBroken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seg, got := newDecoder().decode(tc.link, tc.packet, gopacket.CaptureInfo{})
			if got != tc.want {
				t.Fatalf("kind %d, want %d", got, tc.want)
			}
			if got == isTCP && (string(seg.payload) != "hello" || seg.src.Port() != 40112 || seg.dst.Port() != 2929 || !seg.syn || seg.seq != 7) {
				t.Errorf("segment %+v", seg)
			}
		})
	}
}

func TestEthernetPaddingIsNoPayload(t *testing.T) {
	frame := append(packet(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp()), make([]byte, 6)...)
	seg, _ := newDecoder().decode(layers.LinkTypeEthernet, frame, gopacket.CaptureInfo{})
	if len(seg.payload) != 0 {
		t.Errorf("payload %q", seg.payload)
	}
}

func TestBytesCutOffByTheCaptureAreMissing(t *testing.T) {
	p := packet(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello, world"))
	seg, what := newDecoder().decode(layers.LinkTypeRaw, p[:len(p)-7], gopacket.CaptureInfo{CaptureLength: len(p) - 7, Length: len(p)})
	if what != isTCP || string(seg.payload) != "hello" || seg.cut != 7 {
		t.Errorf("kind %d, payload %q, cut %d", what, seg.payload, seg.cut)
	}
	f := assembled(seg, from(client, server, "", 7+1+12, "next"))[0]
	if f.ToServer.Missing != 7 || f.ToServer.Bytes != 16 {
		t.Errorf("missing %d of %d bytes", f.ToServer.Missing, f.ToServer.Bytes)
	}
}

func TestBothFormatsAreRead(t *testing.T) {
	p := packet(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
	var ng bytes.Buffer
	w, err := pcapgo.NewNgWriter(&ng, layers.LinkTypeRaw)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(p), Length: len(p)}, p); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]io.Reader{"pcap": pcapFile(t, layers.LinkTypeRaw, p), "pcapng": &ng} {
		file, err := Read(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(file.Flows) != 1 || string(file.Flows[0].ToServer.Start()) != "hello" || file.Cut {
			t.Errorf("%s: %+v", name, file)
		}
	}
}

func TestAFileThatBreaksOffIsReadUpToThere(t *testing.T) {
	p := packet(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
	whole := pcapFile(t, layers.LinkTypeRaw, p, p).Bytes()
	file, err := Read(bytes.NewReader(whole[:len(whole)-3]))
	if err != nil {
		t.Fatal(err)
	}
	if !file.Cut || file.Counts.Packets != 1 || len(file.Flows) != 1 {
		t.Errorf("%+v", file)
	}
	if _, err := Read(bytes.NewReader([]byte("not a capture at all, but text"))); err == nil {
		t.Error("text was read as a capture")
	}
	if _, err := Open(os.DevNull); err == nil {
		t.Error("an empty file was read as a capture")
	}
}

// FuzzRead: no file makes the reader panic, and its counts add up.
func FuzzRead(f *testing.F) {
	p := packet(f, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
	f.Add(pcapFile(f, layers.LinkTypeEthernet, p, p).Bytes())
	f.Add(pcapFile(f, layers.LinkTypeRaw, packet(f, ip6(layers.IPProtocolTCP), tcp())).Bytes())
	f.Add([]byte{0x0a, 0x0d, 0x0d, 0x0a})
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Read(bytes.NewReader(content))
		if err != nil {
			return
		}
		c, segments := file.Counts, 0
		for _, flow := range file.Flows {
			segments += flow.ToServer.Packets + flow.ToClient.Packets
			for _, d := range []Direction{flow.ToServer, flow.ToClient} {
				if len(d.Start()) > Window {
					t.Errorf("%d bytes kept", len(d.Start()))
				}
			}
		}
		if sum := segments + c.NotIP + c.NotTCP + c.Fragments + c.Undecoded + c.Excess; sum != c.Packets {
			t.Errorf("%d packets, %d accounted for: %+v", c.Packets, sum, c)
		}
	})
}
