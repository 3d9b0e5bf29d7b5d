package lane

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

type vector struct{ name, hex, want string }

func vectors(tb testing.TB) []vector {
	tb.Helper()
	f, err := os.Open("../../test/vectors/lane.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var out []vector
	for s := bufio.NewScanner(f); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); line != "" && line[0] != '#' {
			part := strings.Split(line, "|")
			out = append(out, vector{strings.TrimSpace(part[0]), strings.ReplaceAll(part[1], " ", ""), strings.TrimSpace(part[2])})
		}
	}
	if len(out) == 0 {
		tb.Fatal("no vectors")
	}
	return out
}

// read makes of a frame what a vector says, and writes it again.
func read(frame []byte) (what string, again []byte) {
	if len(frame) < HeaderLen {
		return "! short", nil
	}
	h, err := ParseHeader([HeaderLen]byte(frame))
	if err != nil {
		return refusal(err), nil
	}
	again = make([]byte, HeaderLen)
	h.Put(again)
	payload := frame[HeaderLen:]
	what = fmt.Sprintf("%v stream=%d", h.Type, h.Stream)
	switch h.Type {
	case TypeOpen:
		if len(payload) != int(h.Value) {
			return "! short", nil
		}
		o, err := ParseOpen(payload)
		if err != nil {
			return refusal(err), nil
		}
		return fmt.Sprintf("%s hint=%d destination=%v", what, o.Hint, o.Destination), o.Append(again)
	case TypeData:
		return fmt.Sprintf("%s length=%d", what, h.Value), append(again, payload...)
	case TypeReset:
		return fmt.Sprintf("%s code=%v", what, Code(h.Value)), again
	}
	return what, again
}

func refusal(err error) string {
	for word, class := range map[string]string{
		"unknown frame": "type", "with value": "value", "version": "version",
		"IPv6 form": "address", "port 0": "address", "address family": "short", "too short": "short",
	} {
		if strings.Contains(err.Error(), word) {
			return "! " + class
		}
	}
	return err.Error()
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		frame, err := hex.DecodeString(v.hex)
		if err != nil {
			t.Fatal(v.name, err)
		}
		what, again := read(frame)
		if what != v.want {
			t.Errorf("%s: read as %q, must be %q", v.name, what, v.want)
		}
		if again != nil && !bytes.Equal(again, frame) {
			t.Errorf("%s: written again as %x", v.name, again)
		}
	}
}

// What is accepted is written back identically: no two encodings mean the same.
func FuzzFrame(f *testing.F) {
	for _, v := range vectors(f) {
		frame, _ := hex.DecodeString(v.hex)
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if what, again := read(frame); again != nil && !bytes.HasPrefix(frame, again) {
			t.Errorf("%x read as %q, written again as %x", frame, what, again)
		}
	})
}
