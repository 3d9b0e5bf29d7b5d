package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/sealmesh/sealmesh/internal/report"
)

// format is how a command prints what it found.
type format string

const (
	formatTable format = "table"
	formatWide  format = "wide"
	formatJSON  format = "json"
	formatYAML  format = "yaml"
)

// String, Set and Type make format a flag.
func (f *format) String() string { return string(*f) }

// Type is what the help calls the value.
func (f *format) Type() string { return "format" }

// Set takes a value from the command line.
func (f *format) Set(s string) error {
	switch format(s) {
	case formatTable, formatWide, formatJSON, formatYAML:
		*f = format(s)
		return nil
	}
	return fmt.Errorf("must be table, wide, json or yaml")
}

// flagFormat adds -o to a command.
func flagFormat(c *cobra.Command) *format {
	f := formatTable
	c.Flags().VarP(&f, "output", "o", "table, wide, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{"table", "wide", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// table is rows under a header; wide columns are printed with -o wide only.
type table struct {
	header []string
	wide   []string
	rows   []row
}

type row struct{ cells, wide []string }

// render writes items in a format: as a table made by tabulate, or as they are.
func render[T any](w io.Writer, f format, items []T, tabulate func([]T) table) error {
	if items == nil {
		items = []T{}
	}
	switch f {
	case formatJSON:
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(items)
	case formatYAML:
		b, err := yaml.Marshal(items)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	}
	t := tabulate(items)
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	line := func(cells, wide []string) {
		if f == formatWide {
			cells = append(slices.Clip(cells), wide...)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	line(t.header, t.wide)
	for _, r := range t.rows {
		line(r.cells, r.wide)
	}
	return tw.Flush()
}

// orDash stands for what is empty.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// size is bytes as a person reads them.
func size(n uint64) string { return report.Size(n) }

// expiry is when something ends, seen from now.
func expiry(end, now time.Time) string {
	if !now.Before(end) {
		return "expired"
	}
	return "in " + span(end.Sub(now))
}

// span is a duration in its two largest units: 23h59m, 59m30s, 12s.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
