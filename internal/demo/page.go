package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// mark says how a claim came out.
type mark uint8

const (
	failed  mark = iota // the zero value is the one that nothing can be blamed on
	held                // as it should be
	exposed             // as it was expected, and should not be
)

// claim is one thing that was shown.
type claim struct {
	Mark mark
	Text string
	// Evidence is what shows it, in lines.
	Evidence []string
}

// claimed makes a claim that holds if ok does.
func claimed(ok bool, text string, evidence ...string) claim {
	c := claim{Text: text, Evidence: evidence}
	if ok {
		c.Mark = held
	}
	return c
}

// scene is who is where.
type scene struct {
	Sender, Receiver string // addresses
	Listens          string // the receiver's command
}

// verdict is how the demo came out.
type verdict struct {
	Held, Claimed int
	Took          time.Duration
	Before, After string // capture files
	Next          []string
}

// page renders the narration. It does nothing else.
type page struct {
	out   io.Writer
	color bool
}

// Styles, as SGR parameters (ECMA-48).
const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint gives a text a style, where there are colours.
func (p *page) paint(style, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// A claim's text is followed by its evidence, on lines of at most 80 columns:
// that of an indent, the mark, the text and the evidence.
const (
	textWidth     = 32
	evidenceWidth = 80 - 3 - 2 - textWidth
)

// opening draws the scene.
func (p *page) opening(s scene) {
	fmt.Fprintf(p.out, "\n%s  %s\n\n", p.paint(bold, "Sealmesh"), p.paint(dim, "two nodes, two programs, one wire"))
	left, right := "sender "+s.Sender, "receiver "+s.Receiver
	width := max(utf8.RuneCountInString(left), 16)
	for _, line := range []string{
		fmt.Sprintf("%-*s      %s", width, left, right),
		fmt.Sprintf("%-*s      %s", width, "$ nc", "$ "+s.Listens),
		fmt.Sprintf("%-*s      %s", width, "      │", "      │"),
		fmt.Sprintf("%-*s      %s", width, "   node 1", "   node 2"),
		fmt.Sprintf("      └%s┘", strings.Repeat("─", width+5)),
		fmt.Sprintf("%-*s        %s", width, "       underlay", "▲ tcpdump reads here"),
	} {
		fmt.Fprintf(p.out, "   %s\n", strings.TrimRight(line, " "))
	}
	fmt.Fprintf(p.out, "\n   %s\n   %s\n",
		p.paint(dim, "Two more wait: beside the sender a stranger without any identity, beside"),
		p.paint(dim, "the receiver a thief, who has one of his own."))
}

// act begins a step.
func (p *page) act(number int, title, subtitle string) {
	fmt.Fprintf(p.out, "\n%s  %s\n\n", p.paint(bold, fmt.Sprintf("%d  %s", number, title)), p.paint(dim, subtitle))
}

// command shows what is run, and where.
func (p *page) command(where, command string) { p.event(where, "$ "+command) }

// event shows what happens to whom.
func (p *page) event(who, what string) {
	fmt.Fprintf(p.out, "   %s  %s\n", p.paint(dim, fmt.Sprintf("%-8s", who)), what)
}

// gap parts what belongs together from what follows.
func (p *page) gap() { fmt.Fprintln(p.out) }

// claim shows a claim and its evidence.
func (p *page) claim(c claim) {
	sign := p.paint(red, "✗")
	switch c.Mark {
	case held:
		sign = p.paint(green, "✓")
	case exposed:
		sign = p.paint(yellow, "!")
	}
	text := c.Text
	if len(c.Evidence) == 0 {
		fmt.Fprintf(p.out, "   %s %s\n", sign, text)
		return
	}
	first := true
	for _, evidence := range c.Evidence {
		for _, line := range wrap(evidence, evidenceWidth) {
			if !first {
				sign, text = " ", ""
			}
			pad := strings.Repeat(" ", max(textWidth-utf8.RuneCountInString(text), 1))
			fmt.Fprintf(p.out, "   %s %s%s%s\n", sign, text, pad, p.paint(dim, line))
			first = false
		}
	}
}

// wrap cuts a text at spaces into lines of at most width columns. A word that is
// longer stays whole.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// verdict closes the demo, on one screen.
func (p *page) verdict(v verdict) {
	word, style := "Sealed", green
	if v.Held < v.Claimed {
		word, style = "Not shown to be sealed", red
	}
	fmt.Fprintf(p.out, "\n%s  %s\n\n", p.paint(bold, "5  Verdict"), p.paint(dim, "what held"))
	fmt.Fprintf(p.out, "   %s  %d of %d claims held, in %.1f s\n\n", p.paint(bold+";"+style, word), v.Held, v.Claimed, v.Took.Seconds())
	fmt.Fprintf(p.out, "   %s  %s\n", p.paint(dim, "before"), v.Before)
	fmt.Fprintf(p.out, "   %s  %s\n\n", p.paint(dim, "after "), v.After)
	for i, next := range v.Next {
		label := "      "
		if i == 0 {
			label = "try   "
		}
		fmt.Fprintf(p.out, "   %s  %s\n", p.paint(dim, label), next)
	}
	fmt.Fprintln(p.out)
}

// invitation shows the ways into a lab that keeps running.
func (p *page) invitation(ways [][2]string) {
	fmt.Fprintf(p.out, "   %s\n", p.paint(bold, "The lab keeps running. Ctrl-C ends it and leaves nothing behind."))
	for _, way := range ways {
		fmt.Fprintf(p.out, "   %s  %s\n", p.paint(dim, fmt.Sprintf("%-18s", way[0])), way[1])
	}
	fmt.Fprintln(p.out)
}

// received shows a line that the receiver printed.
func (p *page) received(line string) {
	p.event("receiver", "prints "+line)
}
