// Package pcapng writes captures that a person can read: with the names of
// workloads beside their addresses, what each interface is and which way its
// packets went, comments on packets, drop counts, and the keys to what is sealed.
//
//	file ──► Section Header        who wrote it, on what
//	         Interface Description one for each workload and node
//	         Name Resolution       addresses to names
//	         Decryption Secrets    key log of TLS, whenever there is some
//	         Enhanced Packet …     nanoseconds, direction, comment
//	         Interface Statistics  received and dropped, at the end
//
// The format is draft-ietf-opsawg-pcapng. A Writer writes one such file to
// anything; a File writes to disk and may go on in a next file when one is full,
// each complete by itself.
package pcapng

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// Head is what a file begins with.
type Head struct {
	// Application, OS and Hardware that capture; Comment is for the reader.
	Application, OS, Hardware, Comment string
	// Interfaces in the order of the numbers that packets name them by, from 0.
	Interfaces []Interface
	Names      []Name
}

// Interface is where packets are captured.
type Interface struct {
	Name, Description string
	Link              layers.LinkType
	// SnapLen is how many bytes of a packet are kept at most; 0 is no limit.
	SnapLen int
	// Filter in the language of pcap-filter(7), empty if there is none.
	Filter string
}

// Name gives an address its names, the one to show first.
type Name struct {
	Addr  netip.Addr
	Names []string
}

// Direction of a packet as its interface sees it.
type Direction uint32

// Directions, as epb_flags has them.
const (
	Unknown  Direction = 0
	Inbound  Direction = 1
	Outbound Direction = 2
)

// Packet is one packet of an interface.
type Packet struct {
	Interface int
	Time      time.Time
	Direction Direction
	Data      []byte
	// Length on the wire, at least that of Data.
	Length  int
	Comment string
}

// Statistics of one interface. Received counts what was dropped, too.
type Statistics struct {
	Interface         int
	Start, End        time.Time
	Received, Dropped uint64
}

// Block types.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6
	blockSecrets    = 10
)

// secretsTLS is a key log in the format of NSS.
const secretsTLS = 0x544c534b

// namesPerBlock keeps blocks far below what readers take, 16 MiB.
const namesPerBlock = 1000

// Writer writes one file. What was written is in the underlying writer once
// Flush has returned. It is not safe for concurrent use.
type Writer struct {
	out        io.Writer
	pending    []byte // whole blocks, not yet in out
	size       int64  // of the file so far, pending included
	interfaces int
}

// flushAt is how many bytes wait for Flush before they are written anyway.
const flushAt = 256 << 10

// NewWriter begins a file.
func NewWriter(out io.Writer, head Head) (*Writer, error) {
	w := &Writer{out: out, interfaces: len(head.Interfaces)}
	if err := w.section(head); err != nil {
		return nil, err
	}
	for _, i := range head.Interfaces {
		if err := w.describe(i); err != nil {
			return nil, err
		}
	}
	for names := head.Names; len(names) > 0; {
		n := min(len(names), namesPerBlock)
		if err := w.names(names[:n]); err != nil {
			return nil, err
		}
		names = names[n:]
	}
	return w, w.Flush()
}

func (w *Writer) section(head Head) error {
	b := w.begin(blockSection)
	b.u32(0x1a2b3c4d)
	b.u16(1) // version 1.0
	b.u16(0)
	b.u64(math.MaxUint64) // of unknown length
	b.text(1, head.Comment)
	b.text(2, head.Hardware)
	b.text(3, head.OS)
	b.text(4, head.Application)
	return b.end()
}

func (w *Writer) describe(i Interface) error {
	if i.SnapLen < 0 {
		return fmt.Errorf("pcapng: interface %s: snapshot length %d: must not be negative", i.Name, i.SnapLen)
	}
	b := w.begin(blockInterface)
	b.u16(uint16(i.Link))
	b.u16(0)
	b.u32(uint32(i.SnapLen))
	b.text(2, i.Name)
	b.text(3, i.Description)
	b.option(9, []byte{9}) // timestamps count nanoseconds
	if i.Filter != "" {
		b.option(11, append([]byte{0}, i.Filter...))
	}
	return b.end()
}

// Record types of a Name Resolution Block.
const (
	recordEnd  = 0
	recordIPv4 = 1
	recordIPv6 = 2
)

func (w *Writer) names(names []Name) error {
	b := w.begin(blockNames)
	for _, n := range names {
		record := uint16(recordIPv6)
		if n.Addr.Is4() {
			record = recordIPv4
		}
		if err := n.validate(); err != nil {
			b.err = err
			break
		}
		value := n.Addr.AsSlice()
		for _, name := range slices.Backward(n.Names) { // Wireshark shows the last
			value = append(append(value, name...), 0)
		}
		b.option(record, value)
	}
	b.u16(recordEnd)
	b.u16(0)
	return b.end()
}

func (n Name) validate() error {
	if !n.Addr.IsValid() || len(n.Names) == 0 {
		return fmt.Errorf("pcapng: names %q of address %v: both must be there", n.Names, n.Addr)
	}
	for _, name := range n.Names {
		if name == "" || strings.ContainsRune(name, 0) {
			return fmt.Errorf("pcapng: name %q of %s: must neither be empty nor contain NUL", name, n.Addr)
		}
	}
	return nil
}

// Secrets adds a key log in the format of NSS. Readers want it before the packets
// it decrypts.
func (w *Writer) Secrets(keyLog []byte) error {
	b := w.begin(blockSecrets)
	b.u32(secretsTLS)
	b.u32(uint32(len(keyLog)))
	b.padded(keyLog)
	return b.end()
}

// Packet adds one packet. Its data is not kept.
func (w *Writer) Packet(p *Packet) error {
	if p.Interface < 0 || p.Interface >= w.interfaces {
		return fmt.Errorf("pcapng: packet of interface %d: there are %d", p.Interface, w.interfaces)
	}
	if p.Length < len(p.Data) || int64(p.Length) > math.MaxUint32 {
		return fmt.Errorf("pcapng: packet of %d bytes with a length of %d", len(p.Data), p.Length)
	}
	b := w.begin(blockPacket)
	b.u32(uint32(p.Interface))
	b.time(p.Time)
	b.u32(uint32(len(p.Data)))
	b.u32(uint32(p.Length))
	b.padded(p.Data)
	b.text(1, p.Comment)
	if p.Direction != Unknown {
		b.option(2, []byte{byte(p.Direction), 0, 0, 0})
	}
	return b.end()
}

// Statistics adds the counts of one interface.
func (w *Writer) Statistics(s Statistics) error {
	if s.Interface < 0 || s.Interface >= w.interfaces {
		return fmt.Errorf("pcapng: statistics of interface %d: there are %d", s.Interface, w.interfaces)
	}
	b := w.begin(blockStatistics)
	b.u32(uint32(s.Interface))
	b.time(s.End)
	b.optionTime(2, s.Start)
	b.optionTime(3, s.End)
	b.option64(4, s.Received)
	// The kernel's buffer was full: isb_osdrop by the letter of the format, but
	// isb_ifdrop is what dumpcap writes and Wireshark shows. Readers may add the two.
	b.option64(5, s.Dropped)
	return b.end()
}

// Flush writes what waits.
func (w *Writer) Flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	n, err := w.out.Write(w.pending)
	if err == nil && n < len(w.pending) {
		err = io.ErrShortWrite
	}
	w.pending = w.pending[:0]
	if err != nil {
		return fmt.Errorf("pcapng: %w", err)
	}
	return nil
}

// Size of the file so far in bytes, with what waits for Flush.
func (w *Writer) Size() int64 { return w.size }

var errTooLong = errors.New("pcapng: a text is longer than the 65535 bytes of an option")
