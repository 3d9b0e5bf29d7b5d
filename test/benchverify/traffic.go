package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// conversation is the packets of one golden: Ethernet and IPv4, TCP or UDP.
type conversation struct {
	name    string
	packets [][]byte
	flows   int
	long    bool
}

// traffic makes as many copies of conversations as wanted.
type traffic struct{ conversations []conversation }

// Headers of what is taken: Ethernet, IPv4 without options.
const (
	ethernetSize = 14
	sourceAt     = ethernetSize + 12
	targetAt     = ethernetSize + 16
)

// loadTraffic reads the goldens. Those that are not plain IPv4 on Ethernet are
// left out.
func loadTraffic(dir string) (*traffic, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	t := &traffic{}
	for _, file := range files {
		c, err := loadConversation(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if c.flows > 0 {
			t.conversations = append(t.conversations, c)
		}
	}
	if len(t.conversations) == 0 {
		return nil, fmt.Errorf("no captures in %s", dir)
	}
	// One in eight moves a lot, as in most networks.
	var bulk []conversation
	for _, c := range t.conversations {
		if long, ok := c.stretched(); ok {
			bulk = append(bulk, long)
		}
	}
	for i := 0; len(bulk) > 0 && i < len(t.conversations); i += 8 {
		t.conversations = slices.Insert(t.conversations, i, bulk[i*5%len(bulk)])
	}
	return t, nil
}

// only is the conversations of these goldens, if a link takes their packets.
func (t *traffic) only(names ...string) *traffic {
	const most = ethernetSize + 1500
	return &traffic{slices.DeleteFunc(slices.Clone(t.conversations), func(c conversation) bool {
		return c.long || !slices.Contains(names, strings.TrimSuffix(c.name, ".pcap")) ||
			slices.ContainsFunc(c.packets, func(b []byte) bool { return len(b) > most })
	})}
}

// stretched is a TCP conversation in which one side says much more before it ends:
// records of TLS where it speaks TLS 1.3, else zeros; each two segments with an
// acknowledgement.
func (c conversation) stretched() (conversation, bool) {
	const more = 150
	end := slices.IndexFunc(c.packets, func(b []byte) bool { return isTCP(b) && b[tcpAt+13]&tcpFin != 0 })
	plain := strings.HasPrefix(c.name, "http") || strings.HasPrefix(c.name, "nc-") || strings.HasPrefix(c.name, "tls13")
	if end < 0 || c.flows != 1 || !plain {
		return c, false // of other protocols zeros are malformed messages
	}
	from := c.packets[end]
	answer := slices.IndexFunc(c.packets, func(b []byte) bool { return !sameWay(b, from) && b[tcpAt+13] == tcpAck })
	if answer < 0 {
		return c, false
	}
	header := slices.Clone(from[:tcpAt+int(from[tcpAt+12]>>4)*4])
	header[tcpAt+13] = tcpAck
	payload := make([]byte, 1400)
	sealed := strings.HasPrefix(c.name, "tls13") || strings.HasPrefix(c.name, "https-tls13")
	if !sealed && slices.ContainsFunc(c.packets, encrypts) {
		return c, false // older TLS ends with an alert, behind which nothing may come
	}
	noise := rand.New(rand.NewPCG(1, 2))
	segment := append(header, payload...)
	binary.BigEndian.PutUint16(segment[ethernetSize+2:], uint16(len(segment)-ethernetSize))
	long := conversation{name: c.name, flows: c.flows, packets: slices.Clone(c.packets[:end]), long: true}
	sequence, size := binary.BigEndian.Uint32(from[tcpAt+4:]), uint32(len(payload))
	for n := range uint32(more) {
		data := slices.Clone(segment)
		if sealed {
			record(data[len(header):], noise)
		}
		binary.BigEndian.PutUint32(data[tcpAt+4:], sequence+n*size)
		long.packets = append(long.packets, data)
		if n%2 == 1 {
			ack := slices.Clone(c.packets[answer])
			binary.BigEndian.PutUint32(ack[tcpAt+8:], sequence+(n+1)*size)
			long.packets = append(long.packets, ack)
		}
	}
	for _, b := range c.packets[end:] {
		b = slices.Clone(b)
		field := tcpAt + 8 // what the other side acknowledges
		if sameWay(b, from) {
			field = tcpAt + 4
		}
		binary.BigEndian.PutUint32(b[field:], binary.BigEndian.Uint32(b[field:])+more*size)
		long.packets = append(long.packets, b)
	}
	return long, true
}

// record fills b with one record of TLS.
func record(b []byte, noise *rand.Rand) {
	copy(b, []byte{23, 3, 3, byte((len(b) - 5) >> 8), byte((len(b) - 5) & 0xff)})
	for i := range b[5:] {
		b[5+i] = byte(noise.Uint32())
	}
}

// encrypts reports whether a packet holds a handshake of TLS, or of SSH.
func encrypts(b []byte) bool {
	return bytes.Contains(b, []byte{22, 3, 1}) || bytes.Contains(b, []byte{22, 3, 3}) || bytes.Contains(b, []byte("SSH-2.0"))
}

func isTCP(b []byte) bool { return b[ethernetSize+9] == 6 }

// Where TCP is, and some of its flags.
const (
	tcpAt  = ethernetSize + 20
	tcpAck = 0x10
	tcpFin = 0x01
)

// sameWay reports whether two packets of a conversation have the same sender.
func sameWay(a, b []byte) bool {
	return bytes.Equal(a[sourceAt:sourceAt+4], b[sourceAt:sourceAt+4])
}

func loadConversation(file string) (conversation, error) {
	c := conversation{name: filepath.Base(file)}
	f, err := os.Open(file)
	if err != nil {
		return c, err
	}
	defer f.Close()
	r, err := pcapgo.NewReader(bufio.NewReader(f))
	if err != nil || r.LinkType() != layers.LinkTypeEthernet {
		return c, err
	}
	flows := map[string]bool{}
	for {
		data, _, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, err
		}
		if !plainIPv4(data) {
			continue
		}
		c.packets = append(c.packets, data)
		flows[flowOf(data)] = true
	}
	c.flows = len(flows)
	return c, nil
}

// plainIPv4 reports whether a frame is IPv4 with TCP or UDP right behind Ethernet.
func plainIPv4(b []byte) bool {
	return len(b) >= ethernetSize+28 && binary.BigEndian.Uint16(b[12:]) == 0x0800 && b[ethernetSize] == 0x45 &&
		(b[ethernetSize+9] == 6 || b[ethernetSize+9] == 17)
}

// flowOf is the ends of a packet, the same in both directions.
func flowOf(b []byte) string {
	src := string(b[sourceAt:sourceAt+4]) + string(b[ethernetSize+20:ethernetSize+22])
	dst := string(b[targetAt:targetAt+4]) + string(b[ethernetSize+22:ethernetSize+24])
	return string(b[ethernetSize+9]) + min(src, dst) + max(src, dst)
}

// atOnce is how many copies are under way at a time.
const atOnce = 256

// made is what a stream of traffic holds.
type made struct {
	packets, flows int
	bytes          int64
}

// generate hands frames to emit until enough says so, and the rest of what is under
// way then: packets of many copies in turn, each copy between addresses of its own.
// A frame is emit's until it returns.
func (t *traffic) generate(enough func(made) bool, emit func([]byte) error) (made, error) {
	type run struct {
		packets [][]byte
		copy    uint32
	}
	var out made
	var next uint32
	runs := make([]run, atOnce)
	begin := func() run {
		c := t.conversations[int(next)%len(t.conversations)]
		next++
		out.flows += c.flows
		return run{c.packets, next}
	}
	for i := range runs {
		runs[i] = begin()
	}
	frame := make([]byte, 0, 1<<16)
	ending := false
	for left := len(runs); left > 0; {
		ending = ending || enough(out)
		left = len(runs)
		for i := range runs {
			r := &runs[i]
			switch {
			case len(r.packets) > 0:
			case ending:
				left--
				continue
			default:
				*r = begin()
			}
			frame = append(frame[:0], r.packets[0]...)
			r.packets = r.packets[1:]
			readdress(frame, r.copy)
			if err := emit(frame); err != nil {
				return out, err
			}
			out.packets++
			out.bytes += int64(len(frame))
		}
	}
	return out, nil
}

// hosts is how many pairs of hosts copies are spread over.
const hosts = 1024

// readdress gives a packet the ends of one copy: a pair of hosts, and a client port
// that no other copy between them has. The lab's own addresses differ in their last
// two bytes; these are kept apart.
func readdress(b []byte, n uint32) {
	pair := n % hosts
	for _, at := range []int{sourceAt, targetAt} {
		host := b[at+2]<<4 | b[at+3]&0xf
		binary.BigEndian.PutUint32(b[at:], 10<<24|pair<<8|uint32(host))
	}
	client := tcpAt
	if binary.BigEndian.Uint16(b[tcpAt+2:]) > binary.BigEndian.Uint16(b[tcpAt:]) {
		client += 2
	}
	const first, ports = 32768, 28000
	if port := uint32(binary.BigEndian.Uint16(b[client:])); port >= first {
		binary.BigEndian.PutUint16(b[client:], uint16(first+(port+n/hosts*61)%ports))
	}
}
