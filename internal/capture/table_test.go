package capture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"
)

// clientOf is one of many clients.
func clientOf(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1000)
}

// after sets when a packet came.
func (p packet) after(d time.Duration) packet {
	p.at = time.Unix(1, 0).Add(d)
	return p
}

func datagramFrom(src, dst netip.AddrPort, data string) packet {
	return packet{proto: protoUDP, src: endOf(src), dst: endOf(dst), payload: []byte(data), at: time.Unix(1, 0)}
}

func TestTheLongestIdleFlowsMakeRoom(t *testing.T) {
	var packets []packet
	for i := range 10 {
		packets = append(packets, from(clientOf(i), server, "S", 1, ""),
			from(clientOf(0), server, "", 2, "x")) // never idle
	}
	var order []int
	table := NewTable(Limits{Flows: 4}, func(f *Flow) { order = append(order, f.Number) })
	for _, p := range packets {
		table.add(&p)
		if table.live.n > 4 || table.flows.n > 4 {
			t.Fatalf("%d flows are live, %d are in the map", table.live.n, table.flows.n)
		}
	}
	counts := table.Close()
	if want := []int{2, 3, 4, 5, 6, 7, 1, 8, 9, 10}; !slices.Equal(order, want) || counts.Evicted != 6 {
		t.Errorf("handed over in the order %v, want %v; %d evicted", order, want, counts.Evicted)
	}
	if table.room != 0 || table.flows.n != 0 {
		t.Errorf("%d bytes and %d entries are left", table.room, table.flows.n)
	}
}

func TestBytesAreBounded(t *testing.T) {
	var packets []packet
	data := string(make([]byte, 4000))
	for i := range 100 {
		packets = append(packets, from(clientOf(i), server, "S", 1, ""), from(clientOf(i), server, "", 2, data), datagramFrom(clientOf(i), server, data))
	}
	table := NewTable(Limits{Bytes: 100_000}, func(*Flow) {})
	for _, p := range packets {
		table.add(&p)
		if table.room > 100_000 || table.rooms.total > 130_000 {
			t.Fatalf("%d bytes in use, %d made", table.room, table.rooms.total)
		}
	}
	if table.counts.Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

func TestWhatIsFullIsSettledBeforeAnythingIsEvicted(t *testing.T) {
	large := string(make([]byte, Window))
	packets := []packet{up("S", 1, ""), down("S", 1, "").acking(2), up("", 2, "ask"), down("", 2, large).acking(5)}
	other := from(clientOf(1), server, "", 1, large)
	for _, tc := range []struct {
		name    string
		more    []packet
		flows   int
		beyond  int
		evicted int
	}{
		{"nothing more", nil, 2, 0, 0},
		{"more of the same, acknowledgements, the end", []packet{
			down("", 2+Window, large).acking(5), up("", 5, "").acking(9), up("", 4, "?"), // the last a keep-alive probe
			up("F", 5, "").acking(2 + 2*Window), down("F", 2+2*Window, "").acking(6), up("", 6, "").acking(3 + 2*Window),
			from(clientOf(2), server, "S", 1, "").after(time.Hour), up("", 6, "").acking(3 + 2*Window),
		}, 3, 6, 0},
		{"more that was to be kept", []packet{up("", 5, "ask again")}, 3, 0, 1},
		{"another connection", []packet{up("S", 900, ""), up("", 901, "ask")}, 3, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var flows []string
			table := NewTable(Limits{Bytes: Window + 4096}, func(f *Flow) {
				flows = append(flows, fmt.Sprintf("%d %t %d %d", f.Number, f.Evicted, len(f.ToClient.Start()), f.Continues))
			})
			all := slices.Concat(packets, []packet{other}, tc.more)
			for _, p := range all {
				table.counts.Packets++
				table.add(&p)
			}
			c := table.Close()
			if want := fmt.Sprintf("1 false %d 0", Window); len(flows) != tc.flows || flows[0] != want || c.Beyond != tc.beyond || c.Evicted != tc.evicted {
				t.Errorf("flows %q, %+v", flows, c)
			}
			if table.room != 0 || table.flows.n != 0 || table.size() != 0 {
				t.Errorf("%d bytes, %d entries, %d flows are left", table.room, table.flows.n, table.size())
			}
		})
	}
}

func TestAFlowThatIsEvictedGoesOnAsAnother(t *testing.T) {
	flows, counts := limited(Limits{Flows: 1}, up("S", 1, ""), up("", 2, "one"), from(clientOf(1), server, "S", 1, ""), up("", 5, "two"))
	if len(flows) != 3 || !flows[0].Evicted || flows[2].Continues != 1 || flows[2].Opened || counts.Evicted != 2 {
		t.Fatalf("%d flows, %d evicted", len(flows), counts.Evicted)
	}
	if got := texts(flows[2].ToServer.Chunks); !equal(got, []string{"two"}) || flows[2].ToServer.Start() != nil {
		t.Errorf("goes on with %q", got)
	}
}

func TestWhatHasEndedLingersAndIsHandedOver(t *testing.T) {
	closed := []packet{
		up("S", 1, ""), down("S", 100, "").acking(2), up("", 2, "hi").acking(101),
		up("F", 4, "").acking(101), down("F", 101, "").acking(5), up("", 5, "").acking(102),
	}
	tick := from(clientOf(1), server, "", 1, "").after(lingering + time.Second)
	late := up("", 5, "").acking(102)
	reset := []packet{up("S", 1, ""), down("R", 0, "").acking(2)}
	for _, tc := range []struct {
		name    string
		packets []packet
		flows   int // all, with the one of the tick
		late    int
	}{
		{"closed", closed, 1, 0},
		{"closed, then time goes by", append(slices.Clone(closed), tick), 2, 0},
		{"a late acknowledgement, at once", append(slices.Clone(closed), late, tick), 2, 0},
		{"a late acknowledgement, after a while", append(slices.Clone(closed), tick, late), 2, 1},
		{"a late segment with payload is never passed over", append(slices.Clone(closed), tick, up("", 2, "hi")), 3, 0},
		{"one direction only, closed", []packet{closed[0], closed[2], closed[3], tick, late}, 2, 1},
		{"reset", append(slices.Clone(reset), tick, down("R", 0, "").acking(2)), 2, 1},
		{"reset, and opened again", append(slices.Clone(reset), up("S", 99, ""), up("", 100, "x")), 2, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows, counts := limited(Limits{}, tc.packets...)
			if len(flows) != tc.flows || counts.Late != tc.late || counts.Evicted != 0 {
				t.Errorf("%d flows, %d late, %d evicted", len(flows), counts.Late, counts.Evicted)
			}
		})
	}
	table := NewTable(Limits{}, func(*Flow) {})
	for _, p := range append(slices.Clone(closed), tick) {
		table.add(&p)
	}
	if table.over.n != 0 || table.live.n != 1 {
		t.Errorf("%d flows are over, %d live", table.over.n, table.live.n)
	}
}

func TestDatagramsThatRestMakeRoomUnnoticed(t *testing.T) {
	flows, counts := limited(Limits{Flows: 1}, datagramFrom(client, server, "a"), datagramFrom(clientOf(1), server, "b").after(resting))
	if len(flows) != 2 || flows[0].Evicted || counts.Evicted != 0 {
		t.Errorf("%d flows, %d evicted", len(flows), counts.Evicted)
	}
}

func TestWhoSpeaksFirstInDatagrams(t *testing.T) {
	flows := assembled(datagramFrom(server, client, "one"), datagramFrom(client, server, "two"), datagramFrom(server, client, "three"))
	f := flows[0]
	if len(flows) != 1 || f.Client != server || f.Proto != UDP || f.Opened || !equal(texts(f.ToServer.Chunks), []string{"one", "three"}) {
		t.Errorf("%d flows, the first %+v", len(flows), f)
	}
	if c := f.ToServer.Chunks[1]; c.Offset != 3 || c.Packet(0) != 3 {
		t.Errorf("offset %d, packet %d", c.Offset, c.Packet(0))
	}
	reply := packet{proto: protoICMP, src: endOf(server), dst: endOf(client), reply: true, payload: []byte("x")}
	if f := assembled(reply)[0]; f.Client.Addr() != client.Addr() || f.Proto != ICMP {
		t.Errorf("a reply alone: client %s", f.Client)
	}
}

func TestTheSameFlowOnTwoVantagesIsTwo(t *testing.T) {
	data := hello4(t)
	var got []string
	table := NewTable(Limits{}, func(f *Flow) { got = append(got, fmt.Sprintf("%d %s %d", f.Number, f.Vantage, f.ToServer.Packets)) })
	for _, vantage := range []string{"n1", "n2", "n1", "n2"} {
		table.Add(&Frame{Data: data, Length: len(data), Link: layers.LinkTypeRaw, Vantage: vantage})
	}
	table.Close()
	if want := []string{"1 n1 2", "2 n2 2"}; !slices.Equal(got, want) {
		t.Errorf("flows %q, want %q", got, want)
	}
}

func TestTheLastFlowIsReadBeforeItsEnd(t *testing.T) {
	table := NewTable(Limits{}, func(*Flow) {})
	for i, p := range []packet{up("S", 1, ""), up("", 2, "one"), up("", 5, "two")} {
		table.last = nil
		table.add(&p)
		f := table.Last()
		if want := "onetwo"[:3*i]; string(f.ToServer.Start()) != want || f.Number != 1 {
			t.Errorf("after packet %d: %q, want %q", i, f.ToServer.Start(), want)
		}
	}
	kept := table.Last().Clone()
	table.Close()
	if string(kept.ToServer.Start()) != "onetwo" || kept.ToServer.Chunks[0].Packet(0) != 0 {
		t.Errorf("the clone says %q", kept.ToServer.Start())
	}
	arp := make([]byte, 60)
	binary.BigEndian.PutUint16(arp[12:], etherARP)
	table.Add(&Frame{Data: arp, Length: 60, Link: layers.LinkTypeEthernet})
	if table.Last() != nil {
		t.Error("ARP has a flow")
	}
}

// TestNothingIsLostUnderPressure: whatever comes, in whatever order, each packet
// is in one flow, each flow is handed over once, and nothing stays behind.
func TestNothingIsLostUnderPressure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		packets, numbers := 0, make(map[int]bool)
		limits := Limits{Flows: rapid.IntRange(1, 6).Draw(t, "flows"), Bytes: int64(rapid.IntRange(1, 80000).Draw(t, "bytes"))}
		table := NewTable(limits, func(f *Flow) {
			packets += f.ToServer.Packets + f.ToClient.Packets
			if numbers[f.Number] || f.Number < 1 {
				t.Fatalf("flow %d is handed over again", f.Number)
			}
			numbers[f.Number] = true
			for _, d := range []*Direction{&f.ToServer, &f.ToClient} {
				for _, c := range d.Chunks {
					for _, b := range c.Data {
						if b != byte(f.Client.Port())^byte(f.Server.Port()) {
							t.Fatalf("flow %d has bytes of another", f.Number)
						}
					}
				}
			}
		})
		n := rapid.IntRange(0, 200).Draw(t, "packets")
		for range n {
			a, b := clientOf(rapid.IntRange(0, 4).Draw(t, "client")), server
			p := packet{proto: rapid.SampledFrom([]code{protoTCP, protoTCP, protoUDP}).Draw(t, "proto")}
			a = netip.AddrPortFrom(a.Addr(), 1000+uint16(a.Addr().As4()[3]))
			if rapid.Bool().Draw(t, "answers") {
				a, b = b, a
			}
			p.src, p.dst = endOf(a), endOf(b)
			p.seq = uint32(rapid.IntRange(0, 3000).Draw(t, "seq"))
			p.acknowledged = uint32(rapid.IntRange(0, 3000).Draw(t, "acknowledged"))
			p.flags = rapid.SampledFrom([]uint8{0, flagACK, flagACK, flagACK, flagSYN, flagSYN | flagACK, flagFIN | flagACK, flagRST}).Draw(t, "flags")
			p.payload = bytes.Repeat([]byte{byte(a.Port()) ^ byte(b.Port())}, rapid.SampledFrom([]int{0, 0, 1, 700, 9000, 20000}).Draw(t, "length"))
			if number := rapid.IntRange(0, 2).Draw(t, "overlay"); number > 0 {
				p.path.push(overVXLAN, numbered|uint64(number))
			}
			p.at = time.Unix(int64(rapid.IntRange(0, 1000).Draw(t, "time")), 0)
			table.counts.Packets++
			table.add(&p)
			if table.size() > limits.Flows {
				t.Fatalf("%d flows are live", table.size())
			}
		}
		c := table.Close()
		if packets+c.Late+c.Beyond != n || len(numbers) != c.Flows {
			t.Fatalf("%d packets in flows and %d late, of %d; %d flows of %d", packets, c.Late, n, len(numbers), c.Flows)
		}
		if table.room != 0 || table.flows.n != 0 || table.size() != 0 {
			t.Fatalf("%d bytes, %d entries, %d flows are left", table.room, table.flows.n, table.size())
		}
	})
}

func TestAPacketOfAKnownFlowTakesNoMemory(t *testing.T) {
	table := NewTable(Limits{}, func(*Flow) {})
	tcp4 := hello4(t)
	for name, data := range map[string][]byte{
		"TCP": tcp4, "UDP": udpPacket(t, 53, []byte("hello")), "VXLAN": udpPacket(t, portVXLAN, vxlan(1, helloFrame(t))),
	} {
		f := &Frame{Data: data, Length: len(data), Link: layers.LinkTypeRaw, Time: time.Unix(1, 0)}
		for range 2 * maxDatagrams {
			table.Add(f)
		}
		if n := testing.AllocsPerRun(100, func() { table.Add(f) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A million connections, each with a handshake and a few bytes, of which none
// ever ends, take up no more than the first of them.
func TestAMillionFlowsFitIntoMemory(t *testing.T) {
	const flows = 1_000_000
	seen := 0
	table := NewTable(Limits{}, func(f *Flow) {
		seen++
		if f.Number != seen {
			t.Fatalf("flow %d is handed over as number %d", f.Number, seen)
		}
	})
	data := make([]byte, 100)
	peak := uint64(0)
	for i := range flows {
		src := clientOf(i)
		syn := from(src, server, "S", 1, "")
		table.add(&syn)
		p := from(src, server, "", 2, "")
		p.payload = data
		table.add(&p)
		p = from(server, src, "", 2, "")
		p.payload = data
		table.add(&p)
		if i%100_000 == 99_999 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	counts := table.Close()
	if seen != flows || counts.Evicted < flows-table.limits.Flows || counts.Evicted >= flows {
		t.Errorf("%d flows seen, %d evicted", seen, counts.Evicted)
	}
	t.Logf("%d MB at most", peak>>20)
	if peak > 120<<20 {
		t.Errorf("%d MB in use", peak>>20)
	}
}
