package pcapng

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// shop is a head with a workload of two addresses and a node.
var shop = Head{
	Application: "sealmesh test", OS: "Linux", Hardware: "x86_64", Comment: "two interfaces",
	Interfaces: []Interface{
		{Name: "shop/web/eth0", Description: "workload shop/web", Link: layers.LinkTypeEthernet, SnapLen: 262144, Filter: "port 80"},
		{Name: "n1/tun0", Description: "node n1", Link: layers.LinkTypeRaw},
	},
	Names: []Name{
		{Addr: netip.MustParseAddr("10.1.0.2"), Names: []string{"web.shop", "shop.example"}},
		{Addr: netip.MustParseAddr("fd77::2"), Names: []string{"web.shop"}},
		{Addr: netip.MustParseAddr("10.1.0.3"), Names: []string{"cart.shop"}},
	},
}

var began = time.Date(2026, 11, 21, 9, 0, 0, 123456789, time.UTC)

// datagram is a UDP datagram from 10.1.0.2 to 10.1.0.3 in an Ethernet frame.
func datagram(t testing.TB, payload string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{10, 1, 0, 2}, DstIP: []byte{10, 1, 0, 3}}
	udp := &layers.UDP{SrcPort: 4000, DstPort: 4001}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// need returns the output of a program of Wireshark, and skips where it is absent.
func need(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("not run: %v (apt-get install tshark)", err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

// What Wireshark reads is what counts.
func TestWiresharkReadsNamesCommentsAndCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.pcapng")
	statistics := func() []Statistics {
		return []Statistics{{Interface: 0, Start: began, End: began.Add(time.Minute), Received: 12, Dropped: 5}}
	}
	f, err := Create(path, shop, Ring{}, statistics)
	if err != nil {
		t.Fatal(err)
	}
	data := datagram(t, "hello")
	random := strings.Repeat("ab", 32)
	for _, err := range []error{
		f.Secrets([]byte("CLIENT_TRAFFIC_SECRET_0 " + random + " " + random + "\n")),
		f.Packet(&Packet{Time: began, Direction: Outbound, Data: data, Length: len(data), Comment: "sealmesh: plaintext text: hello"}),
		f.Packet(&Packet{Interface: 1, Time: began.Add(time.Nanosecond), Data: data[14:], Length: len(data)}),
		f.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := need(t, "tshark", "-r", path, "-N", "n", "-T", "fields", "-E", "separator=|",
		"-e", "frame.time_epoch", "-e", "frame.interface_name", "-e", "frame.interface_description", "-e", "frame.packet_flags_direction",
		"-e", "ip.src_host", "-e", "ip.dst_host", "-e", "frame.comment")
	want := "1795251600.123456789|shop/web/eth0|workload shop/web|0x00000002|web.shop|cart.shop|sealmesh: plaintext text: hello\n" +
		"1795251600.123456790|n1/tun0|node n1||web.shop|cart.shop|\n"
	if got != want {
		t.Errorf("tshark reads\n%swant\n%s", got, want)
	}
	info := need(t, "capinfos", "-M", path)
	for _, want := range []string{
		"Capture application: sealmesh test", "Capture oper-sys:    Linux", "Capture hardware:    x86_64", "Capture comment:     two interfaces",
		"Number of interfaces in file: 2", "Name = shop/web/eth0", "Description = workload shop/web", "Filter string = port 80",
		"Time precision = nanoseconds (9)", "Number of resolved IPv4 addresses in file: 3", "Number of resolved IPv6 addresses in file: 1",
		"Number of decryption secrets in file: 1",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, info)
		}
	}
}

// Whatever is written is read back, by a reader that is not ours.
func TestEveryPacketComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packets := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Packet {
			data := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "data")
			return Packet{
				Interface: rapid.IntRange(0, 1).Draw(t, "interface"),
				Time:      time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "time")),
				Direction: Direction(rapid.IntRange(0, 2).Draw(t, "direction")),
				Data:      data, Length: len(data) + rapid.IntRange(0, 70000).Draw(t, "more"),
				Comment: rapid.StringN(0, 40, 100).Draw(t, "comment"),
			}
		}), 0, 20).Draw(t, "packets")
		var buf bytes.Buffer
		w, err := NewWriter(&buf, shop)
		if err != nil {
			t.Fatal(err)
		}
		for i := range packets {
			if err := w.Packet(&packets[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if w.Size() != int64(buf.Len()) {
			t.Fatalf("size %d, wrote %d", w.Size(), buf.Len())
		}
		readBack(t, &buf, packets)
	})
}

func readBack(t *rapid.T, r io.Reader, packets []Packet) {
	reader, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range packets {
		data, info, options, err := reader.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if !bytes.Equal(data, want.Data) || info.Length != want.Length || info.InterfaceIndex != want.Interface || !info.Timestamp.Equal(want.Time) {
			t.Fatalf("packet %d: read %v %x, wrote %v", i, info, data, want)
		}
		if comments := strings.Join(options.Comments, ""); comments != want.Comment {
			t.Fatalf("packet %d: comment %q, wrote %q", i, comments, want.Comment)
		}
	}
	if _, _, err := reader.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last packet: %v", err)
	}
}

func TestBadInputIsRefusedAndLeavesTheFileWhole(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, shop)
	if err != nil {
		t.Fatal(err)
	}
	before := buf.Len()
	for name, p := range map[string]Packet{
		"unknown interface":       {Interface: 2},
		"negative interface":      {Interface: -1},
		"longer than on the wire": {Data: []byte("abc"), Length: 2},
		"endless comment":         {Comment: strings.Repeat("x", 70000)},
	} {
		if err := w.Packet(&p); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := w.Statistics(Statistics{Interface: 9}); err == nil {
		t.Error("statistics of an unknown interface: taken")
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if buf.Len() != before {
		t.Errorf("refused blocks left %d bytes", buf.Len()-before)
	}
	for name, head := range map[string]Head{
		"no address":        {Names: []Name{{Names: []string{"web"}}}},
		"no name":           {Names: []Name{{Addr: netip.MustParseAddr("::1")}}},
		"NUL in a name":     {Names: []Name{{Addr: netip.MustParseAddr("::1"), Names: []string{"a\x00b"}}}},
		"negative snaplen":  {Interfaces: []Interface{{SnapLen: -1}}},
		"endless interface": {Interfaces: []Interface{{Name: strings.Repeat("x", 70000)}}},
	} {
		if _, err := NewWriter(io.Discard, head); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// 00001 … 00004 are written, and the newest three stay: each opens by itself, and
// no packet is lost between them.
func TestRingFilesAreCompleteEach(t *testing.T) {
	dir := t.TempDir()
	count := uint64(0)
	statistics := func() []Statistics {
		return []Statistics{{Start: began, End: began.Add(time.Duration(count) * time.Second), Received: count, Dropped: count / 2}}
	}
	f, err := Create(filepath.Join(dir, "shop.pcapng"), shop, Ring{Size: minSize, Files: 3}, statistics)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Secrets([]byte("CLIENT_RANDOM a b\n")); err != nil {
		t.Fatal(err)
	}
	for ; len(f.Paths()) < 3 || !strings.Contains(f.Paths()[2], "_00004"); count++ {
		data := datagram(t, fmt.Sprintf("%08d%s", count, strings.Repeat("x", 1000)))
		if err := f.Packet(&Packet{Time: began, Data: data, Length: len(data)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	there, err := os.ReadDir(dir)
	if err != nil || len(there) != 3 || there[0].Name() != "shop_00002.pcapng" {
		t.Fatalf("files %v, %v", there, err)
	}
	var numbers []string
	for _, path := range f.Paths() {
		r := open(t, path)
		for {
			data, _, err := r.ReadPacketData()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, string(data[42:50]))
		}
		if n := r.NInterfaces(); n != 2 {
			t.Errorf("%s: %d interfaces", path, n)
		}
		stats, err := r.Interface(0)
		if err != nil {
			t.Fatal(err)
		}
		if got := stats.Statistics.PacketsReceived; got == 0 || got > 70 {
			t.Errorf("%s: received %d, want those of this file alone", path, got)
		}
	}
	for i, number := range numbers {
		if want := fmt.Sprintf("%08d", int(count)-len(numbers)+i); number != want {
			t.Fatalf("packet %s where %s should be", number, want)
		}
	}
}

func open(t *testing.T, path string) *pcapgo.NgReader {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	r, err := pcapgo.NewNgReader(file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRingIsValidated(t *testing.T) {
	for _, r := range []Ring{{Size: 10}, {Files: 3}, {Size: 1 << 20, Files: 1}, {Size: 1 << 20, Files: -1}} {
		if _, err := Create(filepath.Join(t.TempDir(), "x.pcapng"), shop, r, nil); err == nil {
			t.Errorf("%+v: taken", r)
		}
	}
}

// What our own reader counts is what was written.
func TestOwnReaderFindsTheDrops(t *testing.T) {
	var buf bytes.Buffer
	w, err := Stream(&buf, shop, func() []Statistics {
		return []Statistics{{Interface: 0, Start: began, End: began, Received: 12, Dropped: 5}, {Interface: 1, Start: began, End: began, Dropped: 2}}
	})
	if err != nil {
		t.Fatal(err)
	}
	data := datagram(t, "hello")
	if err := errors.Join(w.Packet(&Packet{Time: began, Data: data, Length: len(data)}), w.Close()); err != nil {
		t.Fatal(err)
	}
	file, err := capture.Read(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if file.Counts.Dropped != 7 || file.Counts.Packets != 1 {
		t.Errorf("read %+v", file.Counts)
	}
}
