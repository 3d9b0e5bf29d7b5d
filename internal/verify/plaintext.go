package verify

import (
	"bytes"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// How many readable bytes in a row are evidence. Of random bytes each is
// printable with a chance of 98 in 256; over a window of 16 KiB, a run of 32
// comes up by chance once in 10^10, one of 20 once in 10^5: the longer one is
// asked for inside a record that claims to be encrypted.
const (
	readableRun    = 20
	readableSealed = 32
	// readableWhole is asked of a sealed record that is readable throughout.
	readableWhole = 20
	// readableStart and readableLine are asked of the beginning of a stream: that
	// many bytes, or fewer and a line end behind them.
	readableStart = 12
	readableLine  = 3
	// readableChunk is asked of a chunk between gaps that is text throughout.
	readableChunk = 5
)

// readable looks for application bytes that a person can read, in both
// directions and behind gaps too.
func readable(f *capture.Flow) (protocol string, found *Evidence) {
	for i, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		from := [...]string{fromClient, fromServer}[i]
		for _, c := range d.Chunks {
			var at, length int
			switch start := c.Offset == 0 && d.Began; {
			case start && beginsTLS(c.Data):
				at, length = textInTLS(c.Data)
			case start:
				at, length = text(c.Data)
			default:
				at, length = textInside(c.Data)
			}
			if length > 0 {
				return protocolOf(c.Data[at:]), evidence(c, at, length, from)
			}
		}
	}
	return "", nil
}

func evidence(c capture.Chunk, at, length int, from string) *Evidence {
	return newEvidence(c.Data[at:at+min(length, evidenceBytes)], c.Packet(at), from)
}

// beginsTLS reports whether a stream begins with a handshake record.
func beginsTLS(stream []byte) bool {
	all, _ := tlswire.Records(stream)
	return len(all) > 0 && all[0].Type == tlswire.TypeHandshake
}

// textInTLS finds readable bytes where TLS should have sealed them, and behind
// the last record. The handshake itself is in clear by design: it is not judged.
func textInTLS(stream []byte) (at, length int) {
	all, rest := tlswire.Records(stream)
	for _, r := range all {
		if r.Type != tlswire.TypeApplicationData {
			continue
		}
		if at, length := run(r.Body, readableSealed); length > 0 {
			return r.Offset + at, length
		}
		if n := printablePrefix(r.Body); n == len(r.Body) && n >= readableWhole {
			return r.Offset, n
		}
	}
	if at, length := text(rest); length > 0 {
		return len(stream) - len(rest) + at, length
	}
	return 0, 0
}

// text finds readable bytes in a stream that claims nothing: all of it is text,
// or it begins with a word or a line, or it has a long run of printable bytes.
func text(stream []byte) (at, length int) {
	prefix := printablePrefix(stream)
	switch {
	case len(stream) == 0:
		return 0, 0
	case isText(stream):
		return 0, len(stream)
	case prefix >= readableStart || bytes.IndexByte(stream[:prefix], '\n') >= readableLine:
		return 0, prefix
	}
	return run(stream, readableRun)
}

// textInside finds readable bytes in the middle of a stream, where a few may be
// so by chance.
func textInside(stream []byte) (at, length int) {
	if len(stream) >= readableChunk && isText(stream) {
		return 0, len(stream)
	}
	return run(stream, readableRun)
}

// isText reports whether all of b is text.
func isText(b []byte) bool { return utf8.Valid(b) && !bytes.ContainsFunc(b, control) }

// run finds the first run of at least n printable bytes.
func run(b []byte, n int) (at, length int) {
	for at < len(b) {
		length = printablePrefix(b[at:])
		if length >= n {
			return at, length
		}
		at += length + 1
	}
	return 0, 0
}

// printablePrefix is how many of the first bytes are printable ASCII or blank.
func printablePrefix(b []byte) int {
	for i, c := range b {
		if (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			return i
		}
	}
	return len(b)
}

// control reports whether a character is no part of a text.
func control(r rune) bool {
	return r < ' ' && r != '\t' && r != '\r' && r != '\n' || r >= 0x7f && r < 0xa0
}

// protocolOf names what a readable stream begins with.
func protocolOf(stream []byte) string {
	for _, word := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT ", "TRACE ", "HTTP/1.", "PRI * HTTP/2"} {
		if bytes.HasPrefix(stream, []byte(word)) {
			return "http"
		}
	}
	return "text"
}
