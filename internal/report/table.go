package report

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// Styles, as SGR parameters (ECMA-48).
const (
	styleBold   = "1"
	styleDim    = "2"
	styleRed    = "31"
	styleGreen  = "32"
	styleYellow = "33"
)

// look is how the edges of a class are shown.
type look struct{ mark, style string }

func lookOf(c Class) look {
	switch c {
	case Leaks:
		return look{"✗", styleRed}
	case Doubtful:
		return look{"?", styleYellow}
	case Holds:
		return look{"✓", ""}
	}
	return look{"·", styleDim}
}

// page writes lines to a terminal.
type page struct {
	w *bufio.Writer
	Style
}

// paint gives a text a style, where there are colours.
func (p *page) paint(style, text string) string {
	if !p.Color || style == "" || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// writeTable writes edges, and below them the verdict: there it is read first.
func writeTable(w *bufio.Writer, d *Document, s Style) error {
	p := &page{w, s}
	edges := edgesOf(d.Flows)
	p.edges(edges)
	p.expectations(d)
	p.verdict(d, edges)
	return nil
}

// column of the table of edges.
type column struct {
	title string
	cell  func(*Edge) string
	right bool
	width int
}

// layout chooses the columns that fit: what does not is said below each edge.
func (p *page) layout(edges []*Edge) (columns []*column, detailed bool) {
	client := &column{title: "CLIENT", cell: func(e *Edge) string { return e.Client }}
	server := &column{title: "SERVER", cell: func(e *Edge) string { return e.Server + protoName(e) }}
	sealed := &column{title: "SEALED", cell: sealedHow}
	cipher := &column{title: "CIPHER", cell: func(e *Edge) string { return cmp.Or(cipherName(e.Cipher), "-") }}
	group := &column{title: "GROUP", cell: func(e *Edge) string { return cmp.Or(e.Group, "-") }}
	flows := &column{title: "FLOWS", cell: func(e *Edge) string { return count(e.Flows) }, right: true}
	bytes := &column{title: "BYTES", cell: func(e *Edge) string { return Size(e.Bytes[0] + e.Bytes[1]) }, right: true}
	columns = []*column{client, server, sealed, cipher, group, flows, bytes}
	if !slices.ContainsFunc(edges, func(e *Edge) bool { return e.Cipher != "" || e.Group != "" }) {
		columns = []*column{client, server, sealed, flows, bytes}
	}
	for _, c := range columns {
		c.width = utf8.RuneCountInString(c.title)
		for _, e := range edges {
			c.width = max(c.width, utf8.RuneCountInString(clean(c.cell(e))))
		}
	}
	if total(columns) <= p.Width {
		return columns, true
	}
	columns = []*column{client, server, sealed, flows, bytes}
	if total(columns) > p.Width {
		client.width, server.width, sealed.width = min(client.width, 15), min(server.width, 21), min(sealed.width, 32)
	}
	return columns, false
}

// total is the width of a line: a mark, and two blanks between columns.
func total(columns []*column) int {
	width := 1
	for _, c := range columns {
		width += 2 + c.width
	}
	return width
}

func (p *page) edges(edges []*Edge) {
	if len(edges) == 0 {
		return
	}
	columns, detailed := p.layout(edges)
	p.line(styleBold, " ", columns, func(c *column) string { return c.title })
	for _, e := range edges {
		l := lookOf(e.Class)
		p.line(l.style, l.mark, columns, func(c *column) string { return clean(c.cell(e)) })
		p.details(e, detailed)
	}
	fmt.Fprintln(p.w)
}

// line writes one row. Where its ends are wider than their columns, or the row is
// wider than the page, they stand on a line of their own.
func (p *page) line(style, mark string, columns []*column, cell func(*column) string) {
	const ends = 2
	var b strings.Builder
	b.WriteString(mark)
	wide := total(columns) > p.Width
	for i, c := range columns {
		text := cell(c)
		missing := c.width - utf8.RuneCountInString(text)
		wide = wide || i < ends && missing < 0
		blanks := strings.Repeat(" ", max(missing, 0))
		if i == ends && wide {
			b.WriteString("\n" + strings.Repeat(" ", max(min(total(columns[:ends]), p.Width-total(columns[ends:])), 1)))
		}
		b.WriteString("  ")
		if c.right {
			text, blanks = blanks+text, ""
		}
		b.WriteString(text + blanks)
	}
	for text := range strings.SplitSeq(b.String(), "\n") {
		fmt.Fprintln(p.w, p.paint(style, strings.TrimRight(text, " ")))
	}
}

// details are the lines below an edge: what shows it, and who the ends are.
func (p *page) details(e *Edge, detailed bool) {
	l := lookOf(e.Class)
	if e.Violates != "" {
		p.detail(l.style, "expected", e.Violates)
	}
	if e.Verdict == verify.Plaintext && len(e.Examples) > 0 && e.Examples[0].Evidence != nil {
		p.detail(l.style, "evidence", evidenceWords(e.Examples[0].Evidence))
	}
	if e.Weak != "" {
		p.detail(cmp.Or(l.style, styleDim), "weak", e.Weak)
	}
	if len(e.Reasons.Kept) > 0 {
		p.detail(l.style, "because", e.Reasons.String())
	}
	if e.Exempt != "" {
		p.detail(l.style, "exempt", e.Exempt)
	}
	if !detailed && e.Cipher != "" {
		p.detail(styleDim, "with", strings.TrimSuffix(cipherName(e.Cipher)+", "+e.Group, ", "))
	}
	if a := e.Attested; a != nil {
		by := ""
		if a.By != "both" {
			by = " (by " + byWords(a.By) + " only)"
		}
		p.detail(styleDim, "attested", a.Client+" → "+a.Server+by)
	}
	if d := e.Decrypted; d != nil {
		p.detail(styleDim, "decrypted", peersWords(d))
	}
	if len(e.Names.Kept) > 0 {
		p.detail(styleDim, "seen", e.Names.String())
	}
	if where := whereWords(e); where != "" {
		p.detail(styleDim, "where", where)
	}
	if len(e.Notes.Kept) > 0 {
		p.detail(styleDim, "note", e.Notes.String())
	}
}

// detail writes one line below an edge, wrapped to the page.
func (p *page) detail(style, what, text string) {
	const indent = 3 + 11
	for i, line := range wrap(clean(text), p.Width-indent) {
		if i > 0 {
			what = ""
		}
		fmt.Fprintln(p.w, p.paint(style, strings.TrimRight(fmt.Sprintf("   %-9s  %s", what, line), " ")))
	}
}

// evidenceWords quotes the bytes that show a plaintext.
func evidenceWords(e *verify.Evidence) string {
	from := ""
	if e.From != "" {
		from = " from the " + e.From
	}
	if e.Packet == 0 {
		return e.Text
	}
	return fmt.Sprintf("packet %s%s: %s", count(e.Packet), from, e.Text)
}

// byWords says whose word an attestation is.
func byWords(by string) string {
	if by == "both" {
		return "both proxies"
	}
	return "the proxy of the " + by
}

// whereWords says where on the way an edge was seen.
func whereWords(e *Edge) string {
	switch {
	case e.Overlay == "":
		return e.Vantage
	case e.Vantage == "":
		return "inside " + e.Overlay
	}
	return e.Vantage + ", inside " + e.Overlay
}

// expectations lists what had to be there.
func (p *page) expectations(d *Document) {
	if len(d.Expected)+len(d.Exempted) == 0 {
		return
	}
	for _, o := range d.Expected {
		l := look{"✓", ""}
		problem := outcomeWords(o)
		if problem != "" {
			l = look{"✗", styleRed}
		}
		text := "expected  " + clean(o.Name) + ", " + clean(o.Seal) + ": " + cmp.Or(problem, "met by "+countFlows(o.Flows))
		fmt.Fprintln(p.w, p.paint(l.style, l.mark+"  "+text))
	}
	for _, u := range d.Exempted {
		fmt.Fprintln(p.w, p.paint(styleDim, "·  exempt    "+clean(u.Reason)+": "+countFlows(u.Flows)))
	}
	fmt.Fprintln(p.w)
}

// outcomeWords says why an expectation is not met, or nothing.
func outcomeWords(o verify.Outcome) string {
	switch {
	case o.Violations > 0:
		return fmt.Sprintf("not met by %s of %s", count(o.Violations), countFlows(o.Flows))
	case o.Missing:
		return "not seen"
	}
	return ""
}

// verdict closes the page.
func (p *page) verdict(d *Document, edges []*Edge) {
	headline, meaning := verdictWords(d.Result)
	p.headline(d.Result, headline, meaning)
	p.summary("edges", tallyLine(edges))
	p.summary("seen", factLine(facts(d.Coverage)))
	for i, doubt := range d.Doubts {
		title := "doubts"
		if i > 0 {
			title = ""
		}
		p.summary(title, doubt)
	}
}

// headline is a result in a word or two, and what it means.
func (p *page) headline(r verify.Result, headline, meaning string) {
	style := map[verify.Result]string{verify.Sealed: styleGreen, verify.Leaked: styleRed}[r]
	painted := p.paint(styleBold+";"+cmp.Or(style, styleYellow), headline)
	if utf8.RuneCountInString(headline)+2+utf8.RuneCountInString(meaning) <= p.Width {
		painted += "  " + p.paint(styleDim, meaning)
		meaning = ""
	}
	fmt.Fprintln(p.w, painted)
	for _, line := range wrap(meaning, p.Width-2) {
		if line != "" {
			fmt.Fprintln(p.w, p.paint(styleDim, "  "+line))
		}
	}
}

func (p *page) summary(title, text string) {
	for i, line := range wrap(clean(text), p.Width-10) {
		if i > 0 {
			title = ""
		}
		fmt.Fprintf(p.w, "  %s  %s\n", p.paint(styleDim, fmt.Sprintf("%-6s", title)), line)
	}
}

// wrap cuts a text into lines of at most width characters: at spaces, or within
// a word that is longer than a line.
func wrap(text string, width int) []string {
	width = max(width, 20)
	var lines []string
	runes := []rune(text)
	for len(runes) > width {
		at := width
		for i := width; i >= width/2; i-- {
			if runes[i] == ' ' {
				at = i
				break
			}
		}
		lines = append(lines, strings.TrimRight(string(runes[:at]), " "))
		runes = []rune(strings.TrimLeft(string(runes[at:]), " "))
	}
	return append(lines, string(runes))
}
