package capture

import (
	"errors"
	"fmt"
	"io"

	"github.com/gopacket/gopacket"
)

// Limits bound what a table holds; zero means the default.
type Limits struct {
	// Flows that are live at a time: 65,536.
	Flows int
	// Bytes kept of them: 32 MiB.
	Bytes int64
}

// Table turns frames into flows.
type Table struct {
	done func(*Flow)
	file File
	dec  *decoder
	asm  *assembler
	last *Flow
}

// NewTable makes a table that calls done with each flow once: when it has ended,
// when it was given up to bound memory, or at Close. The flow and its bytes may
// be used until done returns.
func NewTable(_ Limits, done func(*Flow)) *Table {
	t := &Table{done: done, dec: newDecoder()}
	t.asm = newAssembler(&t.file)
	return t
}

// Read adds every frame of a source. It returns nil at its end, and
// io.ErrUnexpectedEOF where it breaks off; what came before that stands.
func (t *Table) Read(src Source) error {
	var f Frame
	for {
		switch err := src.Next(&f); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("packet %d: %w", t.file.Counts.Packets+1, err)
		}
		t.Add(&f)
	}
}

// Add decodes a frame and gives it to its flow.
func (t *Table) Add(f *Frame) {
	c := &t.file.Counts
	c.Packets++
	seg, what := t.dec.decode(f.Link, f.Data, gopacket.CaptureInfo{Timestamp: f.Time, CaptureLength: len(f.Data), Length: f.Length})
	t.last = nil
	switch what {
	case isTCP:
		t.last = t.asm.add(seg, c.Packets)
	case isNotIP:
		c.NotIP++
	case isNotTCP:
		c.NotTCP++
	case isFragment:
		c.Fragments++
	case isBroken:
		c.Undecoded++
	}
}

// Last is the flow of the frame that was added last, or nil if it has none. It
// may be read until the next Add.
func (t *Table) Last() *Flow { return t.last }

// Close hands over what is left, in order of Number.
func (t *Table) Close() Counts {
	t.asm.finish()
	for _, f := range t.file.Flows {
		t.done(f)
	}
	return t.file.Counts
}
