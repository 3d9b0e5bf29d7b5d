// Package live captures packets from the interfaces of this machine, in any
// network namespace, without libpcap.
//
//	namespace.go  find interfaces, enter their namespace    (a thread of its own)
//	filter.go     what to capture, as a program of classic BPF      (pure)
//	handle.go     one socket per interface, and its ring of blocks
//	merge.go      several handles, one source, roughly in order of time
//
// The kernel writes packets into a ring of blocks that is mapped into our memory
// (AF_PACKET, TPACKET_V3), and hands over a block when it is full or 20 ms old. A
// packet is read where it lies; its block goes back when the next one is asked
// for. Packets that find no free block are lost, and counted: Stats.
//
// A capture ends in order when its context does: all packets up to that moment
// are still handed over. It ends early, with ErrGone, when its interfaces go away:
// nobody can tell what they carried since.
//
// What never passes the kernel's taps cannot be captured, by tcpdump neither:
// packets of AF_XDP sockets and of PACKET_QDISC_BYPASS, those that XDP sends back,
// and, at the node's end of a workload's link, those that eBPF hands straight to
// the workload. Capture inside the workload to see the latter.
package live

import (
	"errors"
	"fmt"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// ErrGone means that an interface went down or away while it was captured.
var ErrGone = errors.New("the interface went away")

// Config says what to capture.
type Config struct {
	// Netns is the path of a network namespace; the own one if empty.
	Netns string
	// Interface by name.
	Interface string
	// Vantage is what frames say they come from; Interface if empty.
	Vantage string
	// SnapLen is how many bytes of a packet are kept; 0 is MaxSnapLen.
	SnapLen int
	Filter  Filter
	// Buffer is the size of the ring in bytes; 0 is DefaultBuffer.
	Buffer int
	// Promiscuous takes what is for other machines too.
	Promiscuous bool

	cooked bool // whatever the device is
}

// Bounds of a Config.
const (
	// MaxSnapLen is more than any packet but those of IPv6 jumbograms and BIG TCP.
	MaxSnapLen = blockSize - 256
	// DefaultBuffer holds 30 ms of a 10 Gbit/s link, or some seconds of a quiet one.
	DefaultBuffer = 32 << 20
	minBuffer     = 8 * blockSize
	maxBuffer     = 1 << 30
)

// blockSize of the ring, and how long a block that is not full may wait.
const (
	blockSize = 128 << 10
	retire    = 20 * time.Millisecond
)

// Validate reports every problem.
func (c Config) Validate() error {
	var problems []error
	if c.Interface == "" {
		problems = append(problems, errors.New("no interface is named"))
	}
	if c.SnapLen < 0 || c.SnapLen > MaxSnapLen {
		problems = append(problems, fmt.Errorf("snapshot length %d: must be 1 to %d bytes", c.SnapLen, MaxSnapLen))
	}
	if c.Buffer != 0 && (c.Buffer < minBuffer || c.Buffer > maxBuffer) {
		problems = append(problems, fmt.Errorf("buffer of %d bytes: must be %d to %d", c.Buffer, minBuffer, maxBuffer))
	}
	return errors.Join(append(problems, c.Filter.Validate())...)
}

// Direction of a packet as its interface sees it.
type Direction uint8

// Directions.
const (
	Inbound Direction = iota + 1
	Outbound
)

// Link types of devices, by ARPHRD_* of linux/if_arp.h. All others are captured
// cooked: their headers are replaced by one that says the protocol.
func linkType(hardware uint16) layers.LinkType {
	switch hardware {
	case 1, 772: // ARPHRD_ETHER, ARPHRD_LOOPBACK
		return layers.LinkTypeEthernet
	case 519, 768, 769, 776, 0xfffe: // ARPHRD_RAWIP, _TUNNEL, _TUNNEL6, _SIT, _NONE
		return layers.LinkTypeRaw
	}
	return layers.LinkTypeLinuxSLL
}
