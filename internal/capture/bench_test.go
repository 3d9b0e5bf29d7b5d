package capture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// traffic writes captures of mixed traffic, header by header: most packets are
// TCP data and acknowledgements of many connections, each opened and closed;
// some are DNS over UDP, some are TCP in VXLAN on a VLAN.
type traffic struct {
	buf     bytes.Buffer
	rand    *rand.Rand
	micros  uint64
	packets int
	random  [1400]byte
	frame   []byte
}

func newTraffic(seed uint64) *traffic {
	t := &traffic{rand: rand.New(rand.NewPCG(seed, 0))}
	for i := range t.random {
		t.random[i] = byte(t.rand.Uint32())
	}
	header := make([]byte, 24)
	binary.LittleEndian.PutUint32(header, 0xa1b2c3d4)
	header[4], header[6] = 2, 4
	binary.LittleEndian.PutUint32(header[16:], 1<<18)
	binary.LittleEndian.PutUint32(header[20:], 1)
	t.buf.Write(header)
	return t
}

// record writes the frame that was built.
func (t *traffic) record() {
	t.micros += 7
	t.packets++
	header := make([]byte, 0, 16)
	header = binary.LittleEndian.AppendUint32(header, uint32(1_700_000_000+t.micros/1_000_000))
	header = binary.LittleEndian.AppendUint32(header, uint32(t.micros%1_000_000))
	header = binary.LittleEndian.AppendUint32(header, uint32(len(t.frame)))
	header = binary.LittleEndian.AppendUint32(header, uint32(len(t.frame)))
	t.buf.Write(header)
	t.buf.Write(t.frame)
}

// link begins a frame.
func (t *traffic) link(vlan bool) {
	t.frame = append(t.frame[:0], 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2)
	if vlan {
		t.frame = append(t.frame, 0x81, 0, 0, 7)
	}
	t.frame = append(t.frame, 8, 0)
}

// ip adds an IPv4 header for a payload of length bytes.
func (t *traffic) ip(protocol byte, src, dst uint32, length int) {
	t.frame = append(t.frame, 0x45, 0)
	t.frame = binary.BigEndian.AppendUint16(t.frame, uint16(20+length))
	t.frame = append(t.frame, 0, 0, 0x40, 0, 64, protocol, 0, 0)
	t.frame = binary.BigEndian.AppendUint32(t.frame, src)
	t.frame = binary.BigEndian.AppendUint32(t.frame, dst)
}

func (t *traffic) udp(src, dst uint16, length int) {
	t.frame = binary.BigEndian.AppendUint16(t.frame, src)
	t.frame = binary.BigEndian.AppendUint16(t.frame, dst)
	t.frame = binary.BigEndian.AppendUint16(t.frame, uint16(8+length))
	t.frame = append(t.frame, 0, 0)
}

func (t *traffic) tcp(src, dst uint16, seq, ack uint32, flags byte, payload []byte) {
	t.frame = binary.BigEndian.AppendUint16(t.frame, src)
	t.frame = binary.BigEndian.AppendUint16(t.frame, dst)
	t.frame = binary.BigEndian.AppendUint32(t.frame, seq)
	t.frame = binary.BigEndian.AppendUint32(t.frame, ack)
	t.frame = append(t.frame, 0x80, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1)
	t.frame = append(t.frame, payload...)
}

// connection is one TCP connection of the traffic.
type connection struct {
	src, dst     uint32
	sport, dport uint16
	seq, ack     uint32
	left         int
	state        int
	overlay      bool
}

func (t *traffic) segment(c *connection, toServer bool, flags byte, payload []byte) {
	t.link(c.overlay)
	if c.overlay {
		inner := 14 + 20 + 32 + len(payload)
		t.ip(17, 0x0a000001, 0x0a000002, 8+8+inner)
		t.udp(50000, 8472, 8+inner)
		t.frame = append(t.frame, 8, 0, 0, 0, 0, 0, 42, 0, // VXLAN, Ethernet
			2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0)
	}
	if toServer {
		t.ip(6, c.src, c.dst, 32+len(payload))
		t.tcp(c.sport, c.dport, c.seq, c.ack, flags, payload)
		c.seq += uint32(len(payload)) + uint32(flags&1) + uint32(flags>>1&1)
	} else {
		t.ip(6, c.dst, c.src, 32+len(payload))
		t.tcp(c.dport, c.sport, c.ack, c.seq, flags, payload)
		c.ack += uint32(len(payload)) + uint32(flags&1) + uint32(flags>>1&1)
	}
	t.record()
}

// step sends the next packet of a connection; false is its end.
func (t *traffic) step(c *connection) bool {
	c.state++
	switch {
	case c.state == 1:
		t.segment(c, true, flagSYN, nil)
	case c.state == 2:
		t.segment(c, false, flagSYN|flagACK, nil)
	case c.state == 3:
		t.segment(c, true, flagACK, nil)
	case c.left == 0:
		t.segment(c, true, flagFIN|flagACK, nil)
	case c.left == -1:
		t.segment(c, false, flagFIN|flagACK, nil)
	case c.left == -2:
		t.segment(c, true, flagACK, nil)
		return false
	case c.left%3 == 0:
		t.segment(c, true, flagACK, nil)
	default:
		t.segment(c, c.left%4 == 0, flagACK, t.random[:100+t.rand.IntN(1300)])
	}
	if c.state > 3 {
		c.left--
	}
	return true
}

// mixed is a capture of n packets.
func mixed(n int) []byte {
	t := newTraffic(1)
	var live []*connection
	for t.packets < n {
		switch {
		case t.rand.IntN(10) == 0:
			host := t.rand.Uint32N(1000)
			t.link(false)
			t.ip(17, 0x0a010000+host, 0x0a000035, 8+40)
			t.udp(uint16(1024+t.rand.Uint32N(60000)), 53, 40)
			t.frame = append(t.frame, t.random[:40]...)
			t.record()
		case len(live) < 1000:
			live = append(live, &connection{
				src: 0x0a010000 + t.rand.Uint32N(1000), dst: 0x0a020000 + t.rand.Uint32N(100), sport: uint16(1024 + t.rand.Uint32N(60000)), dport: 443,
				seq: t.rand.Uint32(), ack: t.rand.Uint32(), left: 3 + t.rand.IntN(100), overlay: t.rand.IntN(5) == 0,
			})
		default:
			i := t.rand.IntN(len(live))
			if !t.step(live[i]) {
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
		}
	}
	return t.buf.Bytes()
}

func BenchmarkRead(b *testing.B) {
	const packets = 200_000
	content := mixed(packets)
	b.ReportAllocs()
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		file, err := Read(bytes.NewReader(content))
		if err != nil || file.Counts.Packets != packets {
			b.Fatal(err, file)
		}
	}
	b.ReportMetric(float64(b.N)*packets/b.Elapsed().Seconds(), "packets/s")
}

// BenchmarkTable is the way of a capture that does not fit into memory: the same
// connections come again and again, each time as new ones.
func BenchmarkTable(b *testing.B) {
	const packets = 200_000
	content := mixed(packets)
	table := NewTable(Limits{}, func(*Flow) {})
	read := func() {
		src, err := OpenSource(bytes.NewReader(content), "")
		if err != nil {
			b.Fatal(err)
		}
		if err := table.Read(src); err != nil {
			b.Fatal(err)
		}
	}
	read()
	b.ReportAllocs()
	b.SetBytes(int64(len(content)))
	began := processorTime(b)
	for b.Loop() {
		read()
	}
	b.ReportMetric(float64(b.N)*packets/b.Elapsed().Seconds(), "packets/s")
	b.ReportMetric(float64(b.N)*packets/(processorTime(b)-began).Seconds(), "packets/core-s")
}

// processorTime is what this process has used so far. On a machine with others,
// it tells more than the clock.
func processorTime(b *testing.B) time.Duration {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
