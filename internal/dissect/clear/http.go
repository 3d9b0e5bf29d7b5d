package clear

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// http is the first line of HTTP/1 (RFC 9112, sections 3 and 4), with any method,
// of requests and answers from either side; SSDP is the same in a datagram. What
// follows the line is not looked at.
func http(m *message) {
	defer m.rest()
	line, _, whole := bytes.Cut(m.b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if bytes.HasPrefix(m.b, []byte("HTTP/1.")) {
		m.lit("HTTP/1.")
		m.in(m.u8(), 256, '0', '1')
		return
	}
	method, target, ok := bytes.Cut(line, []byte(" "))
	m.want(ok && isToken(method) && len(line) < 8<<10, 0)
	if m.bad {
		return
	}
	target, version, ok := cutLast(target, " ")
	switch {
	case ok && (version == "HTTP/1.1" || version == "HTTP/1.0"):
		m.want(len(target) > 0 && isPrintable(target), 8*len(version))
	case !whole && m.open && isMethod(string(method)): // cut inside its line
		m.want(isPrintable(line), 7*len(method)+len(line))
	default:
		m.bad = true
	}
}

// rest takes what is left: the message is judged by its head.
func (m *message) rest() {
	m.at, m.over = len(m.b), true
}

func cutLast(b []byte, sep string) (before []byte, after string, ok bool) {
	i := bytes.LastIndex(b, []byte(sep))
	if i < 0 {
		return b, "", false
	}
	return b[:i], string(b[i+1:]), true
}

// isToken is RFC 9110, section 5.6.2, of a plausible length.
func isToken(b []byte) bool {
	if len(b) == 0 || len(b) > 24 {
		return false
	}
	for _, c := range b {
		letter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return true
}

func isMethod(s string) bool {
	switch s {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND", "NOTIFY", "M-SEARCH":
		return true
	}
	return false
}

func isPrintable(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isWebSocket reads the server's consent (RFC 6455, section 4.2.2).
func isWebSocket(t *Talk) bool {
	b := t.Server.head()
	b = bytes.ToLower(b[:min(len(b), 2048)])
	return bytes.HasPrefix(b, []byte("http/1.1 101 ")) && bytes.Contains(b, []byte("upgrade: websocket"))
}

// Frames of HTTP/2 (RFC 9113, sections 3.4 and 6).
const (
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frameHead     = 9
	frameHeaders  = 1
	frameSettings = 4
	frameContinue = 9
	lastFrame     = 9
)

// http2 is the preface and the frames behind it.
func http2(m *message) {
	if m.role == client && bytes.HasPrefix(m.b, []byte(preface[:min(len(preface), len(m.b))])) {
		m.lit(preface)
		return
	}
	length, typ, flags, stream := m.u24(), m.u8(), m.u8(), m.u32()
	m.below(length, 24, 15)
	m.want(typ <= lastFrame || typ == 0x10 || typ == 0x0c, 4)
	m.want(stream>>31 == 0, 1)
	switch typ {
	case frameSettings:
		m.want(length%6 == 0 && flags <= 1 && stream == 0, 32)
		m.inner(length, func(in *message) {
			for in.left() > 0 && !in.done() {
				in.below(in.u16(), 16, 6)
				in.skip(4)
			}
		})
	case 6: // PING
		m.want(length == 8 && flags <= 1 && stream == 0, 40)
		m.skip(length)
	case 8: // WINDOW_UPDATE
		m.want(length == 4 && flags == 0, 18)
		m.skip(length)
	case 3: // RST_STREAM
		m.want(length == 4 && stream > 0, 12)
		m.below(m.u32(), 32, 4)
	case 7: // GOAWAY
		m.want(length >= 8 && flags == 0 && stream == 0, 38)
		m.skip(length)
	case 0, frameHeaders, frameContinue:
		m.want(stream > 0 && stream < 1<<24 && flags&^0x2d == 0, 11)
		m.skip(length)
	default:
		m.skip(length)
	}
	m.want(!m.first || typ == frameSettings, 0)
}

// isGRPC looks for the content type in the header blocks of both directions.
func isGRPC(t *Talk) bool {
	for _, side := range []*Side{&t.Client, &t.Server} {
		if len(side.Parts) == 0 {
			continue
		}
		b := bytes.TrimPrefix(side.Parts[0].Data, []byte(preface))
		found := false
		decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
			found = found || f.Name == "content-type" && strings.HasPrefix(f.Value, "application/grpc")
		})
		for len(b) >= frameHead && !found {
			length, typ, flags := int(b[0])<<16|int(b[1])<<8|int(b[2]), b[3], b[4]
			b = b[frameHead:]
			body := b[:min(length, len(b))]
			if typ == frameHeaders || typ == frameContinue {
				// What cannot be read, such as an index into headers that were
				// not seen, ends the block; what came before it counts.
				_, _ = decoder.Write(headerBlock(body, typ, flags))
			}
			b = b[len(body):]
		}
		if found {
			return true
		}
	}
	return false
}

// headerBlock takes padding and priority off a frame.
func headerBlock(body []byte, typ, flags byte) []byte {
	const padded, priority = 8, 0x20
	if typ != frameHeaders {
		return body
	}
	if flags&padded != 0 && len(body) > 0 {
		pad := int(body[0])
		body = body[1:]
		body = body[:max(len(body)-pad, 0)]
	}
	if flags&priority != 0 {
		body = body[min(5, len(body)):]
	}
	return body
}
