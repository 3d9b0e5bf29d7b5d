package cli

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/decrypt"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// commentator judges flows while they are captured, and says so at the packet
// where a verdict was reached.
type commentator struct {
	table *capture.Table
	flows map[int]*commented
	// patient: flows are judged however far the capture has fallen behind.
	patient bool
	// session is the random of the ClientHello of the lane that the packet before has
	// made known, in hex; empty if it has not.
	session string
}

// commented is what was said of a flow.
type commented struct {
	bytes   int64 // of payload, when it was last looked at
	looks   int   // packets with payload so far
	verdict verify.Verdict
	known   bool // its session
}

// Bounds of the work and of what is said.
const (
	maxLooks   = 64 // packets with payload, after which a flow will not tell any more
	maxComment = 200
	// lag is how far the capture may fall behind before packets matter more than
	// comments.
	lag = 200 * time.Millisecond
)

func newCommentator() *commentator {
	c := &commentator{flows: map[int]*commented{}}
	c.table = capture.NewTable(capture.Limits{}, func(f *capture.Flow) { delete(c.flows, f.Number) })
	return c
}

// comment is what is to be said of a packet, mostly nothing.
func (c *commentator) comment(f *capture.Frame) string {
	c.session = ""
	c.table.Add(f)
	flow := c.table.Last()
	if flow == nil {
		return ""
	}
	seen := c.flows[flow.Number]
	if seen == nil {
		seen = &commented{}
		c.flows[flow.Number] = seen
	}
	bytes := flow.ToServer.Bytes + flow.ToClient.Bytes
	if bytes == seen.bytes || seen.looks >= maxLooks {
		return ""
	}
	seen.bytes = bytes
	seen.looks++
	if !worthALook(seen.looks) || !c.patient && time.Since(f.Time) > lag {
		return ""
	}
	found := verify.Judge(flow, verify.Knowledge{})
	if t := found.TLS; t != nil && t.Random != "" && !seen.known && slices.Contains(t.ALPNOffered, decrypt.LaneProtocol) {
		seen.known, c.session = true, t.Random
	}
	if found.Verdict == seen.verdict || !found.Verdict.Seals() && found.Verdict != verify.Plaintext {
		return ""
	}
	seen.verdict = found.Verdict
	return "sealmesh: " + sayVerdict(&found)
}

// worthALook reports whether to judge a flow at its nth packet with payload: at
// each of the first, then ever more rarely.
func worthALook(n int) bool { return n <= 8 || n&(n-1) == 0 || n%24 == 0 }

// sayVerdict is a finding in a line, as short as it tells:
//
//	tls 1.3 TLS_AES_128_GCM_SHA256 X25519MLKEM768, web.shop.demo.local
//	plaintext http: GET / HTTP/1.1
func sayVerdict(found *verify.Finding) string {
	words := []string{string(found.Verdict)}
	if t := found.TLS; t != nil && found.Verdict.Seals() {
		words = append(words, t.Version, t.Cipher, t.Group)
	}
	if !found.Verdict.Seals() {
		words = append(words, found.Protocol)
	}
	line := strings.Join(strings.Fields(strings.Join(words, " ")), " ")
	switch {
	case found.Evidence != nil:
		line += ": " + found.Evidence.Text
	case found.TLS != nil && found.TLS.SNI != "":
		line += ", " + found.TLS.SNI
	}
	if len(found.Weak) > 0 {
		line += " (weak: " + strings.Join(found.Weak, ", ") + ")"
	}
	return clip(line, maxComment)
}

// clip cuts a text at a number of bytes, between two characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
