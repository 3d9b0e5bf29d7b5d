package pcapng

import (
	"encoding/binary"
	"math"
	"time"
)

// block is one block under construction at the end of a writer's pending bytes.
// Where err is set nothing is added to the file.
type block struct {
	w       *Writer
	start   int
	options bool // some were written: they must be ended
	err     error
}

func (w *Writer) begin(kind uint32) block {
	b := block{w: w, start: len(w.pending)}
	b.u32(kind)
	b.u32(0) // length, known at the end
	return b
}

func (b *block) u16(v uint16) { b.w.pending = binary.LittleEndian.AppendUint16(b.w.pending, v) }
func (b *block) u32(v uint32) { b.w.pending = binary.LittleEndian.AppendUint32(b.w.pending, v) }
func (b *block) u64(v uint64) { b.w.pending = binary.LittleEndian.AppendUint64(b.w.pending, v) }

// time is 64 bits of nanoseconds, the upper half first.
func (b *block) time(t time.Time) {
	ns := uint64(t.UnixNano())
	b.u32(uint32(ns >> 32))
	b.u32(uint32(ns))
}

// padded writes bytes up to a multiple of four.
func (b *block) padded(data []byte) {
	var zero [3]byte
	b.w.pending = append(b.w.pending, data...)
	b.w.pending = append(b.w.pending, zero[:-len(data)&3]...)
}

// option writes one option; a record of names has the same form.
func (b *block) option(code uint16, value []byte) {
	if len(value) > math.MaxUint16 {
		b.err = errTooLong
		return
	}
	b.options = true
	b.u16(code)
	b.u16(uint16(len(value)))
	b.padded(value)
}

// text is an option unless it is empty.
func (b *block) text(code uint16, s string) {
	if s != "" {
		b.option(code, []byte(s))
	}
}

func (b *block) option64(code uint16, v uint64) {
	b.option(code, binary.LittleEndian.AppendUint64(nil, v))
}

func (b *block) optionTime(code uint16, t time.Time) {
	b.options = true
	b.u16(code)
	b.u16(8)
	b.time(t)
}

// end completes the block, or takes it back.
func (b *block) end() error {
	w := b.w
	if b.err != nil {
		w.pending = w.pending[:b.start]
		return b.err
	}
	if b.options {
		b.u32(0) // opt_endofopt
	}
	length := uint32(len(w.pending) - b.start + 4)
	binary.LittleEndian.PutUint32(w.pending[b.start+4:], length)
	b.u32(length)
	w.size += int64(length)
	if len(w.pending) >= flushAt {
		return w.Flush()
	}
	return nil
}
