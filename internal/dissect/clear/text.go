package clear

import (
	"math"
	"strings"
	"unicode/utf8"
)

// How likely bytes are a text, against drawn at random.
//
// A model gives each byte a chance to stand in a text; against its chance of 1 in
// 256 that is a ratio, and its logarithm so many bits for a text or against one.
// Over random bytes the product of such ratios has the mean 1 at any length, so
// that (Ville's inequality) from a given beginning it ever reaches 2^b with a
// chance of at most 2^-b, and from any of n beginnings with at most n·2^-b. The
// mean over the models has the same property: of the best one log2(models) bits
// are taken off. So a bound on the bits is a bound on the chance of a false text,
// whatever the text is made of: lower-case letters count about 3 bits each,
// base64 2, printable characters of any kind 1.4.
//
// Where a minimum of characters is asked for too, the chance is only smaller.

// minText is how many printable characters in a row are looked at.
const minText = 6

// Segment is a run of text with its bits.
type Segment struct {
	At, Length int
	Bits       float64
}

type model [256]float32

// models of what a text is made of. Each adds up to 1 over all bytes.
var models = makeModels()

func makeModels() []model {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	upper := strings.ToUpper(letters)
	const digits = "0123456789"
	const marks = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
	words := weights{}
	// Letters in English (per mille of letters), evened out for names.
	for i, f := range [26]float64{82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1} {
		words[letters[i]] += 0.62 * (0.7*f/1000 + 0.3/26)
	}
	words = words.add(0.08, digits).add(0.07, upper).add(0.10, " ").add(0.045, "\r\n").add(0.003, "\t").add(0.06, "./:-_=,\"").add(0.022, marks)
	any := weights{}.add(1, letters+upper+digits+marks+" \t\r\n")
	base64 := weights{}.add(0.985, letters+upper+digits+"+/").add(0.015, "=\r\n-_")
	hex := weights{}.add(0.97, digits+"abcdef").add(0.03, "-: \r\n")
	numbers := weights{}.add(0.75, digits).add(0.25, " .,:-\r\n/")
	capitals := weights{}.add(0.72, upper).add(0.08, digits).add(0.20, " _-./:\r\n\"'=")
	return []model{words.model(), any.model(), base64.model(), hex.model(), numbers.model(), capitals.model()}
}

type weights [256]float64

// add shares out a weight among bytes.
func (w weights) add(weight float64, bytes string) weights {
	for i := range len(bytes) {
		w[bytes[i]] += weight / float64(len(bytes))
	}
	return w
}

// impossible ends a run.
const impossible = -1000

func (w weights) model() (m model) {
	sum := 0.0
	for _, p := range w {
		sum += p
	}
	for c, p := range w {
		m[c] = impossible
		if p > 0 {
			m[c] = float32(math.Log2(p / sum * 256))
		}
	}
	return m
}

// mixed is what is taken off for having chosen the best model.
var mixed = math.Log2(float64(len(models) + 3)) // and UTF-8 of two kinds, and a line

// printable reports ASCII that may stand in a text.
func printable(c byte) bool { return c >= ' ' && c <= '~' || c == '\t' || c == '\r' || c == '\n' }

// Text finds the segment of b with the most bits for a text: of ASCII, or of
// letters of two bytes as UTF-16 has them.
func Text(b []byte) Segment {
	var best Segment
	for at := 0; at+minText <= len(b); {
		if !printable(b[at+minText-1]) { // no run can stand across it
			at += minText
			continue
		}
		start := at
		for start > 0 && printable(b[start-1]) {
			start--
		}
		if !printable(b[at]) {
			at++
			continue
		}
		end := at
		for end < len(b) && printable(b[end]) {
			end++
		}
		if end-start >= minText {
			if s := segment(b[start:end]); s.Bits > best.Bits {
				s.At += start
				best = s
			}
		}
		at = end + 1
	}
	if s := wide(b); s.Bits > best.Bits {
		return s
	}
	return best
}

// segment is the best part of a run (Kadane's algorithm, once for each model).
func segment(run []byte) Segment {
	var best Segment
	for i := range models {
		sum, from := float32(0), 0
		for at, c := range run {
			if sum <= 0 {
				sum, from = 0, at
			}
			sum += models[i][c]
			if bits := float64(sum) - mixed; bits > best.Bits {
				best = Segment{At: from, Length: at + 1 - from, Bits: bits}
			}
		}
	}
	return best
}

// wide finds letters with a zero behind each: UTF-16, as SMB and TDS have it.
func wide(b []byte) Segment {
	const least, bits = 6, 8 + 1.4 // a zero, a printable character
	var best Segment
	for at := 0; at+1 < len(b); at++ {
		if b[at+1] != 0 || !printable(b[at]) {
			continue
		}
		n, letters := 0, 0
		for at+2*n+1 < len(b) && b[at+2*n+1] == 0 && printable(b[at+2*n]) {
			if c := b[at+2*n] | 0x20; c >= 'a' && c <= 'z' {
				letters++
			}
			n++
		}
		if s := (Segment{At: at, Length: 2 * n, Bits: bits*float64(n) - mixed}); n >= least && 2*letters >= n && s.Bits > best.Bits {
			best = s
		}
		at += 2*n - 1
	}
	return best
}

// Prefix is the bits for a text of the longest beginning that looks like one.
func Prefix(b []byte) Segment {
	n := 0
	for n < len(b) && printable(b[n]) {
		n++
	}
	var best Segment
	for i := range models {
		sum := float32(0)
		for at, c := range b[:n] {
			sum += models[i][c]
			if bits := float64(sum) - mixed; bits > best.Bits {
				best = Segment{Length: at + 1, Bits: bits}
			}
		}
	}
	if best.Bits > 0 {
		best.Length = n
	}
	return best
}

// hopeless is so far from a text that no end can make up for it.
const hopeless = -256

// leads are the shares of the lengths that Lead looks at, short ones first.
var leads = [...]float32{0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05}

// Lead is the bits, which may be less than none, for b beginning with a text of a few
// characters, behind which comes anything. It is a mean over the models and the
// lengths, each of which has the mean 1 over random bytes: so those of independent
// bodies add up, and reach b bits with a chance of at most 2^-b.
func Lead(b []byte) float64 {
	sum, shares := float32(0), float32(0)
	for n := range min(len(b), len(leads)) {
		shares += leads[n]
	}
	for i := range ratios {
		product := float32(1)
		for n := 0; n < len(b) && n < len(leads) && product > 0; n++ {
			product *= ratios[i][b[n]]
			sum += leads[n] * product
		}
	}
	if shares == 0 {
		return 0
	}
	const none = 0.5 // for there being no text
	return math.Log2(none + (1-none)*float64(sum/shares)/float64(len(ratios)))
}

// ratios are the models, not as logarithms.
var ratios = makeRatios()

func makeRatios() []model {
	all := makeModels()
	for i := range all {
		for c, bits := range all[i] {
			all[i][c] = 0
			if bits > impossible {
				all[i][c] = float32(math.Exp2(float64(bits)))
			}
		}
	}
	return all
}

// Whole is the bits for all of b being a text, in ASCII or UTF-8, or 0 if it is
// none. A character may be cut off at the end.
func Whole(b []byte) float64 {
	best := 0.0
	for i := range models {
		sum := float32(0)
		for _, c := range b {
			if sum += models[i][c]; sum < hopeless {
				break
			}
		}
		best = max(best, float64(sum)-mixed)
	}
	return max(best, unicodeBits(b)-mixed, lineBits(b)-mixed)
}

// lineBits is for arbitrary printable characters and the end of a line.
func lineBits(b []byte) float64 {
	var bits float64
	switch n := len(b); {
	case n > 2 && b[n-2] == '\r' && b[n-1] == '\n':
		b, bits = b[:n-2], 16
	case n > 1 && b[n-1] == '\n':
		b, bits = b[:n-1], 8
	default:
		return 0
	}
	for _, c := range b {
		if !printable(c) {
			return 0
		}
		bits += math.Log2(256.0 / 98)
	}
	return bits
}

// unicodeBits reads b as UTF-8, of a script that needs few characters beyond ASCII
// (2 of 100 in two bytes, 2 in more), or mostly such: a third each of one byte, of
// two, and of more.
func unicodeBits(b []byte) float64 {
	words := &models[0]
	latin, other := 0.0, 0.0
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case n == 1 && r == utf8.RuneError && len(b) < utf8.UTFMax && !utf8.FullRune(b):
			return max(latin, other)
		case n == 1 && (r == utf8.RuneError || !printable(b[0])), r >= 0x7f && r < 0xa0:
			return 0
		case n == 1:
			latin += float64(words[b[0]]) - 0.06
			other += math.Log2(256.0 / 98 / 3)
		case n == 2:
			latin += math.Log2(65536.0 / 1920 / 50)
			other += math.Log2(65536.0 / 1920 / 3)
		default:
			latin += math.Log2(1 << 24 / 61440.0 / 50)
			other += math.Log2(1 << 24 / 61440.0 / 3)
		}
		b = b[n:]
	}
	return max(latin, other)
}
