package live

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Handle captures one interface. It is not safe for concurrent use, but for Stats.
type Handle struct {
	vantage string
	link    layers.LinkType
	snapLen int
	fd      int
	ring    []byte

	block int    // the block being read
	held  bool   // it is ours
	left  uint32 // packets of it that were not read yet
	empty bool   // there was none when choose looked
	at    int    // where the next of them begins in the ring

	direction         Direction
	gone              error
	goneAt            time.Time
	received, dropped atomic.Uint64
}

// Open begins to capture an interface.
func Open(c Config) (*Handle, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	h := &Handle{vantage: cmp.Or(c.Vantage, c.Interface), snapLen: cmp.Or(c.SnapLen, MaxSnapLen), fd: -1}
	if err := InNamespace(c.Netns, func() error { return h.open(c) }); err != nil {
		h.Close()
		return nil, fmt.Errorf("capture %s: %w", h.vantage, err)
	}
	return h, nil
}

// open makes the socket; nothing reaches it before it is bound to all protocols.
func (h *Handle) open(c Config) error {
	device, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return err
	}
	if device.Flags&net.FlagUp == 0 {
		return errors.New("the interface is down")
	}
	if h.link, err = linkOf(device.Index); err != nil {
		return err
	}
	kind := unix.SOCK_RAW
	if c.cooked || h.link == layers.LinkTypeLinuxSLL {
		h.link = layers.LinkTypeLinuxSLL
		kind = unix.SOCK_DGRAM
	}
	if h.fd, err = unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	if device.Flags&net.FlagLoopback != 0 { // each packet goes out and comes in: once is enough
		if err := unix.SetsockoptInt(h.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return fmt.Errorf("PACKET_IGNORE_OUTGOING: %w", err)
		}
	}
	if err := h.attach(c.Filter); err != nil {
		return err
	}
	if err := h.mapRing(cmp.Or(c.Buffer, DefaultBuffer) / blockSize); err != nil {
		return err
	}
	if c.Promiscuous {
		all := &unix.PacketMreq{Ifindex: int32(device.Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(h.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, all); err != nil {
			return fmt.Errorf("promiscuous: %w", err)
		}
	}
	return bind(h.fd, device.Index, unix.ETH_P_ALL)
}

func bind(fd, index int, protocol uint16) error {
	networkOrder := protocol<<8 | protocol>>8
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder, Ifindex: index}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// linkOf asks the kernel for the hardware type of a device.
func linkOf(index int) (layers.LinkType, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(fd)
	if err := bind(fd, index, 0); err != nil {
		return 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("getsockname: %w", err)
	}
	bound, ok := name.(*unix.SockaddrLinklayer)
	if !ok {
		return 0, fmt.Errorf("getsockname: address %T", name)
	}
	return linkType(bound.Hatype), nil
}

// attach gives the socket its filter, which also cuts packets to length.
func (h *Handle) attach(f Filter) error {
	code, err := f.compile(h.link, h.snapLen)
	if err != nil {
		return err
	}
	filters := make([]unix.SockFilter, len(code))
	for i, c := range code {
		filters[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	program := &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}
	if err := unix.SetsockoptSockFprog(h.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, program); err != nil {
		return fmt.Errorf("attach filter of %d instructions: %w", len(code), err)
	}
	return nil
}

// reserve is room before each packet: for a VLAN tag, or for a cooked header.
const reserve = 16

func (h *Handle) mapRing(blocks int) error {
	if err := unix.SetsockoptInt(h.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("TPACKET_V3: %w", err)
	}
	if err := unix.SetsockoptInt(h.fd, unix.SOL_PACKET, unix.PACKET_RESERVE, reserve); err != nil {
		return fmt.Errorf("PACKET_RESERVE: %w", err)
	}
	const frameSize = 2048 // of no meaning to version 3, but it must divide blocks
	request := &unix.TpacketReq3{
		Block_size: blockSize, Block_nr: uint32(blocks),
		Frame_size: frameSize, Frame_nr: uint32(blocks * (blockSize / frameSize)),
		Retire_blk_tov: uint32(retire / time.Millisecond),
	}
	if err := unix.SetsockoptTpacketReq3(h.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, request); err != nil {
		return fmt.Errorf("ring of %d bytes: %w", blocks*blockSize, err)
	}
	var err error
	if h.ring, err = unix.Mmap(h.fd, 0, blocks*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map ring of %d bytes: %w", blocks*blockSize, err)
	}
	return nil
}

// Vantage is what frames say they come from.
func (h *Handle) Vantage() string { return h.vantage }

// Link is the link type of all frames.
func (h *Handle) Link() layers.LinkType { return h.link }

// SnapLen is how many bytes of a packet are kept.
func (h *Handle) SnapLen() int { return h.snapLen }

// Stats are what matched the filter since Open, and how much of it was lost for
// want of a free block.
func (h *Handle) Stats() (received, dropped uint64, err error) {
	fresh, err := unix.GetsockoptTpacketStatsV3(h.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS) // and sets them to zero
	if err != nil {
		return 0, 0, fmt.Errorf("capture %s: statistics: %w", h.vantage, err)
	}
	return h.received.Add(uint64(fresh.Packets)), h.dropped.Add(uint64(fresh.Drops)), nil
}

// Gone says that the interface went away, or nil.
func (h *Handle) Gone() error { return h.gone }

// finished reports whether the interface is gone, and the last block has come.
func (h *Handle) finished() bool { return h.gone != nil && time.Since(h.goneAt) >= hold }

// Close ends the capture. Frames must not be used any more.
func (h *Handle) Close() error {
	var failed []error
	if h.ring != nil {
		failed = append(failed, unix.Munmap(h.ring))
		h.ring = nil
	}
	if h.fd >= 0 {
		failed = append(failed, unix.Close(h.fd))
		h.fd = -1
	}
	return errors.Join(failed...)
}

// sizeofBlock and sizeofPacket are what precedes the packets of a block, and what
// precedes a packet.
const (
	offsetOfHdr  = 8 // of tpacket_block_desc
	sizeofBlock  = int(unsafe.Sizeof(unix.TpacketBlockDesc{}))
	sizeofPacket = int(unsafe.Sizeof(unix.Tpacket3Hdr{}))
	sizeofAddr   = int(unsafe.Sizeof(unix.RawSockaddrLinklayer{}))
)

// ready is when the next packet came, in nanoseconds since 1970, if there is one.
// A block that was read to its end goes back to the kernel.
func (h *Handle) ready() (int64, bool) {
	for h.left == 0 {
		if h.held {
			atomic.StoreUint32(&h.header().Block_status, unix.TP_STATUS_KERNEL)
			h.held = false
			h.block = (h.block + 1) % (len(h.ring) / blockSize)
		}
		header := h.header()
		if atomic.LoadUint32(&header.Block_status)&unix.TP_STATUS_USER == 0 {
			return 0, false
		}
		h.held, h.left, h.at = true, header.Num_pkts, h.block*blockSize+int(header.Offset_to_first_pkt)
	}
	p := h.packet()
	return int64(p.Sec)*int64(time.Second) + int64(p.Nsec), true
}

// header of the block being read.
func (h *Handle) header() *unix.TpacketHdrV1 {
	return (*unix.TpacketHdrV1)(unsafe.Pointer(&h.ring[h.block*blockSize+offsetOfHdr : h.block*blockSize+sizeofBlock][0]))
}

// packet is the header of the next packet.
func (h *Handle) packet() *unix.Tpacket3Hdr {
	return (*unix.Tpacket3Hdr)(unsafe.Pointer(&h.ring[h.at : h.at+sizeofPacket+sizeofAddr][0]))
}

// take reads the packet that is ready.
func (h *Handle) take(f *capture.Frame) {
	p := h.packet()
	from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&h.ring[h.at+sizeofPacket])) // packet has checked the bounds
	start, end := h.at+int(p.Mac), h.at+int(p.Mac)+int(p.Snaplen)
	*f = capture.Frame{
		Length: int(p.Len), Time: time.Unix(int64(p.Sec), int64(p.Nsec)),
		Link: h.link, Vantage: h.vantage,
	}
	h.direction = Inbound
	if from.Pkttype == unix.PACKET_OUTGOING {
		h.direction = Outbound
	}
	switch {
	case h.link == layers.LinkTypeLinuxSLL:
		start -= cook(h.ring[start-sllHeader:start], from)
		f.Length += sllHeader
	case p.Status&unix.TP_STATUS_VLAN_VALID != 0 && h.link == layers.LinkTypeEthernet && end-start >= 12:
		start -= tag(h.ring[start-vlanTag:start+12], p)
		f.Length += vlanTag
		end = min(end, start+h.snapLen)
	}
	f.Data = h.ring[start:end:end]
	h.left--
	h.at += int(p.Next_offset)
}

// vlanTag is the size of the tag that the kernel has taken off.
const vlanTag = 4

// tag puts a VLAN tag back behind the two link addresses, which move to its left.
func tag(b []byte, p *unix.Tpacket3Hdr) int {
	tpid := uint16(unix.ETH_P_8021Q)
	if p.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = p.Hv1.Vlan_tpid
	}
	copy(b, b[vlanTag:])
	binary.BigEndian.PutUint16(b[12:], tpid)
	binary.BigEndian.PutUint16(b[14:], uint16(p.Hv1.Vlan_tci))
	return vlanTag
}

// sllHeader is the size of the header of a cooked packet.
const sllHeader = 16

// cook writes it: packet type, hardware type, address, protocol.
func cook(b []byte, from *unix.RawSockaddrLinklayer) int {
	clear(b)
	binary.BigEndian.PutUint16(b[0:], uint16(from.Pkttype))
	binary.BigEndian.PutUint16(b[2:], from.Hatype)
	binary.BigEndian.PutUint16(b[4:], uint16(from.Halen))
	copy(b[6:14], from.Addr[:min(int(from.Halen), 8)])
	binary.NativeEndian.PutUint16(b[14:], from.Protocol) // it is in network order already
	return sllHeader
}
