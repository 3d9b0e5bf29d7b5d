package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// Blocks of pcapng (draft-ietf-opsawg-pcapng, section 4). All others are skipped.
const (
	blockInterface  = 1
	blockOldPacket  = 2
	blockSimple     = 3
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6
	blockSecrets    = 10
	blockSection    = 0x0a0d0d0a
)

// Bounds of what a file may say beside packets.
const (
	maxInterfaces = 1 << 12
	maxSecrets    = 16 << 20
	maxNames      = 1 << 16
)

// pcapng reads sections of blocks.
type pcapng struct {
	records
	order      binary.ByteOrder
	interfaces []iface // of this section
	last       time.Time

	// ours: the section is a capture of our own, which ends with the statistics of
	// each interface. One that has none was killed, or has lost the interface.
	ours bool
	// Of sections before this one:
	dropped int
	unended bool
	secrets []byte
	names   map[netip.Addr][]string
}

// iface is one of the interfaces of a section.
type iface struct {
	link        layers.LinkType
	snaplen     int
	name        string
	description string
	// vantage is what frames of it say. It is decided when the first one comes.
	vantage string
	decided bool
	// Time is counted in 1/perSecond from offset.
	perSecond uint64
	offset    int64
	dropped   int
	ended     bool // it has statistics
}

// ErrUnended is how a capture of ours ends that has no statistics: it was killed,
// or lost an interface, or has been edited. Nobody knows what it dropped.
var ErrUnended = fmt.Errorf("a capture without its end: %w", io.ErrUnexpectedEOF)

// application is what our own captures say they are written by.
const application = "sealmesh "

func newPcapng(r *bufio.Reader, name string) (Source, error) {
	s := &pcapng{records: records{r: r, name: name}, names: make(map[netip.Addr][]string)}
	if _, err := s.section(); err != nil {
		return nil, err
	}
	return s, nil
}

// Next implements Source.
func (s *pcapng) Next(f *Frame) error {
	for {
		found, err := s.block(f)
		if errors.Is(err, io.EOF) && (s.unended || s.lacksEnd()) {
			err = ErrUnended
		}
		if err != nil {
			return s.fail(err)
		}
		if found {
			s.number++
			f.Number = s.number
			return nil
		}
	}
}

// block reads one block. It reports whether that was a packet.
func (s *pcapng) block(f *Frame) (packet bool, err error) {
	h, err := s.peek(8, true)
	if err != nil {
		return false, err
	}
	if binary.BigEndian.Uint32(h) == blockSection {
		return s.section()
	}
	kind, length := s.order.Uint32(h), s.order.Uint32(h[4:])
	if length < 12 || length%4 != 0 {
		return false, fmt.Errorf("block of %d bytes", length)
	}
	if kind == blockSecrets {
		return false, s.keys(int64(length))
	}
	switch kind {
	case blockPacket, blockOldPacket, blockSimple, blockInterface, blockNames, blockStatistics:
	default:
		return false, s.pass(int64(length))
	}
	if length > bufferSize {
		return false, fmt.Errorf("block of %d bytes, at most %d are believed", length, bufferSize)
	}
	b, err := s.peek(int(length), false)
	if err != nil {
		return false, err
	}
	if s.order.Uint32(b[length-4:]) != length {
		return false, errors.New("a block does not end as it begins")
	}
	s.pending = len(b)
	return s.body(kind, b[8:length-4], f)
}

// body reads what a block says. It reports whether that was a packet.
func (s *pcapng) body(kind uint32, b []byte, f *Frame) (packet bool, err error) {
	if len(b) < bodyLengths[kind] {
		return false, errShort
	}
	u32 := s.order.Uint32
	switch kind {
	case blockPacket:
		return true, s.packet(f, b[20:], record{u32(b), s.ticks(b[4:]), u32(b[12:]), u32(b[16:])})
	case blockOldPacket:
		return true, s.packet(f, b[20:], record{uint32(s.order.Uint16(b)), s.ticks(b[4:]), u32(b[12:]), u32(b[16:])})
	case blockSimple: // of the first interface, and without a time
		kept := u32(b)
		if len(s.interfaces) > 0 && s.interfaces[0].snaplen > 0 {
			kept = min(kept, uint32(s.interfaces[0].snaplen))
		}
		last := s.last
		err := s.packet(f, b[4:], record{0, 0, kept, u32(b)})
		f.Time, s.last = last, last
		return true, err
	case blockInterface:
		return false, s.iface(b)
	case blockStatistics:
		return false, s.statistics(b)
	}
	s.resolve(b)
	return false, nil
}

// bodyLengths are the least, by kind of block.
var bodyLengths = [...]int{blockInterface: 8, blockOldPacket: 20, blockSimple: 4, blockStatistics: 12, blockPacket: 20}

// record is what a packet block says of its packet.
type record struct {
	iface  uint32
	ticks  uint64
	kept   uint32
	length uint32
}

// ticks are written as two halves, the upper one first in either byte order.
func (s *pcapng) ticks(b []byte) uint64 {
	return uint64(s.order.Uint32(b))<<32 | uint64(s.order.Uint32(b[4:]))
}

// packet makes a frame of a packet and what the block holds behind its header.
func (s *pcapng) packet(f *Frame, b []byte, r record) error {
	switch {
	case int64(r.iface) >= int64(len(s.interfaces)):
		return fmt.Errorf("of interface %d, but there are %d", r.iface, len(s.interfaces))
	case int64(r.kept) > int64(len(b)):
		return fmt.Errorf("%d bytes, in a block that holds %d", r.kept, len(b))
	}
	i := &s.interfaces[r.iface]
	s.decide(int(r.iface))
	s.last = i.time(r.ticks)
	*f = Frame{Data: b[:r.kept], Length: int(r.length), Time: s.last, Link: i.link, Vantage: i.vantage}
	return nil
}

// decide names the vantage of an interface, once: by the interface's name, unless
// it is the only one so far.
func (s *pcapng) decide(n int) {
	i := &s.interfaces[n]
	if i.decided {
		return
	}
	i.decided = true
	if len(s.interfaces) == 1 {
		return
	}
	i.vantage = i.name
	if i.vantage == "" {
		i.vantage = i.description
	}
	for other := range s.interfaces {
		if o := &s.interfaces[other]; i.vantage == "" || other != n && o.decided && o.vantage == i.vantage {
			i.vantage = fmt.Sprintf("%s#%d", i.name, n)
		}
	}
}

// pass goes on behind n bytes, which may be more than memory holds.
func (s *pcapng) pass(n int64) error {
	for n > 0 {
		step := int(min(n, bufferSize))
		if _, err := s.peek(step, false); err != nil {
			return err
		}
		s.pending = step
		n -= int64(step)
	}
	return nil
}

var errShort = errors.New("a block is shorter than what it has to say")

// section begins anew: byte order and interfaces are a section's own.
func (s *pcapng) section() (bool, error) {
	h, err := s.peek(16, false)
	if err != nil {
		return false, err
	}
	const magic = 0x1a2b3c4d
	switch {
	case binary.LittleEndian.Uint32(h[8:]) == magic:
		s.order = binary.LittleEndian
	case binary.BigEndian.Uint32(h[8:]) == magic:
		s.order = binary.BigEndian
	default:
		return false, errors.New("a section without a byte order")
	}
	length, major := s.order.Uint32(h[4:]), s.order.Uint16(h[12:])
	if length < 28 || length%4 != 0 {
		return false, fmt.Errorf("section header of %d bytes", length)
	}
	if major != 1 {
		return false, fmt.Errorf("pcapng version %d, only 1 is known", major)
	}
	s.dropped, s.unended = s.Dropped(), s.unended || s.lacksEnd()
	s.interfaces, s.ours = s.interfaces[:0], false
	if length > bufferSize {
		return false, s.pass(int64(length))
	}
	b, err := s.peek(int(length), false)
	if err != nil {
		return false, err
	}
	s.pending = len(b)
	const header, program = 24, 4
	s.options(b[header:length-4], func(code uint16, v []byte) {
		s.ours = s.ours || code == program && bytes.HasPrefix(v, []byte(application))
	})
	return false, nil
}

// lacksEnd reports whether the section is ours, and stops before its end.
func (s *pcapng) lacksEnd() bool {
	return s.ours && slices.ContainsFunc(s.interfaces, func(i iface) bool { return !i.ended })
}

// options are the properties of a block.
func (s *pcapng) options(b []byte, each func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, length := s.order.Uint16(b), int(s.order.Uint16(b[2:]))
		if code == 0 || len(b)-4 < length {
			return
		}
		each(code, b[4:4+length])
		b = b[min(len(b), 4+(length+3)&^3):]
	}
}

// iface reads an interface description.
func (s *pcapng) iface(b []byte) error {
	if len(s.interfaces) == maxInterfaces {
		return fmt.Errorf("more than %d interfaces", maxInterfaces)
	}
	i := iface{link: layers.LinkType(s.order.Uint16(b)), snaplen: int(s.order.Uint32(b[4:])), perSecond: 1e6}
	const name, description, resolution, offset = 2, 3, 9, 14
	s.options(b[8:], func(code uint16, v []byte) {
		switch {
		case code == name:
			i.name = string(v)
		case code == description:
			i.description = string(v)
		case code == resolution && len(v) == 1:
			i.perSecond = perSecond(v[0])
		case code == offset && len(v) == 8:
			i.offset = int64(s.order.Uint64(v))
		}
	})
	s.interfaces = append(s.interfaces, i)
	return nil
}

// perSecond reads a resolution: a negative power of ten, or of two. One that is
// finer than 64 bits can count is as fine as they can.
func perSecond(v byte) uint64 {
	if v&0x80 != 0 {
		return 1 << min(v&0x7f, 63)
	}
	unit := uint64(1)
	for range min(v, 19) {
		unit *= 10
	}
	return unit
}

// time of a packet on an interface.
func (i *iface) time(ticks uint64) time.Time {
	high, low := bits.Mul64(ticks%i.perSecond, 1e9)
	nanos, _ := bits.Div64(high, low, i.perSecond)
	return time.Unix(int64(ticks/i.perSecond)+i.offset, int64(nanos))
}

// statistics reads how many packets were lost on an interface so far.
func (s *pcapng) statistics(b []byte) error {
	n := s.order.Uint32(b)
	if int64(n) >= int64(len(s.interfaces)) {
		return fmt.Errorf("statistics of interface %d, but there are %d", n, len(s.interfaces))
	}
	const byInterface, bySystem = 5, 7
	dropped := uint64(0)
	s.options(b[12:], func(code uint16, v []byte) {
		if (code == byInterface || code == bySystem) && len(v) == 8 {
			dropped += min(s.order.Uint64(v), math.MaxInt32)
		}
	})
	s.interfaces[n].dropped, s.interfaces[n].ended = int(dropped), true
	return nil
}

// Dropped implements Dropping.
func (s *pcapng) Dropped() int {
	sum := s.dropped
	for i := range s.interfaces {
		sum += s.interfaces[i].dropped
	}
	return sum
}

// keys reads a block of secrets; those of TLS are text.
func (s *pcapng) keys(length int64) error {
	const tls, header, trailer = 0x544c534b, 16, 4
	if length < header+trailer {
		return errShort
	}
	h, err := s.peek(header, false)
	if err != nil {
		return err
	}
	kind, size := s.order.Uint32(h[8:]), int64(s.order.Uint32(h[12:]))
	s.pending = header
	length -= header
	if size > length-trailer {
		return errShort
	}
	for kind == tls && size > 0 && int64(len(s.secrets))+size <= maxSecrets {
		b, err := s.peek(int(min(size, bufferSize)), false)
		if err != nil {
			return err
		}
		s.secrets = append(s.secrets, b...)
		s.pending = len(b)
		length -= int64(len(b))
		size -= int64(len(b))
	}
	if n := len(s.secrets); n > 0 && s.secrets[n-1] != '\n' {
		s.secrets = append(s.secrets, '\n')
	}
	return s.pass(length)
}

// Secrets implements Secretive.
func (s *pcapng) Secrets() []byte { return s.secrets }

// resolve reads names of addresses. Records that make no sense are passed over,
// as nothing depends on them.
func (s *pcapng) resolve(b []byte) {
	const ip4, ip6 = 1, 2
	s.options(b, func(kind uint16, v []byte) {
		size := map[uint16]int{ip4: 4, ip6: 16}[kind]
		if size == 0 || len(v) < size {
			return
		}
		addr, _ := netip.AddrFromSlice(v[:size])
		for name := range bytes.SplitSeq(v[size:], []byte{0}) {
			if len(name) > 0 && len(s.names) < maxNames && len(s.names[addr]) < 16 && !slices.Contains(s.names[addr], string(name)) {
				s.names[addr] = append(s.names[addr], string(name))
			}
		}
	})
}

// Names implements Naming.
func (s *pcapng) Names() map[netip.Addr][]string { return s.names }
