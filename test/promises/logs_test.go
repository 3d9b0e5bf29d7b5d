package promises

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// entry is one line of a log, by key.
type entry map[string]any

// text is the value of a key, "" if there is none.
func (e entry) text(key string) string {
	switch v := e[key].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// has matches entries whose values are those given, as key, value, key, value…
func has(pairs ...string) func(entry) bool {
	return func(e entry) bool {
		for i := 0; i < len(pairs); i += 2 {
			if e.text(pairs[i]) != pairs[i+1] {
				return false
			}
		}
		return true
	}
}

// lines is what a process prints, as it comes.
type lines struct {
	mu   sync.Mutex
	all  []string
	more chan struct{} // closed at the next line, and at the end
	end  bool
}

func newLines() *lines { return &lines{more: make(chan struct{})} }

// follow reads r to its end.
func (l *lines) follow(r io.Reader) {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		l.add(scan.Text(), false)
	}
	l.add("", true)
}

func (l *lines) add(line string, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end {
		l.end = true
	} else {
		l.all = append(l.all, line)
	}
	close(l.more)
	l.more = make(chan struct{})
}

// since returns the lines from the one of that number on.
func (l *lines) since(from int) (got []string, more <-chan struct{}, end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[min(from, len(l.all)):len(l.all):len(l.all)], l.more, l.end
}

// count is how many lines there are so far: a place to look from.
func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

// await waits for a line, from the one of that number on, that is wanted.
func (l *lines) await(tb testing.TB, from int, what string, wanted func(string) bool) string {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		got, more, end := l.since(from)
		for _, line := range got {
			if wanted(line) {
				return line
			}
		}
		from += len(got)
		if end {
			tb.Fatalf("%s: the process has ended", what)
		}
		select {
		case <-more:
		case <-deadline.C:
			tb.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// parse reads a line of a JSON log; nil if it is something else.
func parse(line string) entry {
	var e entry
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		return nil
	}
	return e
}

// mark is a place in the log: here.
func (m *mesh) mark() int { return m.stderr.count() }

// waitLog waits for an entry of the log of `sealmesh up` and its proxies, from a
// place on, that is wanted.
func (m *mesh) waitLog(tb testing.TB, from int, what string, wanted func(entry) bool) entry {
	tb.Helper()
	line := m.stderr.await(tb, from, "log: "+what, func(line string) bool {
		e := parse(line)
		return e != nil && wanted(e)
	})
	return parse(line)
}

// logged are the entries so far, from a place on, that are wanted.
func (m *mesh) logged(from int, wanted func(entry) bool) []entry {
	var out []entry
	got, _, _ := m.stderr.since(from)
	for _, line := range got {
		if e := parse(line); e != nil && wanted(e) {
			out = append(out, e)
		}
	}
	return out
}
