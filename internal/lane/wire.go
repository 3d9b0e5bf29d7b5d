package lane

import (
	"sync"
	"sync/atomic"

	"github.com/sealmesh/sealmesh/internal/sock"
)

// wire is the TCP connection below a lane's TLS, and the reason the lane is
// quick. crypto/tls reads and writes one record at a time; wire turns that into
// fewer and larger system calls:
//
//   - reading: a flow that fills its reads is read ahead, several records at once;
//   - writing: records are gathered while the lane is corked and leave together;
//   - with noWait set, reading returns sock.ErrWouldBlock instead of parking: the
//     lane empties what has arrived, acts on it at once, and only then parks.
//
// Buffers are borrowed while they hold bytes and never longer, so an idle lane
// has none. One goroutine reads, one at a time writes; neither shares fields with
// the other.
type wire struct {
	*sock.Conn
	client bool
	hello  helloReader

	// Owned by the reader.
	ahead  *sock.Buffer // borrowed while it holds unread bytes
	unread []byte       // the part of ahead not read yet
	bulk   bool         // the last read filled what it was given
	noWait bool

	// Owned by the writer.
	corked bool
	out    *outBuffer // borrowed while it holds unsent bytes
	outLen int
	failed error // of the first write that was cut short: nothing may follow it

	received, sent atomic.Uint64 // bytes on the wire, TLS included
}

// outBuffer holds the records of one sock.Buffer's worth of frames.
type outBuffer [sock.Runs*(MaxFrame+recordOverhead) + smallRecords]byte

const (
	// recordOverhead of TLS 1.3 with AES-GCM or ChaCha20-Poly1305: header 5,
	// content type 1, tag 16 (RFC 8446 section 5.2).
	recordOverhead = 22
	// smallRecords is room for OPEN, FIN and RESET beside full DATA frames.
	smallRecords = 256
	// bulkRead is the least a read must fill, completely, to be taken for a part
	// of a bulk flow.
	bulkRead = 4 << 10
)

var outBuffers = sync.Pool{New: func() any { return new(outBuffer) }}

// Read gives crypto/tls what has arrived.
func (w *wire) Read(b []byte) (int, error) {
	n, err := w.read(b)
	if !w.client {
		w.hello.take(b[:n])
	}
	return n, err
}

func (w *wire) read(b []byte) (int, error) {
	if len(w.unread) == 0 && !w.bulk {
		n, err := w.ReadInto(b, !w.noWait)
		w.received.Add(uint64(n))
		w.bulk = n == len(b) && n >= bulkRead
		return n, err
	}
	if len(w.unread) == 0 {
		buf, n, err := w.Receive(0, !w.noWait)
		if err != nil {
			w.bulk = false
			return 0, err
		}
		w.received.Add(uint64(n))
		w.bulk = n >= bulkRead
		w.ahead, w.unread = buf, buf[:n]
	}
	n := copy(b, w.unread)
	if w.unread = w.unread[n:]; len(w.unread) == 0 {
		sock.Return(w.ahead)
		w.ahead = nil
	}
	return n, nil
}

// Write takes one record from crypto/tls.
func (w *wire) Write(b []byte) (int, error) {
	if w.client {
		w.hello.take(b)
	}
	if !w.corked {
		return w.send(b)
	}
	if w.out == nil {
		w.out = outBuffers.Get().(*outBuffer)
	}
	if w.outLen+len(b) > len(w.out) {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > len(w.out) {
		return w.send(b)
	}
	w.outLen += copy(w.out[w.outLen:], b)
	return len(b), nil
}

// cork gathers records until uncork.
func (w *wire) cork() { w.corked = true }

// uncork sends what was gathered since cork.
func (w *wire) uncork() error {
	w.corked = false
	err := w.flush()
	if w.out != nil {
		outBuffers.Put(w.out)
		w.out = nil
	}
	return err
}

func (w *wire) flush() error {
	if w.outLen == 0 {
		return nil
	}
	_, err := w.send(w.out[:w.outLen])
	w.outLen = 0
	return err
}

func (w *wire) send(b []byte) (int, error) {
	if w.failed != nil {
		return 0, w.failed
	}
	n, err := w.Conn.Write(b)
	w.sent.Add(uint64(n))
	w.failed = err
	return n, err
}

// helloReader keeps the random of the ClientHello, which the client's side writes
// and the server's reads first: bytes 11 to 42 of the first record (RFC 8446 section 4.1.2), which crypto/tls does
// not show.
type helloReader struct {
	seen   int
	random [32]byte
}

const (
	helloRandomOffset = 11
	helloRandomEnd    = helloRandomOffset + 32
)

func (h *helloReader) take(b []byte) {
	for i := 0; i < len(b) && h.seen < helloRandomEnd; i++ {
		if h.seen >= helloRandomOffset {
			h.random[h.seen-helloRandomOffset] = b[i]
		}
		h.seen++
	}
}
