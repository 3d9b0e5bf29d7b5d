package capture

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Open reads the capture file at path.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	defer f.Close()
	file, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("capture: %s: %w", path, err)
	}
	return file, nil
}

// ReadAll reads the capture file at path.
func ReadAll(path string) (*File, error) { return Open(path) }

// Read reads a capture in pcap or pcapng format, or gzip of either. Packets that
// make no sense are counted and passed over; an error means that r holds no
// capture at all, or that it cannot be read on.
func Read(r io.Reader) (*File, error) {
	src, err := OpenSource(r, "")
	if err != nil {
		return nil, err
	}
	file := &File{}
	table := NewTable(Limits{Flows: maxFlows}, func(f *Flow) { file.Flows = append(file.Flows, f) })
	err = table.Read(src)
	file.Counts = table.Close()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		file.Cut, err = true, nil
	}
	if err != nil {
		return nil, err
	}
	return file, nil
}

// OpenSource reads a capture in pcap or pcapng format, or gzip of either; name
// is what errors call it. Vantage is the interface's name where a pcapng file
// has several.
func OpenSource(r io.Reader, name string) (Source, error) {
	src, err := open(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s: not a pcap or pcapng file: %w", name, err)
	}
	return &fileSource{source: src}, nil
}

// source is one of the two formats.
type source interface {
	// next returns a packet, valid until the next call, and its link type.
	next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error)
}

type fileSource struct {
	source
	number int
}

func (s *fileSource) Next(f *Frame) error {
	data, info, link, err := s.next()
	if err != nil {
		return err
	}
	s.number++
	*f = Frame{Data: data, Length: info.Length, Time: info.Timestamp, Link: link, Number: s.number}
	return nil
}

// open tells the formats apart by their first four bytes.
func open(r *bufio.Reader) (source, error) {
	magic, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}) {
		ng, err := pcapgo.NewNgReader(r, pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return nil, err
		}
		return pcapng{ng}, nil
	}
	old, err := pcapgo.NewReader(r)
	if err != nil {
		return nil, err
	}
	return pcap{old}, nil
}

type pcap struct{ *pcapgo.Reader }

func (p pcap) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	data, info, err := p.ZeroCopyReadPacketData()
	return data, info, p.LinkType(), err
}

type pcapng struct{ *pcapgo.NgReader }

func (p pcapng) next() ([]byte, gopacket.CaptureInfo, layers.LinkType, error) {
	data, info, err := p.ZeroCopyReadPacketData()
	if err != nil {
		return nil, info, 0, err
	}
	iface, err := p.Interface(info.InterfaceIndex)
	return data, info, iface.LinkType, err
}
