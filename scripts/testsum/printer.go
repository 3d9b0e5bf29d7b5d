package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// printer writes the story, in colour for a screen.
type printer struct {
	out   io.Writer
	color bool
}

func newPrinter(out io.Writer, color bool) *printer { return &printer{out: out, color: color} }

// The few ways text is set off.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
	grey   = "90"
)

func (p *printer) paint(how, s string) string {
	if !p.color {
		return s
	}
	return "\033[" + how + "m" + s + "\033[0m"
}

// text writes s; a story that cannot be told is nobody's failure.
func (p *printer) text(s string) { _, _ = io.WriteString(p.out, s) }

func (p *printer) linef(format string, args ...any) { p.text(fmt.Sprintf(format, args...) + "\n") }

// pkg writes the line of a package.
func (p *printer) pkg(name string, c count, took time.Duration) {
	mark := p.paint(green, "  ok  ")
	switch {
	case c.failed > 0:
		mark = p.paint(red, "  FAIL")
	case c.passed == 0:
		mark = p.paint(yellow, "  skip")
	}
	line := fmt.Sprintf("%s %-36s %4d passed", mark, name, c.passed)
	if c.failed > 0 {
		line += p.paint(red, fmt.Sprintf(" %3d failed", c.failed))
	}
	if c.skipped > 0 {
		line += p.paint(yellow, fmt.Sprintf(" %3d skipped", c.skipped))
	}
	p.linef("%s %s", line, p.paint(grey, seconds(took)))
}

// failure writes the output of what failed, and the seed that repeats its order.
func (p *printer) failure(name, seed string, output []string) {
	head := p.paint(red, "----") + " " + p.paint(bold, name)
	if seed != "" {
		head += " " + p.paint(grey, seed)
	}
	p.linef("\n%s", head)
	p.text(strings.Join(output, ""))
	p.linef("")
}

// skipsShown is how many tests are named for each reason.
const skipsShown = 3

// end writes the summary. Its last line is the count, without colour, for
// whoever reads it by program.
func (p *printer) end(s *summary, took time.Duration) {
	if len(s.failures) > 0 {
		p.linef("\n%s", p.paint(bold, "Failed"))
		for _, name := range s.failures {
			p.linef("  %s", name)
		}
	}
	if len(s.reasons) > 0 {
		p.linef("\n%s", p.paint(bold, "Could not be run"))
		for _, reason := range s.reasons {
			names := s.skips[reason]
			p.linef("  %s: %d", reason, len(names))
			for i, name := range names {
				if i == skipsShown {
					p.linef("    %s", p.paint(grey, fmt.Sprintf("and %d more", len(names)-i)))
					break
				}
				p.linef("    %s", p.paint(grey, name))
			}
		}
	}
	if s.total.passed+s.total.failed == 0 {
		p.linef("\n%s: no test ran", p.paint(red, "error"))
	}
	p.linef("\npackages: %d, time: %s", s.ran, seconds(took))
	p.linef("%d passed, %d failed, %d skipped", s.total.passed, s.total.failed, s.total.skipped)
}

func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
