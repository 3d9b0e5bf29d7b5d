package live_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/capture/live"
	"github.com/sealmesh/sealmesh/test/lab"
)

// pair is two workloads of one node, in which nobody else sends UDP to port 4001.
//
//	web 10.77.1.11 ── cni0 ── cart 10.77.1.12
func pair(t *testing.T) (web, cart *lab.Workload) {
	l := lab.T(t, lab.Config{Nodes: 1})
	return l.Workload(t, l.Nodes[0], "web"), l.Workload(t, l.Nodes[0], "cart")
}

func open(t *testing.T, c live.Config) *live.Handle {
	t.Helper()
	h, err := live.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// frame is a frame with the bytes copied.
type frame struct {
	capture.Frame
	origin    int
	direction live.Direction
}

// payload of UDP, "" if it is something else.
func (f frame) payload() string {
	var first gopacket.Decoder = layers.LayerTypeEthernet
	switch f.Link {
	case layers.LinkTypeRaw:
		first = layers.LayerTypeIPv4
	case layers.LinkTypeLinuxSLL:
		first = layers.LayerTypeLinuxSLL
	}
	if udp, ok := gopacket.NewPacket(f.Data, first, gopacket.Default).Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
		return string(udp.Payload)
	}
	return ""
}

// reading is a source being read.
type reading struct {
	t      *testing.T
	frames []frame
	err    chan error
	stop   context.CancelFunc
	merged *live.Merged
}

// read starts to read handles.
func read(t *testing.T, handles ...*live.Handle) *reading {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	merged, err := live.Merge(ctx, handles...)
	if err != nil {
		t.Fatal(err)
	}
	r := &reading{t: t, err: make(chan error, 1), stop: stop, merged: merged}
	go func() {
		var f capture.Frame
		for {
			if err := merged.Next(&f); err != nil {
				r.err <- err
				return
			}
			origin, direction := merged.Origin()
			kept := frame{f, origin, direction}
			kept.Data = bytes.Clone(f.Data)
			r.frames = append(r.frames, kept)
		}
	}()
	return r
}

// end ends the capture and returns the frames of UDP.
func (r *reading) end() []frame {
	r.t.Helper()
	r.stop()
	if err := <-r.err; !errors.Is(err, io.EOF) {
		r.t.Fatalf("capture ended with %v", err)
	}
	if err := r.merged.Close(); err != nil {
		r.t.Error(err)
	}
	return slices.DeleteFunc(r.frames, func(f frame) bool { return f.payload() == "" })
}

// say sends datagrams from a host to an address.
func say(t *testing.T, from *lab.Host, to netip.Addr, words ...string) {
	t.Helper()
	c, err := from.Dial(t.Context(), "udp", netip.AddrPortFrom(to, 4001).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, word := range words {
		if _, err := c.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
	}
}

// sink takes what is said to a host, so that it answers with no ICMP.
func sink(t *testing.T, h *lab.Host) net.PacketConn {
	t.Helper()
	pc, err := h.ListenPacket("udp", ":4001")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

func ip(t *testing.T, h *lab.Host, args string) {
	t.Helper()
	if out, err := h.Command(t.Context(), "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

func words(frames []frame) []string {
	var all []string
	for _, f := range frames {
		all = append(all, f.payload())
	}
	return all
}

func TestEveryPacketUpToTheEndIsThere(t *testing.T) {
	web, cart := pair(t)
	sink(t, cart.Host)
	r := read(t,
		open(t, live.Config{Netns: web.Path(), Interface: "eth0", Vantage: "web/eth0"}),
		open(t, live.Config{Netns: cart.Path(), Interface: "eth0", Vantage: "cart/eth0"}))
	var said []string
	for i := range 500 {
		said = append(said, fmt.Sprintf("word %d", i))
	}
	say(t, web.Host, cart.Addr4, said...)
	got := r.end()
	if len(got) != 2*len(said) {
		t.Fatalf("%d packets, want each of %d twice", len(got), len(said))
	}
	for i, f := range got {
		want := live.Outbound
		if f.Vantage == "cart/eth0" {
			want = live.Inbound
		}
		if f.direction != want || f.Length != len(f.Data) || (f.origin == 0) != (f.Vantage == "web/eth0") {
			t.Fatalf("packet %d of %s (%d): direction %d, length %d of %d", i, f.Vantage, f.origin, f.direction, len(f.Data), f.Length)
		}
		if i > 0 && f.Time.Before(got[i-1].Time) {
			t.Fatalf("packet %d is of %s, that before it of %s", i, f.Time, got[i-1].Time)
		}
	}
}

func TestFilterLeavesTheRestToTheKernel(t *testing.T) {
	web, cart := pair(t)
	sink(t, cart.Host)
	r := read(t, open(t, live.Config{Netns: web.Path(), Interface: "eth0", Filter: live.Filter{Ports: []uint16{4001}}, SnapLen: 60}),
		open(t, live.Config{Netns: web.Path(), Interface: "eth0", Vantage: "other", Filter: live.Filter{Ports: []uint16{4002}}}))
	say(t, web.Host, cart.Addr4, "one", "two", strings.Repeat("x", 100))
	got := r.end()
	if len(got) != 3 || got[0].Vantage != "eth0" {
		t.Fatalf("%d packets", len(got))
	}
	if long := got[2]; len(long.Data) != 60 || long.Length != 142 {
		t.Errorf("a packet of 142 bytes: %d bytes of %d", len(long.Data), long.Length)
	}
}

func TestOnLoopbackEachPacketIsThereOnce(t *testing.T) {
	web, _ := pair(t)
	sink(t, web.Host)
	r := read(t, open(t, live.Config{Netns: web.Path(), Interface: "lo"}))
	say(t, web.Host, netip.MustParseAddr("127.0.0.1"), "one", "two")
	if got := words(r.end()); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("%q", got)
	}
}

// udp is a datagram from web to cart as it stands on the wire, behind a header.
func udp(t *testing.T, web, cart *lab.Workload, word string, header ...gopacket.SerializableLayer) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: web.Addr4.AsSlice(), DstIP: cart.Addr4.AsSlice()}
	transport := &layers.UDP{SrcPort: 5000, DstPort: 4001}
	if err := transport.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	all := append(header, ip, transport, gopacket.Payload(word))
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A packet that comes after the reader has looked, and before it sleeps, wakes it.
func TestPacketsBetweenLookAndSleepAreNotMissed(t *testing.T) {
	web, cart := pair(t)
	sink(t, cart.Host)
	config := live.Config{Netns: web.Path(), Interface: "eth0", Filter: live.Filter{Ports: []uint16{4001}}}
	merged, witness := merge(t, open(t, config)), merge(t, open(t, config))
	merged.Idle = func() error {
		merged.Idle = nil
		var f capture.Frame
		for _, word := range []string{"first", "second"} { // the second is seen a block later: the first is ready
			say(t, web.Host, cart.Addr4, word)
			if err := witness.Next(&f); err != nil {
				return err
			}
		}
		return nil
	}
	var f capture.Frame
	if err := merged.Next(&f); err != nil {
		t.Fatal(err)
	}
	if got := (frame{Frame: f}).payload(); got != "first" {
		t.Errorf("%q", got)
	}
}

func merge(t *testing.T, h *live.Handle) *live.Merged {
	t.Helper()
	m, err := live.Merge(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// The kernel takes the outer tag off on its way in; whoever reads must find it.
func TestTagsOfVLANsArePutBack(t *testing.T) {
	web, cart := pair(t)
	sent := udp(t, web, cart, "tagged",
		&layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: bytes.Repeat([]byte{0xff}, 6), EthernetType: layers.EthernetTypeQinQ},
		&layers.Dot1Q{VLANIdentifier: 100, Type: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: 42, Priority: 5, Type: layers.EthernetTypeIPv4})
	r := read(t, open(t, live.Config{Netns: web.Path(), Interface: "eth0"}),
		open(t, live.Config{Netns: cart.Path(), Interface: "eth0", SnapLen: len(sent), Filter: live.Filter{Ports: []uint16{4001}}}))
	err := web.Do(func() error {
		device, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, sent, 0, &unix.SockaddrLinklayer{Ifindex: device.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	got := r.end()
	if len(got) != 2 {
		t.Fatalf("%d packets, want it once at either end", len(got))
	}
	for _, f := range got {
		if !bytes.Equal(f.Data, sent) || f.Length != len(sent) {
			t.Errorf("%s: %d bytes\n%x, sent\n%x", f.Vantage, f.Length, f.Data, sent)
		}
	}
}

// A device without headers of its own: packets begin with IP.
func TestTunnelIsReadFromItsIPHeader(t *testing.T) {
	web, cart := pair(t)
	var tun *os.File
	err := web.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		tun = os.NewFile(uintptr(fd), "tun")
		request, err := unix.NewIfreq("tun7")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	})
	if err != nil {
		t.Skipf("not run: no tun device here: %v", err)
	}
	defer tun.Close()
	ip(t, web.Host, "link set tun7 up")
	sent := udp(t, web, cart, "bare")
	r := read(t, open(t, live.Config{Netns: web.Path(), Interface: "tun7", Filter: live.Filter{Ports: []uint16{4001}}}))
	if _, err := tun.Write(sent); err != nil {
		t.Fatal(err)
	}
	got := r.end()
	if len(got) != 1 || got[0].Link != layers.LinkTypeRaw || !bytes.Equal(got[0].Data, sent) {
		t.Errorf("%+v, sent %x", got, sent)
	}
}

// What a device of any other kind gives: a header that says the protocol, then IP.
func TestUnknownLinksAreCooked(t *testing.T) {
	web, cart := pair(t)
	sink(t, cart.Host)
	r := read(t, open(t, live.Cooked(live.Config{Netns: cart.Path(), Interface: "eth0", Filter: live.Filter{Ports: []uint16{4001}}})))
	say(t, web.Host, cart.Addr4, "well done")
	got := r.end()
	if !slices.Equal(words(got), []string{"well done"}) {
		t.Fatalf("%d packets: %q", len(got), words(got))
	}
	if f := got[0]; f.Length != len(f.Data) || len(f.Data) != 16+28+9 || !bytes.Equal(f.Data[:6], []byte{0, 0, 0, 1, 0, 6}) {
		t.Errorf("%d bytes of %d: %x", len(f.Data), f.Length, f.Data)
	}
}

// The broken twin: what cannot be known to be everything does not end as if it were.
func TestCaptureOfAnInterfaceThatGoesAwayHasEndedEarly(t *testing.T) {
	for name, away := range map[string]string{"removed": "link del eth0", "down": "link set eth0 down"} {
		t.Run(name, func(t *testing.T) {
			web, cart := pair(t)
			sink(t, cart.Host)
			r := read(t, open(t, live.Config{Netns: web.Path(), Interface: "eth0"}))
			say(t, web.Host, cart.Addr4, "last words")
			ip(t, web.Host, away)
			err := <-r.err
			if !errors.Is(err, live.ErrGone) {
				t.Fatalf("ended with %v", err)
			}
			if !slices.Contains(words(r.frames), "last words") {
				t.Error("what came before is not there")
			}
			r.stop()
			if err := r.merged.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOneOfTwoInterfacesGoesAway(t *testing.T) {
	web, cart := pair(t)
	sink(t, web.Host)
	r := read(t, open(t, live.Config{Netns: web.Path(), Interface: "lo"}), open(t, live.Config{Netns: cart.Path(), Interface: "eth0"}))
	ip(t, cart.Host, "link set eth0 down")
	say(t, web.Host, netip.MustParseAddr("127.0.0.1"), "still here")
	if got := words(r.end()); !slices.Equal(got, []string{"still here"}) {
		t.Errorf("%q", got)
	}
	if err := r.merged.Gone(); !errors.Is(err, live.ErrGone) {
		t.Errorf("gone: %v", err)
	}
}

// Nobody reads: the ring fills up, and every packet is either there or counted.
func TestWhatIsDroppedIsCounted(t *testing.T) {
	web, cart := pair(t)
	sink(t, cart.Host)
	h := open(t, live.Config{Netns: web.Path(), Interface: "eth0", Buffer: 1 << 20, Filter: live.Filter{Ports: []uint16{4001}}})
	const sent = 3000
	say(t, web.Host, cart.Addr4, slices.Repeat([]string{strings.Repeat("x", 1000)}, sent)...)
	got := len(read(t, h).end())
	received, dropped, err := h.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if received != sent || dropped == 0 || got+int(dropped) != sent {
		t.Errorf("sent %d: received %d, dropped %d, read %d", sent, received, dropped, got)
	}
}

func TestConfigIsValidated(t *testing.T) {
	for name, c := range map[string]live.Config{
		"no interface":      {},
		"negative snaplen":  {Interface: "lo", SnapLen: -1},
		"snaplen too long":  {Interface: "lo", SnapLen: 1 << 20},
		"buffer too small":  {Interface: "lo", Buffer: 1},
		"bad filter":        {Interface: "lo", Filter: live.Filter{Ports: []uint16{0}}},
		"unknown interface": {Interface: "nosuch0"},
		"unknown namespace": {Interface: "lo", Netns: "/run/netns/no such"},
	} {
		if _, err := live.Open(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestInterfacesOfANamespace(t *testing.T) {
	web, _ := pair(t)
	list, err := live.Interfaces(web.Path())
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(list, func(i live.Interface) bool { return i.Name == "eth0" })
	if at < 0 || !list[at].Up || list[at].Kind != "veth" || !slices.Contains(list[at].Addresses, web.Addr4) || list[at].Enslaved {
		t.Errorf("interfaces %+v", list)
	}
}
