package report

import (
	"bufio"
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// wideTitles are the columns of a flow.
var wideTitles = []string{
	"FLOW", "SOURCE", "DESTINATION", "PROTO", "VERDICT", "SEAL", "PROTOCOL", "VERSION", "CIPHER", "GROUP", "HANDSHAKE",
	"SNI", "ALPN OFFERED", "SEEN", "CLIENT ID (ATTESTED)", "SERVER ID (ATTESTED)", "ATTESTED BY",
	"CLIENT ID (DECRYPTED)", "SERVER ID (DECRYPTED)", "PACKETS", "BYTES",
	"UPGRADE", "WEAK", "SEEN FROM", "VANTAGE", "OVERLAY", "EXEMPT", "EXPECTED", "REASON", "EVIDENCE", "NOTES",
}

// wideCells are the cells of a flow, in the order of the titles.
func wideCells(f *verify.Finding) []string {
	var t verify.TLSInfo
	if f.TLS != nil {
		t = *f.TLS
	}
	if f.WireGuard != nil {
		t.Handshake = f.WireGuard.Handshake
	}
	if f.SSH != nil {
		t.Cipher, t.Group = f.SSH.Cipher, f.SSH.Kex
	}
	var a verify.Attestation
	if f.Attested != nil {
		a = *f.Attested
	}
	var d verify.Peers
	if f.Decrypted != nil {
		d = *f.Decrypted
	}
	upgrade, evidence, reason := "", "", ""
	if f.Verdict == verify.Unknown {
		reason = f.Reason
	}
	if f.Upgrade != nil {
		upgrade = f.Upgrade.From
	}
	if f.Evidence != nil {
		evidence = evidenceWords(f.Evidence)
	}
	cells := []string{
		strconv.Itoa(f.Number), f.Src, f.Dst, string(f.Proto), string(f.Verdict), f.Seal, f.Protocol, t.Version, t.Cipher, t.Group, t.Handshake,
		t.SNI, strings.Join(t.ALPNOffered, ","), strings.Join(namesOf(f), ", "), a.Client, a.Server, a.By, d.Client, d.Server,
		pair(int64(f.Packets[0]), int64(f.Packets[1])), pair(f.Bytes[0], f.Bytes[1]),
		upgrade, strings.Join(f.Weak, "; "), seenFrom(f), f.Vantage, f.Overlay, f.Exempt, f.Violates, reason, evidence, strings.Join(f.Notes, "; "),
	}
	for i, c := range cells {
		cells[i] = cmp.Or(clean(c), "-")
	}
	return cells
}

// pair is two numbers, of the client and of the server.
func pair(a, b int64) string { return fmt.Sprintf("%d/%d", a, b) }

// seenFrom says how much of a flow was seen.
func seenFrom(f *verify.Finding) string {
	switch {
	case f.Midstream && f.OneWay:
		return "the middle, one way"
	case f.Midstream:
		return "the middle"
	case f.OneWay:
		return "the start, one way"
	}
	return "the start"
}

// writeWide writes one row for each flow. It goes through them twice: to measure
// the columns, and to write them. Nothing is cut off, but a column grows to
// maxColumn only: a cell that is longer moves the rest of its row.
func writeWide(w *bufio.Writer, d *Document, s Style) error {
	const maxColumn = 64
	widths := make([]int, len(wideTitles))
	measure := func(cells []string) {
		for i, c := range cells {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(c), maxColumn))
		}
	}
	measure(wideTitles)
	for f := range d.Flows {
		measure(wideCells(&f))
	}
	p := &page{w, s}
	row := func(style string, cells []string) {
		var b strings.Builder
		for i, c := range cells {
			b.WriteString(c + strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(c), 0)+2))
		}
		fmt.Fprintln(w, p.paint(style, strings.TrimRight(b.String(), " ")))
	}
	row(styleBold, wideTitles)
	for f := range d.Flows {
		row(lookOf(classOf(&f)).style, wideCells(&f))
	}
	fmt.Fprintln(w)
	p.expectations(d)
	p.verdict(d, edgesOf(d.Flows))
	return nil
}
