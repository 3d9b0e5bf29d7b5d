package main

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// One short round of the lab without a proxy: every measurement yields its
// figures, and nothing is left running.
func TestARoundYieldsEveryFigure(t *testing.T) {
	lab.NeedRoot(t)
	o := options{rounds: 1, window: 100 * time.Millisecond, warmUp: 10 * time.Millisecond, settle: 10 * time.Millisecond}
	var progress strings.Builder
	r, err := measureAll(t.Context(), o, []system{direct{}}, measurements, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.failures) > 0 {
		t.Fatal(r.failures)
	}
	for _, m := range measurements {
		for _, f := range m.figures {
			if ofProxies := m.name == "memory" || strings.Contains(f.title, "CPU"); ofProxies {
				continue
			}
			if s := r.summary(m, f, "direct"); !s.known() || s.median <= 0 {
				t.Errorf("%s: %+v", key(m, f), s)
			}
		}
	}
	if lines := slices.Collect(strings.Lines(progress.String())); len(lines) != len(measurements) {
		t.Errorf("%d lines of progress, want %d:\n%s", len(lines), len(measurements), &progress)
	}
}

// A system that refuses connections is told of, and is not a number.
func TestAFailedMeasurementIsNotAFigure(t *testing.T) {
	l := lab.T(t, lab.Config{Nodes: 2, IPv4Only: true})
	o := options{rounds: 1, window: 100 * time.Millisecond, warmUp: 10 * time.Millisecond}
	requests := measurements[slices.IndexFunc(measurements, func(m measurement) bool { return m.name == "requests" })]
	s, err := newSuite(l, o, []system{direct{}}, []measurement{requests}, new(strings.Builder))
	if err != nil {
		t.Fatal(err)
	}
	c := s.contestants[0]
	if err := c.bringUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.server.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.measure(t.Context(), requests, c); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("error %v, want connection refused", err)
	}
}

func TestSealedMeansBothWorkloads(t *testing.T) {
	for _, c := range []struct {
		output         string
		client, server int
		fails          bool
	}{
		{"control plane runs\nsealed bench/server: 9 rules, proxy pid 7\nsealed bench/client: 9 rules, proxy pid 8\n", 8, 7, false},
		{"sealed bench/server: 9 rules, proxy pid 7\nsealed bench/server: 9 rules, proxy pid 9\n", 0, 0, true},
		{"", 0, 0, true},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := write.WriteString(c.output); err != nil {
			t.Fatal(err)
		}
		write.Close()
		client, server, err := awaitSealed(read)
		read.Close()
		if (err != nil) != c.fails || client != c.client || server != c.server {
			t.Errorf("%q: %d %d %v", c.output, client, server, err)
		}
	}
}
