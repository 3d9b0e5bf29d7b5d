package main

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
)

// table is rows of cells, rendered for a terminal or as Markdown.
type table struct {
	header []string
	rows   [][]string
}

// figureTable is the table of all figures: medians, spread, ratio and verdict.
func figureTable(r *results) table {
	t := table{header: append(append([]string{"figure", "unit"}, r.systems...), "ratio", "target", "")}
	for _, m := range r.measurements {
		for _, f := range m.figures {
			row := []string{f.title, f.unit}
			for _, system := range r.systems {
				row = append(row, formatSummary(r.summary(m, f, system), f.digits))
			}
			v := r.judge(m, f)
			t.rows = append(t.rows, append(row, formatRatio(v.ratio), formatTarget(f), formatVerdict(v)))
		}
	}
	return t
}

// shareTable is the table of where the processors' time went, in percent.
func shareTable(r *results) table {
	t := table{header: append([]string{"proxies / generator / rest / idle"}, r.systems...)}
	for _, m := range r.measurements {
		if m.name == "memory" {
			continue // nothing moves while memory is read
		}
		row := []string{m.figures[0].title}
		for _, system := range r.systems {
			row = append(row, formatShare(r.share(m, system)))
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// formatSummary is a median with its spread, or a dash.
func formatSummary(s summary, digits int) string {
	if !s.known() {
		return "–"
	}
	return fmt.Sprintf("%s ±%.0f%%", formatNumber(s.median, digits), s.spread())
}

// formatNumber has thousands set apart.
func formatNumber(value float64, digits int) string {
	text := strconv.FormatFloat(value, 'f', digits, 64)
	whole, fraction, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction == "" {
		return whole
	}
	return whole + "." + fraction
}

func formatRatio(ratio float64) string {
	if math.IsNaN(ratio) {
		return "–"
	}
	return fmt.Sprintf("%.2f×", ratio)
}

// formatTarget is the target and the aim beyond it.
func formatTarget(f figure) string {
	relation := "≤"
	if f.higherIsBetter {
		relation = "≥"
	}
	switch {
	case f.target.kind == noTarget:
		return ""
	case f.target.kind == atMost:
		return fmt.Sprintf("%s %g %s", relation, f.target.value, f.unit)
	case f.target.aim != 0:
		return fmt.Sprintf("%s %g× (aim %g×)", relation, f.target.value, f.target.aim)
	default:
		return fmt.Sprintf("%s %g×", relation, f.target.value)
	}
}

func formatVerdict(v verdict) string {
	switch {
	case !v.judged:
		return ""
	case v.reached:
		return "✓ aim"
	case v.met:
		return "✓"
	default:
		return "✗"
	}
}

// formatShare is four shares in percent.
func formatShare(s share) string {
	if math.IsNaN(s.idle) {
		return "–"
	}
	return fmt.Sprintf("%.0f / %.0f / %.0f / %.0f", s.proxies*100, s.generator*100, s.rest*100, s.idle*100)
}

// text renders the table for a terminal.
func (t table) text() string {
	var padded bytes.Buffer
	tabs := tabwriter.NewWriter(&padded, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		fmt.Fprintln(tabs, strings.Join(row, "\t")+"\t")
	}
	_ = tabs.Flush() // a buffer takes everything
	lines := strings.Split(padded.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// markdown renders the table for a document. Cells hold no bars.
func (t table) markdown() string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.header)
	rule := make([]string, len(t.header))
	for i := range rule {
		rule[i] = "---"
	}
	line(rule)
	for _, row := range t.rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			// A Markdown cell loses leading blanks; these keep the indent.
			cells[i] = strings.ReplaceAll(cell, "  ", "&nbsp;&nbsp;")
		}
		line(cells)
	}
	return b.String()
}
