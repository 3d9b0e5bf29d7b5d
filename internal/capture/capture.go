// Package capture turns packets into flows.
//
//	source ──► frame ──► packet ──► flow ──► done
//	read.go    frame.go  decode.go  table.go
//
//	 1  read     pcap or pcapng, until its end or until it breaks off; a live
//	             capture is a source too
//	 2  decode   link, VLAN, overlay, IP and transport headers; fragments are put
//	             together; what lies above is never guessed from port numbers,
//	             it is left to package verify
//	 3  table    a packet goes to the flow of its two ends: TCP begins a new one
//	             at each SYN; whatever has ended, or must go to bound memory, is
//	             handed over
//	 4  stream   places each TCP segment by its sequence number: out of order, sent
//	             again and missing bytes all come out right
//	    datagram keeps each datagram by itself
//
// Of each direction the first 16 KiB are kept, the rest is counted. Whatever
// could not be read is counted too: a verdict must know what it did not see.
package capture

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Window is how many bytes of each direction of a flow are kept.
const Window = 16 << 10

// MaxWindow is the most that Limits.Keep may ask for.
const MaxWindow = 16 << 20

// File is what one capture file holds.
type File struct {
	// Flows in the order they began.
	Flows  []*Flow
	Counts Counts
	// Cut: the file ends in the middle of a packet, so its writer was stopped.
	Cut bool
}

// sort puts flows in the order they began.
func (f *File) sort() {
	slices.SortFunc(f.Flows, func(a, b *Flow) int { return cmp.Compare(a.Number, b.Number) })
}

// Counts say how much of a capture became flows. Packets is the sum of the
// flows' packets, Beyond, NotIP, Control, Fragments, Reassembled, Undecoded, Late
// and Excess.
type Counts struct {
	Packets int
	// NotIP frames are ARP and the like: no workload's payload.
	NotIP int
	// Control packets are IP's own: ICMP other than echo, neighbour discovery,
	// IGMP, OSPF and the like: no workload's payload either.
	Control int
	// Fragments of IP packets could not be put together: others are missing, or
	// they contradict each other.
	Fragments int
	// Reassembled fragments became part of a packet; the one that completed it
	// counts as that packet.
	Reassembled int
	// Undecoded packets are malformed, or cut off inside their headers, or of a
	// type that is not known here.
	Undecoded int
	// Unread says what the Undecoded ones are: "link type 147", "EtherType 0x8915".
	Unread map[string]int
	// Beyond are packets of flows that had been handed over for want of memory when
	// no more of them would be kept: their verdict is not changed by it, only their
	// own counts are too low.
	Beyond int
	// Late segments carry no payload and belong to flows that had ended.
	Late int
	// Excess packets belong to more flows than a File keeps.
	Excess int
	// Flows that were begun, and of them Evicted ones, which were given up before
	// their end, to bound memory.
	Flows   int
	Evicted int
	// Dropped packets were lost by the capture itself, as its file says; they are
	// not among Packets.
	Dropped int
}

// Proto is what carries a flow: the transport where it has ports, else the
// protocol on top of IP or the link.
type Proto string

// Protocols with a meaning here. Any other IP protocol is "ip-" and its number.
const (
	TCP    Proto = "tcp"
	UDP    Proto = "udp"
	ICMP   Proto = "icmp" // echo only: all else is between machines, not workloads
	ICMPv6 Proto = "icmpv6"
	SCTP   Proto = "sctp"
	ESP    Proto = "esp"    // RFC 4303, from its SPI on; also in UDP on port 4500
	MACsec Proto = "macsec" // IEEE 802.1AE frames that are encrypted, from the SecTAG on
)

// Flow is one TCP connection, or all datagrams between two ends, or what was
// seen of it.
type Flow struct {
	// Number counts flows in the order of their first packets, from 1.
	Number int
	Proto  Proto
	// Client opened the flow toward Server. Where Opened is false nothing shows
	// who did: of TCP the side with the higher port number is taken for the
	// client, of all else the sender of the first packet. Ports are 0 where the
	// protocol has none.
	Client, Server netip.AddrPort
	Opened         bool
	// MAC addresses in the same order, of a MACsec flow only: it has no others.
	ClientMAC, ServerMAC [6]byte
	// Vantage is the interface it was captured on, as the file or the live
	// capture names it; a flow seen on two is two flows. Empty if there is one.
	Vantage string
	// Overlay is what the flow was carried in, the outermost first, such as
	// "vxlan 42" or "gre, ipip"; empty if in nothing. VLANs are no overlay.
	Overlay  string
	ToServer Direction
	ToClient Direction
	// Reset: one side aborted the connection.
	Reset bool
	// Evicted: given up before its end, to bound memory. Continues is the number
	// of the evicted flow that this one goes on with, or 0, as far as is known.
	Evicted     bool
	Continues   int
	First, Last time.Time

	state state
}

// Direction is one half of a flow.
type Direction struct {
	Packets int
	// Bytes of payload on the wire; what was sent again counts again.
	Bytes int64
	// Chunks are the bytes kept, in order. Of TCP, a direction that was seen whole
	// has one chunk, at offset 0, and between two chunks bytes are missing. Of all
	// else each chunk is one datagram.
	Chunks []Chunk
	// Missing bytes were sent, as sequence and acknowledgement numbers show, but
	// are not in the file.
	Missing int64
	// Conflict: bytes were sent again with another content. Which of them the
	// receiver took cannot be known.
	Conflict bool
	// Began and Ended: the SYN and the FIN were seen.
	Began, Ended bool

	// stream holds what was kept. Stale: it has changed since it was last turned
	// into the above.
	stream stream
	stale  bool
}

// Chunk is a run of bytes without a gap, or one datagram.
type Chunk struct {
	// Offset from the first byte of the direction; where Began is false, from
	// the first byte seen. Of datagrams, what came before this one was sent.
	Offset int
	Data   []byte
	// Cut bytes of a datagram follow Data, but were not kept, by the capture or
	// by us.
	Cut int

	marks  []mark
	packet int // that brought it, of a datagram
}

// mark says which packet brought the bytes from an offset on: the offset, which
// is at most MaxWindow, in the upper 25 bits, and the packet's number below.
type mark uint64

const packetBits = 39

func markOf(offset, packet int) mark {
	return mark(offset)<<packetBits | mark(packet)&(1<<packetBits-1)
}

func (m mark) offset() int { return int(m >> packetBits) }
func (m mark) packet() int { return int(m & (1<<packetBits - 1)) }

// Start is the direction's beginning: the bytes from the very first one up to
// the first gap. It is empty if the beginning was not seen.
func (d *Direction) Start() []byte {
	if !d.Began || len(d.Chunks) == 0 || d.Chunks[0].Offset != 0 {
		return nil
	}
	return d.Chunks[0].Data
}

// Packet is the number in the file, from 1, of the packet that brought the
// chunk's byte at index i.
func (c Chunk) Packet(i int) int {
	packet := c.packet
	for _, m := range c.marks {
		if m.offset() > c.Offset+i {
			break
		}
		packet = m.packet()
	}
	return packet
}
