package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/report"
)

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// fileSource is the packets of several capture files, one file after the other.
type fileSource struct {
	ctx   context.Context
	stdin io.Reader
	names []string
	// hashed: the files are for a report that names their content.
	hashed bool

	at      int // of names
	file    *countedFile
	source  capture.Source
	packets int // of the file that is open
	read    []report.File
	cuts    []string // why files ended before they should have
	dropped int
	secrets []byte // key log text of the files before the one that is open
	// current is for the progress line.
	current atomic.Pointer[countedFile]
}

// openFiles makes an input of capture files; "-" is stdin.
func openFiles(ctx context.Context, stdin io.Reader, names []string, hashed bool) (*input, error) {
	for i, name := range names {
		switch {
		case slices.Contains(names[:i], name):
			return nil, fmt.Errorf("--read %s: given twice", name)
		case name == "-":
			continue
		}
		info, err := os.Stat(name)
		if err != nil {
			return nil, hint(fmt.Errorf("--read: %w", err), "give a capture file as tcpdump -w or sealmesh capture -w writes it")
		}
		if info.IsDir() {
			return nil, hint(fmt.Errorf("--read %s: is a directory", name), "name the files in it: --read %s/*", name)
		}
	}
	s := &fileSource{ctx: ctx, stdin: stdin, names: names, hashed: hashed}
	return &input{source: s, status: s.status, end: s.end}, nil
}

// Next returns the next packet of whatever file is at hand. Where a file breaks
// off, what came before it stands, and the next one follows.
func (s *fileSource) Next(f *capture.Frame) error {
	for {
		if s.packets&0x3ff == 0 && s.ctx.Err() != nil {
			return s.interrupt()
		}
		if s.source == nil {
			if s.at >= len(s.names) {
				return io.EOF
			}
			if err := s.open(s.names[s.at]); err != nil {
				return err
			}
		}
		err := s.source.Next(f)
		if err == nil {
			s.packets++
			s.place(f)
			return nil
		}
		if err := s.broken(err); err != nil {
			return err
		}
		s.close()
	}
}

// interrupt ends the source where it is.
func (s *fileSource) interrupt() error {
	s.cuts = append(s.cuts, "interrupted before the end of the capture")
	s.names = s.names[:0]
	return io.EOF
}

// place says which file a packet comes from, if there are several.
func (s *fileSource) place(f *capture.Frame) {
	switch {
	case len(s.names) == 1:
	case f.Vantage == "":
		f.Vantage = s.file.name
	default:
		f.Vantage = s.file.name + "/" + f.Vantage
	}
}

// broken judges the error that a file ends with. Its end is none; a file that
// breaks off is noted.
func (s *fileSource) broken(err error) error {
	switch {
	case errors.Is(err, io.EOF):
	case s.ctx.Err() != nil:
		return s.interrupt()
	case errors.Is(err, capture.ErrUnended):
		s.cuts = append(s.cuts, s.file.title()+" has no end: its capture was killed or lost an interface, or it has been edited")
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.cuts = append(s.cuts, s.file.title()+" ends in the middle of a packet")
	case s.packets == 0:
		return fmt.Errorf("--read %s: %w", s.file.name, err)
	default:
		s.cuts = append(s.cuts, fmt.Sprintf("%s cannot be read behind packet %d: %v", s.file.title(), s.packets, err))
	}
	return nil
}

func (s *fileSource) open(name string) error {
	file, err := openCounted(s.ctx, s.stdin, name, s.hashed)
	if err != nil {
		return fmt.Errorf("--read: %w", err)
	}
	s.file, s.packets = file, 0
	s.current.Store(file)
	s.source, err = capture.OpenSource(file, name)
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		return s.interrupt()
	case file.count.Load() == 0:
		err = fmt.Errorf("%s: is empty", name)
	}
	return hint(fmt.Errorf("--read %w", err), "give a capture in pcap or pcapng format, as tcpdump -w writes it; gzip of either is read too")
}

// close notes what was read of a file.
func (s *fileSource) close() {
	if d, ok := s.source.(capture.Dropping); ok {
		s.dropped += d.Dropped()
	}
	s.secrets = append(s.secrets, secretsOf(s.source)...)
	s.read = append(s.read, s.file.done(s.ctx.Err() == nil))
	s.source, s.file = nil, nil
	s.at++
}

// Secrets is the key log text of all files so far.
func (s *fileSource) Secrets() []byte {
	return append(slices.Clip(s.secrets), secretsOf(s.source)...)
}

// secretsOf is the key log text that a source carries, if it can carry any.
func secretsOf(source capture.Source) []byte {
	if s, ok := source.(capture.Secretive); ok {
		return s.Secrets()
	}
	return nil
}

// status says how far the file that is being read has come.
func (s *fileSource) status() string {
	f := s.current.Load()
	if f == nil || f.size == 0 {
		return ""
	}
	return fmt.Sprintf("%d %% of %s", f.count.Load()*100/f.size, f.name)
}

func (s *fileSource) end() ending {
	if s.file != nil {
		s.close()
	}
	return ending{files: s.read, dropped: s.dropped, cut: strings.Join(s.cuts, "; ")}
}

// countedFile is a file that knows how much of it was read, and what.
type countedFile struct {
	io.Reader
	io.Closer
	name  string
	size  int64 // 0 if not known
	count atomic.Int64
	sum   hash.Hash // nil if not asked for
}

func openCounted(ctx context.Context, stdin io.Reader, name string, hashed bool) (*countedFile, error) {
	f := &countedFile{name: name}
	if hashed {
		f.sum = sha256.New()
	}
	if name == "-" {
		f.Reader, f.Closer = interruptible(ctx, stdin), io.NopCloser(nil)
		return f, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		f.size = info.Size()
		f.Reader = file
	} else {
		f.Reader = interruptible(ctx, file)
	}
	f.Closer = file
	return f, nil
}

// Read counts, and adds to the sum.
func (f *countedFile) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b)
	f.count.Add(int64(n))
	if f.sum != nil {
		f.sum.Write(b[:n])
	}
	return n, err
}

// title is what messages call the file.
func (f *countedFile) title() string {
	if f.name == "-" {
		return "standard input"
	}
	return f.name
}

// done closes the file and says what it was; whole if it is to be read to its end.
func (f *countedFile) done(whole bool) report.File {
	defer f.Close()
	r := report.File{Name: f.name}
	if whole && f.sum != nil {
		if _, err := io.Copy(io.Discard, f); err == nil {
			r.SHA256 = hex.EncodeToString(f.sum.Sum(nil))
		}
	}
	r.Size = max(f.size, f.count.Load())
	return r
}

// interruptible reads from a pipe or a terminal until a context ends. A read
// that is under way then is left behind: nothing wakes it.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{pw}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		pw.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	return pr
}
