package random

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"
)

// chance is a source that is the same in each run.
func chance(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func drawn(source *rand.ChaCha8, n int) []byte {
	b := make([]byte, n)
	if _, err := source.Read(b); err != nil {
		panic(err)
	}
	return b
}

// TestRandomBytesAreNotDenied draws 60,000 bodies: at once in a million, none of
// them should be denied, with a chance of one in sixteen.
func TestRandomBytesAreNotDenied(t *testing.T) {
	source := chance(1)
	sizes := rand.New(chance(2))
	for range 60_000 {
		n := 1 + sizes.IntN(300)
		if sizes.IntN(50) == 0 {
			n = 1 + sizes.IntN(6000)
		}
		if b := drawn(source, n); !Plausible(b) {
			t.Errorf("%d random bytes denied: %x", n, b)
		}
	}
}

func TestRandomBodiesAreUnrelated(t *testing.T) {
	source := chance(3)
	sizes := rand.New(chance(4))
	for range 20_000 {
		bodies := make([][]byte, sizes.IntN(30))
		for i := range bodies {
			bodies[i] = drawn(source, sizes.IntN(40))
		}
		if !Unrelated(bodies) {
			t.Errorf("denied: %x", bodies)
		}
	}
}

func TestWhatIsNotRandomIsDenied(t *testing.T) {
	source := chance(5)
	wide := func(s string) []byte {
		var b []byte
		for _, r := range s {
			b = binary.LittleEndian.AppendUint16(b, uint16(r))
		}
		return b
	}
	for name, b := range map[string][]byte{
		"a short line":    []byte("this is a test of 27 bytes."),
		"zeros":           make([]byte, 5),
		"UTF-16":          wide("this is a test of many bytes"),
		"another script":  []byte("Обычный текст без шифра, который нельзя назвать случайным"),
		"base64":          []byte(base64.StdEncoding.EncodeToString(drawn(source, 48))),
		"a page":          []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. ", 300)),
		"numbers":         wide("\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x20\x21\x22\x23\x24\x25"),
		"random, repeats": bytes.Repeat(drawn(source, 100), 2),
		"random, padded":  append(drawn(source, 100), make([]byte, 60)...),
		"every value the same number of times": func() []byte {
			b := make([]byte, 4096)
			for i := range b {
				b[i] = byte(i*151 + i>>8*7)
			}
			return b
		}(),
	} {
		if Plausible(b) {
			t.Errorf("%s: not denied", name)
		}
	}
}

func TestBodiesWithACommonHeaderAreRelated(t *testing.T) {
	source := chance(6)
	for name, common := range map[string]struct {
		bodies int
		header []byte
		behind bool
	}{
		"four bytes in three": {3, []byte{1, 2, 3, 4}, false},
		"two bytes in five":   {5, []byte{0xca, 0xfe}, false},
		"padding behind":      {4, []byte{0, 0, 0}, true},
		"one byte in eleven":  {11, []byte{0}, false},
	} {
		bodies := make([][]byte, common.bodies)
		for i := range bodies {
			bodies[i] = append(bytes.Clone(common.header), drawn(source, 40)...)
			if common.behind {
				bodies[i] = append(drawn(source, 30+i), common.header...)
			}
		}
		if Unrelated(bodies) {
			t.Errorf("%s: not denied", name)
		}
	}
}

// TestTheStatedBoundsHold reads the table that the package comment quotes.
func TestTheStatedBoundsHold(t *testing.T) {
	for n, want := range map[int]int{5: 2, 64: 43, 256: 135} {
		if got := leastDistinct()[n]; got != want {
			t.Errorf("of %d bytes at least %d values, stated %d", n, got, want)
		}
	}
	if Plausible([]byte("abcdefghijklmnopqrstuvwxyz0")) {
		t.Error("27 letters not denied")
	}
}

func FuzzPlausible(f *testing.F) {
	f.Add([]byte("text"), 2)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		text := len(b) > 26
		for _, c := range b {
			text = text && c < 0x80
		}
		if Plausible(b) && text {
			t.Error("text is not denied")
		}
		Unrelated([][]byte{b, b[:len(b)/2], nil})
	})
}
