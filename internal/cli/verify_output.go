package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"github.com/sealmesh/sealmesh/internal/report"
)

// reportFormat is the format of a report, as a flag.
type reportFormat report.Format

// String, Set and Type make reportFormat a flag.
func (f *reportFormat) String() string { return string(*f) }

// Type is what the help calls the value.
func (f *reportFormat) Type() string { return "format" }

// Set takes a value from the command line.
func (f *reportFormat) Set(s string) error {
	parsed, err := report.ParseFormat(s)
	if err == nil {
		*f = reportFormat(parsed)
	}
	return err
}

// hashes reports whether the format says which files were read, by their content.
func (f *reportFormat) hashes() bool {
	return report.Format(*f) == report.HTML || report.Format(*f) == report.SARIF
}

func formatNames() []string {
	names := make([]string, len(report.Formats))
	for i, f := range report.Formats {
		names[i] = string(f)
	}
	return names
}

// output is where a report goes: to w, or to a file that appears when it is whole.
type output struct {
	w      io.Writer
	format report.Format
	style  report.Style
	path   string
	file   *os.File
	// becomes is the path that file is given when it is whole; empty if it has its own.
	becomes string
}

// openOutput opens the output, so that a report is not made for nothing.
func (o *verifyOptions) openOutput(stdout io.Writer) (*output, error) {
	out := &output{w: stdout, format: report.Format(o.format), path: o.out}
	if o.out != "" {
		return out, out.create()
	}
	f, ok := stdout.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return out, nil
	}
	if out.format == report.HTML {
		return nil, hint(errors.New("-o html: standard output is a terminal"), "write the page to a file: --out report.html")
	}
	out.style.Color = colorful(stdout)
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		out.style.Width = width
	}
	return out, nil
}

// create opens the file that is to become the report. What is no regular file, such
// as a pipe or a device, is written to as it is.
func (o *output) create() error {
	info, err := os.Stat(o.path)
	switch {
	case err == nil && info.IsDir():
		return hint(fmt.Errorf("--out %s: is a directory", o.path), "name a file in it: --out %s", filepath.Join(o.path, "report"))
	case err == nil && !info.Mode().IsRegular():
		o.file, err = os.OpenFile(o.path, os.O_WRONLY, 0)
	default:
		if target, err := filepath.EvalSymlinks(o.path); err == nil {
			o.becomes = target
		} else {
			o.becomes = o.path
		}
		o.file, err = os.CreateTemp(filepath.Dir(o.becomes), "."+filepath.Base(o.becomes)+".*")
	}
	if err != nil {
		return fmt.Errorf("--out %s: %w", o.path, err)
	}
	return nil
}

// write lets write a report to where it goes. If that is a file, w is told the
// verdict.
func (o *output) write(verdict string, write func(io.Writer, report.Format, report.Style) error) error {
	if o.file == nil {
		return write(o.w, o.format, o.style)
	}
	if err := write(o.file, o.format, o.style); err != nil {
		return err
	}
	if err := o.finish(); err != nil {
		return fmt.Errorf("--out %s: %v", o.path, err)
	}
	fmt.Fprintln(o.w, verdict+"; the report is in "+o.path)
	o.file = nil
	return nil
}

// finish closes the file and lets it appear.
func (o *output) finish() error {
	if o.becomes == "" {
		return o.file.Close()
	}
	return errors.Join(o.file.Chmod(0o644), o.file.Close(), os.Rename(o.file.Name(), o.becomes))
}

// discard takes away a file that did not become whole.
func (o *output) discard() {
	if o.file != nil {
		o.file.Close()
		if o.becomes != "" {
			_ = os.Remove(o.file.Name())
		}
	}
}

// progress is a line on a terminal that says how far a command is.
type progress struct {
	packets, flows atomic.Int64
	quit           chan struct{}
	done           sync.WaitGroup
}

// startProgress shows how it stands once a second, if w is a terminal.
func startProgress(w io.Writer, status func() string) *progress {
	p := &progress{quit: make(chan struct{})}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	p.done.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		clear := ""
		for {
			select {
			case <-tick.C:
				clear = "\r\x1b[K"
				fmt.Fprint(w, clear+p.line(status()))
			case <-p.quit:
				fmt.Fprint(w, clear)
				return
			}
		}
	})
	return p
}

func (p *progress) line(status string) string {
	line := report.Count(p.packets.Load()) + " packets, " + report.Count(p.flows.Load()) + " flows judged"
	if status != "" {
		line += ", " + status
	}
	return line
}

// packet counts one.
func (p *progress) packet() { p.packets.Add(1) }

// flow counts one.
func (p *progress) flow() { p.flows.Add(1) }

// stop takes the line away.
func (p *progress) stop() {
	close(p.quit)
	p.done.Wait()
}

// shellLine is words as a shell reads them back.
func shellLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.Trim(w, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%") != "" {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
