package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket/layers"
)

// The readers are our own, and not gopacket's: that of pcapng does not hand out
// secrets behind the first interface, believes any length, and makes garbage of
// every option; that of pcap refuses records longer than their packet. Both copy
// each packet, which these do not.

// records reads a file record by record, without copying.
type records struct {
	r    *bufio.Reader
	name string
	// pending bytes of the record that was handed out last are still to be passed.
	pending int
	number  int // of packets so far
}

// peek returns the next n bytes of the record, from its beginning. Where begins
// is true, this may be the end of the file.
func (s *records) peek(n int, begins bool) ([]byte, error) {
	if s.pending > 0 {
		_, _ = s.r.Discard(s.pending) // they have been peeked at
		s.pending = 0
	}
	b, err := s.r.Peek(n)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, io.EOF) && (!begins || len(b) > 0):
		return nil, io.ErrUnexpectedEOF
	}
	return nil, err
}

// fail says which packet could not be read.
func (s *records) fail(err error) error {
	if errors.Is(err, io.EOF) {
		return err
	}
	where := fmt.Sprintf("packet %d", s.number+1)
	if s.name != "" {
		where = s.name + ": " + where
	}
	return fmt.Errorf("%s: %w", where, err)
}

// pcap reads the classic format: a header, and packets with a header each
// (draft-ietf-opsawg-pcap).
type pcap struct {
	records
	order  binary.ByteOrder
	little bool
	unit   int64 // nanoseconds
	header int   // length of a packet's
	link   layers.LinkType
}

const pcapHeader = 24

// newPcap reads the header of a file.
func newPcap(r *bufio.Reader, name string) (Source, error) {
	s := &pcap{records: records{r: r, name: name}, unit: 1000, header: 16}
	h, err := s.peek(pcapHeader, false)
	if err != nil {
		return nil, err
	}
	s.little = h[0] != 0xa1
	s.order = binary.ByteOrder(binary.BigEndian)
	if s.little {
		s.order = binary.LittleEndian
	}
	const micro, nano, kuznetzov = 0xa1b2c3d4, 0xa1b23c4d, 0xa1b2cd34
	switch magic := s.order.Uint32(h); magic {
	case micro:
	case nano:
		s.unit = 1
	case kuznetzov: // with eight bytes more before each packet
		s.header = 24
	default:
		return nil, fmt.Errorf("begins with %x", h[:4])
	}
	if major := s.order.Uint16(h[4:]); major != 2 {
		return nil, fmt.Errorf("pcap version %d, only 2 is known", major)
	}
	s.link = layers.LinkType(s.order.Uint32(h[20:])) // the upper bits are about checksums
	s.pending = pcapHeader
	return s, nil
}

// u32 is inlined, as a call by interface is not.
func (s *pcap) u32(b []byte) uint32 {
	if s.little {
		return binary.LittleEndian.Uint32(b)
	}
	return binary.BigEndian.Uint32(b)
}

// Next implements Source.
func (s *pcap) Next(f *Frame) error {
	h, err := s.peek(s.header, true)
	if err != nil {
		return s.fail(err)
	}
	kept := int(s.u32(h[8:]))
	if kept > maxRecord {
		return s.fail(fmt.Errorf("record of %d bytes, at most %d are believed", kept, maxRecord))
	}
	b, err := s.peek(s.header+kept, false)
	if err != nil {
		return s.fail(err)
	}
	s.number++
	s.pending = len(b)
	f.Data, f.Length = b[s.header:], int(s.u32(b[12:]))
	f.Time = time.Unix(int64(s.u32(b)), int64(s.u32(b[4:]))*s.unit)
	f.Link, f.Vantage, f.Number = s.link, "", s.number
	return nil
}
