package demo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
)

// journal keeps the lines that a program prints, for those who wait for one. It
// is an io.Writer.
type journal struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	changed chan struct{} // closed, and made anew, with each line
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

// Write takes bytes of the program's output. It never fails.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.partial = append(j.partial, b...)
	for {
		line, rest, whole := bytes.Cut(j.partial, []byte("\n"))
		if !whole {
			return len(b), nil
		}
		j.lines, j.partial = append(j.lines, string(line)), rest
		close(j.changed)
		j.changed = make(chan struct{})
	}
}

// len is how many lines there are.
func (j *journal) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.lines)
}

// since returns the lines from index from on, and a channel that is closed when
// there are more.
func (j *journal) since(from int) ([]string, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines[min(from, len(j.lines)):], j.changed
}

// wait returns the first line from index from on that matches. At the end of ctx
// it fails with the last line there is, which often says why.
func (j *journal) wait(ctx context.Context, from int, match func(string) bool) (string, error) {
	for {
		lines, more := j.since(from)
		for _, line := range lines {
			if match(line) {
				return line, nil
			}
		}
		from += len(lines)
		select {
		case <-more:
		case <-ctx.Done():
			return "", fmt.Errorf("%w; the last line was %q", context.Cause(ctx), j.last())
		}
	}
}

func (j *journal) last() string {
	lines, _ := j.since(0)
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}

func anyLine(string) bool { return true }

// is matches one line exactly; begins matches how it begins.
func is(want string) func(string) bool { return func(line string) bool { return line == want } }

func begins(want string) func(string) bool {
	return func(line string) bool { return strings.HasPrefix(line, want) }
}
