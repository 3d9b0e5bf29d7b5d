package verify

import (
	"bytes"
	"math"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/clear"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// How many bits for a text, as clear.Text counts them, make evidence. Random bytes
// reach b bits from one beginning with a chance of at most 2^-b.
const (
	// textBits, and log2 of how many bytes there are, for a text anywhere among
	// others: over a flow of any length once in 10^9. That is 9 letters at the
	// beginning, 14 in the middle of a whole window, 34 of arbitrary printable
	// characters, 24 of base64.
	textBits = 30
	// wholeBits for all that a side said: only what is a few bytes long has any
	// chance to be a text throughout (of n bytes 0.38^n), so "ok\n" will do.
	wholeBits = 7
	// chunkBits for all of a run between gaps, which says less: "test\n" will do.
	chunkBits = 13
	// sealedBits, likewise, inside of what claims to be sealed.
	sealedBits = 40
)

// text finds readable bytes: all that a side said, the beginning, or the most
// telling segment.
func (t *clearTalk) text() *Evidence {
	total := 0
	for _, chunks := range t.chunks {
		for _, c := range chunks {
			total += len(c.Data)
		}
	}
	enough := textBits + math.Log2(float64(max(total, 1)))
	for i := range t.chunks {
		if e := t.textOf(i, enough); e != nil {
			return e
		}
	}
	return nil
}

func (t *clearTalk) textOf(i int, enough float64) *Evidence {
	if len(t.chunks[i]) == 0 {
		return nil
	}
	if e := t.wholeText(i); e != nil {
		return e
	}
	start := [...]bool{t.Client.Start, t.Server.Start}[i]
	for part, c := range t.chunks[i] {
		if p := clear.Prefix(c.Data); part == 0 && start && p.Bits >= textBits {
			return t.quote(i == 1, part, 0, p.Length)
		}
		late := !t.Datagrams && (part > 0 || !start) // datagrams begin where they begin
		if late && hasCertificate(c.Data) {
			continue
		}
		if s := clear.Text(c.Data); s.Bits >= enough && (!late || !inHandshake(c.Data, s.At)) {
			return t.quote(i == 1, part, s.At, s.Length)
		}
	}
	return nil
}

// wholeText is for a side all of whose runs or datagrams are text, or one such run
// between gaps.
func (t *clearTalk) wholeText(i int) *Evidence {
	sum, telling, most := 0.0, 0, 0.0
	all := true
	for part, c := range t.chunks[i] {
		bits := clear.Whole(c.Data)
		all = all && bits > 0
		sum += bits
		if bits > most {
			telling, most = part, bits
		}
	}
	if all && t.whole[i] && sum >= wholeBits {
		return t.quote(i == 1, 0, 0, len(t.chunks[i][0].Data))
	}
	if !t.Datagrams && most >= chunkBits || most >= textBits {
		return t.quote(i == 1, telling, 0, len(t.chunks[i][telling].Data))
	}
	return nil
}

func evidence(c capture.Chunk, at, length int, from string) *Evidence {
	return newEvidence(c.Data[at:at+min(length, evidenceBytes)], c.Packet(at), from)
}

// How long a pattern must be: of bytes that are equal or count up, each after the
// first has a chance of 1 in 256.
const (
	patternRun  = 64
	patternEcho = 16 // ping's own, in ICMP
)

// pattern finds what no cipher puts out.
func (t *clearTalk) pattern() *Evidence {
	least := patternRun
	if t.icmp {
		least = patternEcho
	}
	for i, chunks := range t.chunks {
		for part, c := range chunks {
			if at, n := steady(c.Data, least); n > 0 {
				return t.quote(i == 1, part, at, n)
			}
		}
	}
	return nil
}

// steady finds a run of bytes with the same step of 0 or 1 from each to the next.
func steady(b []byte, least int) (at, length int) {
	for i := 0; i+1 < len(b); {
		step := b[i+1] - b[i]
		j := i + 1
		for step <= 1 && j < len(b) && b[j]-b[j-1] == step {
			j++
		}
		if j-i >= least {
			return i, j - i
		}
		i = j
	}
	return 0, 0
}

// unsealed leaves out what belongs to a protocol that seals, whose handshake may be
// readable, and names it: a datagram of such a framing, or a stream from where
// TLS records begin. Of a stream that was joined late it also leaves out what
// stands before them: it may be the end of a certificate.
func unsealed(b []byte, start, datagram bool) (rest []byte, name string) {
	if datagram {
		if name := clear.Framing(b); name != "" {
			return nil, name
		}
		return b, ""
	}
	if isSSH(b, start) {
		return nil, "SSH"
	}
	switch at := findTLS(b); {
	case at < 0 || start && at == 0 && readableRecords(b):
		return b, ""
	case start:
		return b[:at], "TLS"
	}
	return nil, "TLS"
}

// findTLS is where TLS records begin and go on to the end of what is here, or -1:
// from the very beginning one record will do, later two, or a change of cipher.
func findTLS(b []byte) int {
	if all, _ := tlswire.Records(b); len(all) > 0 && (all[0].Type == tlswire.TypeHandshake || all[0].Type == tlswire.TypeAlert && all[0].Length == 2) {
		return 0
	}
	for at := 0; at+tlswire.RecordHeader < len(b); at++ {
		next := bytes.IndexByte(b[at+1:], 3)
		if next < 0 {
			return -1
		}
		at += next
		if b[at] < tlswire.TypeChangeCipherSpec || b[at] > tlswire.TypeApplicationData {
			continue
		}
		all, rest := tlswire.Records(b[at:])
		changed := len(all) > 0 && all[0].Type == tlswire.TypeChangeCipherSpec && all[0].Length == 1 && all[0].Whole && all[0].Body[0] == 1
		if len(rest) < tlswire.RecordHeader && (len(all) >= 2 || changed || len(all) == 1 && isHello(all[0])) {
			return at
		}
	}
	return -1
}

// isSSH reports a banner and binary packets behind it, or names of algorithms among
// binary bytes in a stream that was joined late.
func isSSH(b []byte, start bool) bool {
	if bytes.HasPrefix(b, []byte("SSH-")) {
		_, rest, ok := bytes.Cut(b, []byte("\n"))
		return !ok || len(rest) == 0 || rest[0] == 0
	}
	if start {
		return false
	}
	for _, name := range []string{"diffie-hellman-group", "curve25519-sha256", "hmac-sha2-", "ssh-ed25519"} {
		if bytes.Contains(b, []byte(name)) {
			return bytes.IndexByte(b, 0) >= 0
		}
	}
	return false
}

// behindTunnel takes off what opens a tunnel through an HTTP proxy (RFC 9110,
// section 9.3.6), or a header of the PROXY protocol: what counts is what the tunnel
// carries. A request with credentials stays.
func behindTunnel(c capture.Chunk) capture.Chunk {
	if n := proxyHeader(c.Data); n > 0 {
		c.Offset, c.Data = c.Offset+n, c.Data[n:]
		return c
	}
	head, rest, ok := bytes.Cut(c.Data, []byte("\r\n\r\n"))
	line, _, _ := bytes.Cut(head, []byte("\r\n"))
	opens := bytes.HasPrefix(line, []byte("CONNECT ")) && bytes.Contains(line, []byte(" HTTP/1.")) && !bytes.Contains(bytes.ToLower(head), []byte("\nproxy-authorization:"))
	agrees := bytes.HasPrefix(line, []byte("HTTP/1.")) && bytes.HasSuffix(bytes.ToLower(line), []byte(" 200 connection established"))
	if !ok || !opens && !agrees {
		return c
	}
	c.Offset += len(c.Data) - len(rest)
	c.Data = rest
	return c
}

// readableRecords reports records that claim to be sealed, of a stream that did not
// begin with a handshake, and are a text. The chance is asked to be lower still.
func readableRecords(b []byte) bool {
	all, _ := tlswire.Records(b)
	for _, r := range all {
		if r.Type != tlswire.TypeApplicationData {
			return false
		}
	}
	return clear.Text(b).Bits >= sealedBits+math.Log2(float64(len(b)))
}

// isHello reports a record that begins with the hello of either side.
func isHello(r tlswire.Record) bool {
	b := r.Body
	return r.Type == tlswire.TypeHandshake && len(b) >= 6 && (b[0] == tlswire.HelloClient || b[0] == tlswire.HelloServer) && b[1] == 0 && b[4] == 3
}

// hasCertificate finds attributes of X.509 names and extensions: a run that was
// joined late may be the middle of a certificate, which is readable in TLS.
func hasCertificate(b []byte) bool {
	return bytes.Contains(b, []byte("\x06\x03\x55\x04")) || bytes.Contains(b, []byte("\x06\x03\x55\x1d"))
}

// inHandshake reports whether a text is a name in a certificate or in a hello: a run
// that was joined late may be the middle of either.
func inHandshake(b []byte, at int) bool {
	for at+1 < len(b) && b[at] < ' ' { // a tag or a length that is a blank
		at++
	}
	end := at
	for at > 0 && b[at-1] >= ' ' && b[at-1] <= '~' {
		at--
	}
	for end < len(b) && b[end] >= ' ' && b[end] <= '~' {
		end++
	}
	const name = 32 // may stand at the beginning, where its tag is cut off
	return at < 2 && end < len(b) && end-at < name || inDER(b, at, end) || extensions(b[end:])
}

// inDER finds the tag and the length of a string before a run of text: of a name
// (UTF8String, PrintableString, IA5String), a time, or an alternative name (mail,
// DNS, URI).
// The length may be a printable byte itself.
func inDER(b []byte, at, end int) bool {
	for ; at < end; at++ {
		if at < 2 || bytes.IndexByte([]byte("\x0c\x13\x16\x17\x18\x81\x82\x86"), b[at-2]) < 0 {
			continue
		}
		if stop := at + int(b[at-1]); stop == end || stop == end-1 || stop > end && end == len(b) {
			return true
		}
	}
	return false
}

// extensions reports three extensions of a hello in a row (RFC 8446, section 4.2),
// or two and the end: behind a server name.
func extensions(b []byte) bool {
	n := 0
	for ; len(b) >= 4 && n < 3; n++ {
		typ, length := int(b[0])<<8|int(b[1]), int(b[2])<<8|int(b[3])
		if typ > 64 && typ != 0xff01 && typ != 0xfe0d && (typ&0x0f0f != 0x0a0a || b[0] != b[1]) || length > 2048 {
			return false
		}
		b = b[min(4+length, len(b)):]
	}
	return n == 3 || n == 2 && len(b) == 0
}
