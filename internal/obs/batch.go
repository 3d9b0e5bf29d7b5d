package obs

import (
	"io"
	"sync"
	"time"
)

// flushAfter is how long a line may wait to leave with others.
const flushAfter = 50 * time.Millisecond

// maxBatch is the most bytes that wait, after which writing blocks.
const maxBatch = 64 << 10

// Batch gathers log lines and writes them together, so that a proxy which ends
// thousands of connections a second does not make as many system calls. It is
// safe for concurrent use. Close it to write what is left.
type Batch struct {
	mu    sync.Mutex
	out   io.Writer
	buf   []byte
	timer *time.Timer
}

// NewBatch makes a Batch that writes to out.
func NewBatch(out io.Writer) *Batch { return &Batch{out: out} }

// Write takes one line.
func (b *Batch) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, line...)
	switch {
	case len(b.buf) >= maxBatch:
		return len(line), b.flush()
	case b.timer == nil:
		b.timer = time.AfterFunc(flushAfter, func() { _ = b.Close() })
	}
	return len(line), nil
}

// Close writes what is waiting. The Batch may be used on.
func (b *Batch) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flush()
}

func (b *Batch) flush() error {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if len(b.buf) == 0 {
		return nil
	}
	_, err := b.out.Write(b.buf)
	b.buf = b.buf[:0]
	return err
}
