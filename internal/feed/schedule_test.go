package feed

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRenewalIsDueAtHalfToSeventyPercentOfTheLifetime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		notBefore := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "not before"), 0)
		lifetime := time.Duration(rapid.Int64Range(int64(time.Minute), int64(10*365*24*time.Hour)).Draw(t, "lifetime"))
		draw := rapid.Float64Range(0, 0.999999).Draw(t, "draw")
		age := renewAt(notBefore, notBefore.Add(lifetime), draw).Sub(notBefore)
		if age < lifetime/2 || age > lifetime/10*7+time.Microsecond {
			t.Errorf("due after %s of %s", age, lifetime)
		}
	})
}

func TestRenewalsSpreadOverTheWholeWindow(t *testing.T) {
	start := time.Unix(0, 0)
	end := start.Add(1000 * time.Second)
	if first, last := renewAt(start, end, 0), renewAt(start, end, 0.9999); first != start.Add(500*time.Second) || last.Before(start.Add(699*time.Second)) {
		t.Errorf("from %s to %s, want 500 to 700 s", first.Sub(start), last.Sub(start))
	}
}

func TestBackoffDoublesUpToItsLimit(t *testing.T) {
	want := []int64{500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000}
	for n, w := range want {
		if got := backoff(n+1, certifyFirst, certifyCap, 0).Milliseconds(); got != w {
			t.Errorf("after %d failures: %d ms, want %d", n+1, got, w)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		failures := rapid.IntRange(1, 1<<30).Draw(t, "failures")
		draw := rapid.Float64Range(0, 0.999999).Draw(t, "draw")
		if got := backoff(failures, watchFirst, watchCap, draw); got < watchFirst/2 || got > watchCap {
			t.Errorf("%s, want %s to %s", got, watchFirst/2, watchCap)
		}
	})
}
