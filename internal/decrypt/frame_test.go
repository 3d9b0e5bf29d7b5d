package decrypt

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// vectors are those of the wire format, which the proxies' own reader is tested
// with too.
func vectors(tb testing.TB) (all [][3]string) {
	tb.Helper()
	f, err := os.Open("../../test/vectors/lane.txt")
	must(tb, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" && line[0] != '#' {
			part := strings.Split(line, "|")
			all = append(all, [3]string{strings.TrimSpace(part[0]), strings.ReplaceAll(part[1], " ", ""), strings.TrimSpace(part[2])})
		}
	}
	if len(all) == 0 {
		tb.Fatal("no vectors")
	}
	return all
}

// describe says what frames are in the words of the vectors.
func describe(frames []Frame, err error) string {
	if e, ok := errors.AsType[*FrameError](err); ok {
		return "! " + e.Class
	}
	if len(frames) != 1 {
		return fmt.Sprintf("%d frames", len(frames))
	}
	f := frames[0]
	what := fmt.Sprintf("%s stream=%d", f.Kind, f.Stream)
	switch f.Kind {
	case Open:
		what += fmt.Sprintf(" hint=%d destination=%s", f.Hint, f.Destination)
	case Data:
		what += fmt.Sprintf(" length=%d", f.Length)
	case Reset:
		what += " code=" + f.Code
	}
	return what
}

func TestVectorsOfFrames(t *testing.T) {
	for _, v := range vectors(t) {
		b, err := hex.DecodeString(v[1])
		must(t, err)
		var f Frames
		if got := describe(f.Add(b)); got != v[2] {
			t.Errorf("%s: read as %q, must be %q", v[0], got, v[2])
		}
	}
}

// FuzzFrames: it does not matter how the bytes arrive.
func FuzzFrames(f *testing.F) {
	for _, v := range vectors(f) {
		b, _ := hex.DecodeString(v[1])
		f.Add(b, 1)
		f.Add(append(b, b...), 3)
	}
	flat := func(frames []Frame) (kinds string, data []byte) {
		for _, f := range frames {
			if data = append(data, f.Data...); f.Kind != Data {
				kinds += describe([]Frame{f}, nil) + "\n"
			}
		}
		return kinds, data
	}
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		var whole, parts Frames
		all, err := whole.Add(b)
		step = max(1, min(step, len(b)))
		var some []Frame
		var partErr error
		for rest := b; len(rest) > 0 && partErr == nil; rest = rest[min(step, len(rest)):] {
			var more []Frame
			more, partErr = parts.Add(rest[:min(step, len(rest))])
			some = append(some, more...)
		}
		k1, d1 := flat(all)
		k2, d2 := flat(some)
		if k1 != k2 || !bytes.Equal(d1, d2) || (err == nil) != (partErr == nil) {
			t.Errorf("whole: %s%d bytes %v; in parts: %s%d bytes %v", k1, len(d1), err, k2, len(d2), partErr)
		}
	})
}
