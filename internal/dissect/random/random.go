// Package random denies that bytes came out of a cipher.
//
//	Plausible  one body: how often each value and each bit occurs, what repeats
//	Unrelated  several bodies of one flow: what stands at the same place in each
//
// It can only deny. Compressed and encrypted bytes look the same to it, and so do
// a few bytes of anything: what it does not deny is not shown to be encrypted.
//
// Bytes drawn at random are denied less often than once in a million calls, of
// any length. Text of a single byte per letter is denied from 27 bytes on, and a
// byte repeated from 5 on; how soon other bytes are depends on how many values
// they use: of 64 bytes those with 42 values or fewer are denied, of 256 bytes
// those with 134 or fewer.
package random

import (
	"encoding/binary"
	"math"
	"sync"
)

const (
	// rare is the chance of each single test to deny what is random. One call of
	// Plausible makes at most eleven of them.
	rare = 5e-8
	// countedWhole is the longest body whose distinct values are counted; above
	// it nearly all 256 occur, and how often each does tells more.
	countedWhole = 512
	// limit bounds the work: more bytes tell little more.
	limit = 4096
	// gram is a length that does not occur twice by chance: among the positions
	// of 4096 bytes once in 10^12.
	gram = 8
)

// Plausible reports whether bytes drawn at random could look like b.
func Plausible(b []byte) bool {
	b = b[:min(len(b), limit)]
	var counts [256]int
	for _, c := range b {
		counts[c]++
	}
	return enoughValues(&counts, len(b)) && evenBits(&counts, len(b)) && !repeats(b)
}

// enoughValues holds how often each value occurs against chance.
func enoughValues(counts *[256]int, n int) bool {
	distinct, squares := 0, 0
	for _, c := range counts {
		squares += c * c
		if c > 0 {
			distinct++
		}
	}
	if n <= countedWhole {
		return distinct >= leastDistinct()[n]
	}
	// Pearson's chi-square of 255 degrees of freedom, whose bounds on either side
	// are Wilson and Hilferty's: even too even is not random.
	const lowest, highest = 152, 394
	chi := 256*float64(squares)/float64(n) - float64(n)
	return lowest < chi && chi < highest
}

// leastDistinct is, by length, the least number of distinct values that does not
// deny: of fewer the chance is below rare. Computed from the exact chances p of k
// values among n bytes.
var leastDistinct = sync.OnceValue(func() *[countedWhole + 1]int {
	var least [countedWhole + 1]int
	var p [257]float64
	p[0] = 1
	for n := 1; n <= countedWhole; n++ {
		for k := 256; k > 0; k-- {
			p[k] = p[k]*float64(k)/256 + p[k-1]*float64(257-k)/256
		}
		p[0] = 0
		for k, below := 1, 0.0; k <= 256; k++ {
			if below += p[k]; below >= rare {
				least[n] = k
				break
			}
		}
	}
	return &least
})

// evenBits holds how often each of the eight bits is set against chance: in text
// the highest never is.
func evenBits(counts *[256]int, n int) bool {
	// Hoeffding's inequality, and of few bytes the chance itself.
	least := int(math.Ceil(float64(n)/2 - math.Sqrt(float64(n)*math.Log(2/rare)/2)))
	if n < len(leastHeads()) {
		least = leastHeads()[n]
	}
	var set [8]int
	for value, c := range counts {
		for bit := range set {
			set[bit] += c * (value >> bit & 1)
		}
	}
	for _, heads := range set {
		if min(heads, n-heads) < least {
			return false
		}
	}
	return true
}

// leastHeads is, by the number of tosses of a coin, the least number of heads, or
// of tails, that does not deny: of fewer the chance is below half of rare.
var leastHeads = sync.OnceValue(func() *[countedWhole]int {
	var least [countedWhole]int
	for n := range least {
		p := math.Pow(0.5, float64(n)) // of no heads
		for k, below := 0, p; below < rare/2; k++ {
			p *= float64(n-k) / float64(k+1)
			below += p
			least[n] = k + 1
		}
	}
	return &least
})

// repeats reports whether some sequence of bytes occurs twice.
func repeats(b []byte) bool {
	const bits = 13 // of an index: at most half of the places are taken
	var places [1 << bits]uint16
	for i := 0; i+gram <= len(b); i++ {
		word := binary.BigEndian.Uint64(b[i:])
		at := word * 0x9e3779b97f4a7c15 >> (64 - bits)
		for ; places[at] != 0; at = (at + 1) % (1 << bits) {
			before := int(places[at]) - 1
			if binary.BigEndian.Uint64(b[before:]) == word {
				if i-before >= gram {
					return true
				}
				break
			}
		}
		if places[at] == 0 {
			places[at] = uint16(i + 1)
		}
	}
	return false
}

// edge is how far from its beginning, and from its end, bodies are compared.
const edge = 16

// Unrelated reports whether bodies, each drawn at random, could have as many bytes
// in common as these: at the same distance from the beginning, or from the end,
// in one and the next. A header in clear, a counter or padding has too many. It
// is told from three bodies with four bytes in common each, five with two, or
// eleven with one.
//
// The nonce that some ciphers send before a body is no part of it: leave it out.
func Unrelated(bodies [][]byte) bool {
	places, ahead, behind := 0, 0, 0
	for i := 1; i < len(bodies); i++ {
		a, b := bodies[i-1], bodies[i]
		n := min(len(a), len(b), edge)
		places += n
		for j := range n {
			if a[j] == b[j] {
				ahead++
			}
			if a[len(a)-1-j] == b[len(b)-1-j] {
				behind++
			}
		}
	}
	return tail(places, max(ahead, behind), 1.0/256) >= rare
}

// tail is the chance that of n events, each with chance p, at least k happen; it is
// 1 where k is no more than can be expected.
func tail(n, k int, p float64) float64 {
	if float64(k) <= float64(n)*p {
		return 1
	}
	logC, _ := math.Lgamma(float64(n + 1))
	logK, _ := math.Lgamma(float64(k + 1))
	logR, _ := math.Lgamma(float64(n - k + 1))
	term := math.Exp(logC - logK - logR + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
	sum := 0.0
	for i := k; i <= n && term > sum*1e-9; i++ {
		sum += term
		term *= float64(n-i) / float64(i+1) * p / (1 - p)
	}
	return sum
}
