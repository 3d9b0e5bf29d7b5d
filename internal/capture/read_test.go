package capture

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// rendered is headers and payload as they are on a link.
func rendered(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
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

func TestBothFormatsAreRead(t *testing.T) {
	p := rendered(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
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
	p := rendered(t, ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
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

// FuzzRead: no file makes the reader panic, its counts add up, and within tight
// limits no more is held than they allow.
func FuzzRead(f *testing.F) {
	p := rendered(f, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), tcp(), gopacket.Payload("hello"))
	f.Add(pcapFile(f, layers.LinkTypeEthernet, p, p).Bytes())
	f.Add(pcapFile(f, layers.LinkTypeRaw, rendered(f, ip6(layers.IPProtocolTCP), tcp())).Bytes())
	f.Add(pcapFile(f, layers.LinkTypeRaw, udpPacket(f, portVXLAN, vxlan(1, p)), fragmentOf(f, 1, 0, true, "12345678"), fragmentOf(f, 1, 8, false, "123")).Bytes())
	f.Add(pcapFile(f, layers.LinkTypeRaw, ip4Packet(f, protoGRE, bytesOf(0, 0, be16(etherBridging), p)), udpPacket(f, 53, []byte("hello"))).Bytes())
	le := binary.LittleEndian
	f.Add(bytesOf(sectionOf(le), interfaceOf(le, 1, 0), interfaceOf(le, 113, 0), packetOf(le, 0, 1, p), block(le, blockSimple, numbers(le, 9), "nine byte"),
		block(le, blockSecrets, numbers(le, 0x544c534b, 4), "keys"), block(le, blockStatistics, numbers(le, 1, 0, 0))))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Read(bytes.NewReader(content))
		if err == nil {
			addUp(t, file.Counts, file.Flows...)
		}
		src, err := OpenSource(bytes.NewReader(content), "")
		if err != nil {
			return
		}
		segments := &Flow{}
		table := NewTable(Limits{Flows: 4, Bytes: 1 << 20}, func(f *Flow) {
			segments.ToServer.Packets += f.ToServer.Packets + f.ToClient.Packets
			for _, d := range []*Direction{&f.ToServer, &f.ToClient} {
				for i := range d.Chunks {
					_ = d.Chunks[i].Packet(len(d.Chunks[i].Data) - 1)
				}
			}
		})
		_ = table.Read(src)
		if table.size() > 4 || table.decoder.fragments.bytes > maxFragmentBytes+maxPacket {
			t.Errorf("%d flows, %d bytes of fragments", table.live.n, table.decoder.fragments.bytes)
		}
		addUp(t, table.Close(), segments)
		if table.room != 0 || table.flows.n != 0 {
			t.Errorf("%d bytes and %d flows are left", table.room, table.flows.n)
		}
	})
}

// addUp accounts for every packet.
func addUp(t *testing.T, c Counts, flows ...*Flow) {
	t.Helper()
	segments := 0
	for _, flow := range flows {
		segments += flow.ToServer.Packets + flow.ToClient.Packets
		for _, d := range []Direction{flow.ToServer, flow.ToClient} {
			if flow.Proto == TCP && len(d.Start()) > Window {
				t.Errorf("%d bytes kept", len(d.Start()))
			}
		}
	}
	if sum := segments + c.Beyond + c.NotIP + c.Control + c.Fragments + c.Reassembled + c.Undecoded + c.Late + c.Excess; sum != c.Packets {
		t.Errorf("%d packets, %d accounted for: %+v", c.Packets, sum, c)
	}
}

func gopacketPayload(text string) gopacket.Payload { return gopacket.Payload(text) }
