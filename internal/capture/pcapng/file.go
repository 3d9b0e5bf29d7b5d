package pcapng

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Ring bounds what a capture takes on disk. With a Size a file that has reached it
// is followed by another: NAME_00001.pcapng, NAME_00002.pcapng and so on. With
// Files too, no more than that many are kept, the newest.
type Ring struct {
	Size  int64
	Files int
}

// minSize of a file in a ring: less than its head and one packet may take.
const minSize = 64 << 10

// Validate reports every problem.
func (r Ring) Validate() error {
	var problems []error
	if r.Size != 0 && r.Size < minSize {
		problems = append(problems, fmt.Errorf("file size %d: must be at least %d bytes", r.Size, minSize))
	}
	if r.Files != 0 && r.Size == 0 {
		problems = append(problems, errors.New("number of files without a file size: a file would never be full"))
	}
	if r.Files < 0 || r.Files == 1 {
		problems = append(problems, fmt.Errorf("number of files %d: must be at least 2", r.Files))
	}
	return errors.Join(problems...)
}

// File is a capture on disk: one file, or a ring of them; or a stream.
type File struct {
	path string
	head Head
	ring Ring
	// statistics is what the interfaces have counted since the capture began.
	statistics func() []Statistics

	*Writer
	file    *os.File // nil of a stream
	number  int
	written []string     // paths of the files there are, the oldest first
	told    []Statistics // counts up to the end of the file before
	secrets [][]byte
	packets bool // the file holds one
}

// Create begins a capture at path. Each file of a ring begins with head and all
// secrets so far, and ends with what statistics has counted meanwhile.
func Create(path string, head Head, ring Ring, statistics func() []Statistics) (*File, error) {
	if err := ring.Validate(); err != nil {
		return nil, fmt.Errorf("pcapng: %w", err)
	}
	f := &File{path: path, head: head, ring: ring, statistics: statistics}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// Stream begins a capture that is written to out, which stays the caller's to close.
func Stream(out io.Writer, head Head, statistics func() []Statistics) (*File, error) {
	w, err := NewWriter(out, head)
	if err != nil {
		return nil, err
	}
	return &File{head: head, statistics: statistics, Writer: w}, nil
}

// Paths of the files there are, the oldest first.
func (f *File) Paths() []string { return slices.Clone(f.written) }

// name of the file with a number.
func (f *File) name() string {
	if f.ring.Size == 0 {
		return f.path
	}
	ext := filepath.Ext(f.path)
	return fmt.Sprintf("%s_%05d%s", strings.TrimSuffix(f.path, ext), f.number, ext)
}

func (f *File) open() error {
	f.number++
	file, err := os.OpenFile(f.name(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("pcapng: %w", err)
	}
	f.file, f.packets = file, false
	f.written = append(f.written, file.Name())
	f.Writer, err = NewWriter(file, f.head)
	for _, keyLog := range f.secrets {
		if err == nil {
			err = f.Writer.Secrets(keyLog)
		}
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// Secrets adds a key log, to the files that follow too.
func (f *File) Secrets(keyLog []byte) error {
	if f.ring.Size != 0 {
		f.secrets = append(f.secrets, slices.Clone(keyLog))
	}
	return f.Writer.Secrets(keyLog)
}

// Packet adds one packet, in the next file if this one is full.
func (f *File) Packet(p *Packet) error {
	if f.ring.Size != 0 && f.packets && f.Size() >= f.ring.Size {
		if err := f.turn(); err != nil {
			return err
		}
	}
	f.packets = true
	return f.Writer.Packet(p)
}

// turn ends the file and begins the next. What is too old goes once that is there,
// so that at no moment less is kept than was asked for.
func (f *File) turn() error {
	if err := f.finish(); err != nil {
		return err
	}
	if err := f.open(); err != nil {
		return err
	}
	for f.ring.Files > 0 && len(f.written) > f.ring.Files {
		if err := os.Remove(f.written[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("pcapng: %w", err)
		}
		f.written = f.written[1:]
	}
	return nil
}

// finish writes the statistics of one file, and closes it.
func (f *File) finish() error {
	var failed []error
	now := f.statistics()
	for _, s := range now {
		fresh := s
		for _, before := range f.told {
			if before.Interface == s.Interface {
				fresh.Start = before.End
				fresh.Received -= before.Received
				fresh.Dropped -= before.Dropped
			}
		}
		failed = append(failed, f.Statistics(fresh))
	}
	f.told = now
	failed = append(failed, f.Flush())
	if f.file != nil {
		failed = append(failed, f.file.Close())
	}
	return errors.Join(failed...)
}

// Close ends the capture.
func (f *File) Close() error { return f.finish() }
