package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
)

// maxFlows and maxBytes bound what a File holds.
const (
	maxFlows = 16 << 10
	maxBytes = 256 << 20
)

// Open reads the capture file at path into memory.
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

// ReadAll is Open.
func ReadAll(path string) (*File, error) { return Open(path) }

// Read reads a capture in pcap or pcapng format, or gzip of either, into memory.
// Packets that make no sense are counted and passed over; an error means that r
// holds no capture at all, or that it cannot be read on.
func Read(r io.Reader) (*File, error) {
	src, err := OpenSource(r, "")
	if err != nil {
		return nil, err
	}
	file, excess := &File{}, 0
	table := NewTable(Limits{Flows: maxFlows, Bytes: maxBytes}, func(f *Flow) {
		if len(file.Flows) == maxFlows {
			excess += f.ToServer.Packets + f.ToClient.Packets
			return
		}
		file.Flows = append(file.Flows, f)
	})
	table.keep = true
	err = table.Read(src)
	file.Counts = table.Close()
	file.Counts.Excess = excess
	if errors.Is(err, io.ErrUnexpectedEOF) {
		file.Cut, err = true, nil
	}
	if err != nil {
		return nil, err
	}
	file.sort()
	return file, nil
}

// bufferSize holds the longest record that is read, its header and its options.
const bufferSize = 512 << 10

// maxRecord is the most that any program keeps of a packet, as libpcap has it.
const maxRecord = 256 << 10

// OpenSource reads a capture in pcap or pcapng format, or gzip of either; name
// is what errors call it, and may be empty. Vantage is the interface's name where
// a pcapng file has several.
func OpenSource(r io.Reader, name string) (Source, error) {
	src, err := open(bufio.NewReaderSize(r, bufferSize), name)
	if err != nil {
		if name != "" {
			name += ": "
		}
		return nil, fmt.Errorf("%snot a pcap or pcapng file: %w", name, err)
	}
	return src, nil
}

// open tells the formats apart by their first four bytes.
func open(r *bufio.Reader, name string) (Source, error) {
	magic, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		unzipped, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		inner := bufio.NewReaderSize(unzipped, bufferSize)
		if magic, err := inner.Peek(2); err == nil && bytes.Equal(magic, []byte{0x1f, 0x8b}) {
			return nil, errors.New("gzip within gzip")
		}
		return open(inner, name)
	case bytes.Equal(magic, []byte{0x0a, 0x0d, 0x0d, 0x0a}):
		return newPcapng(r, name)
	}
	return newPcap(r, name)
}

// file is a source that is several files, one after the other.
type files struct {
	paths  []string
	open   *os.File
	source Source
	at     string // path of the open file
	many   bool
	cut    bool

	vantages map[string]string
	dropped  int
	secrets  []byte
	names    map[netip.Addr][]string
}

// Files is a source of the capture files at the paths, in that order; "-" is the
// standard input. Where there are several, each is a vantage of its own. One that
// breaks off does not keep the next from being read: the source ends with
// io.ErrUnexpectedEOF.
func Files(paths ...string) Source {
	return &files{paths: paths, many: len(paths) > 1, vantages: make(map[string]string)}
}

// Next implements Source.
func (s *files) Next(f *Frame) error {
	for {
		if s.source == nil {
			if err := s.advance(); err != nil {
				return err
			}
		}
		err := s.source.Next(f)
		if err == nil {
			if s.many {
				f.Vantage = s.vantage(f.Vantage)
			}
			return nil
		}
		s.leave()
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			s.cut = true
		case !errors.Is(err, io.EOF):
			return err
		}
	}
}

// advance opens the next file.
func (s *files) advance() error {
	if len(s.paths) == 0 {
		if s.cut {
			return io.ErrUnexpectedEOF
		}
		return io.EOF
	}
	s.at, s.paths = s.paths[0], s.paths[1:]
	clear(s.vantages)
	var r io.Reader = os.Stdin
	if s.at == "-" {
		s.at = "standard input"
	} else {
		f, err := os.Open(s.at)
		if err != nil {
			return fmt.Errorf("capture: %w", err)
		}
		s.open, r = f, f
	}
	src, err := OpenSource(r, s.at)
	if err != nil {
		s.leave()
		return err
	}
	s.source = src
	return nil
}

// leave closes the open file and keeps what it knew.
func (s *files) leave() {
	s.dropped, s.secrets, s.names = s.Dropped(), s.Secrets(), s.Names()
	s.source = nil
	if s.open != nil {
		s.open.Close()
		s.open = nil
	}
}

// vantage joins the file and an interface in it.
func (s *files) vantage(iface string) string {
	if iface == "" {
		return s.at
	}
	v, ok := s.vantages[iface]
	if !ok {
		v = s.at + " " + iface
		s.vantages[iface] = v
	}
	return v
}

// Dropped implements Dropping.
func (s *files) Dropped() int {
	if d, ok := s.source.(Dropping); ok {
		return s.dropped + d.Dropped()
	}
	return s.dropped
}

// Secrets implements Secretive.
func (s *files) Secrets() []byte {
	if d, ok := s.source.(Secretive); ok {
		return append(bytes.Clone(s.secrets), d.Secrets()...)
	}
	return s.secrets
}

// Names implements Naming.
func (s *files) Names() map[netip.Addr][]string {
	d, ok := s.source.(Naming)
	if !ok {
		return s.names
	}
	all := make(map[netip.Addr][]string)
	for _, names := range [...]map[netip.Addr][]string{s.names, d.Names()} {
		for addr, of := range names {
			all[addr] = append(all[addr], of...)
		}
	}
	return all
}
