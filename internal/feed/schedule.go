package feed

import "time"

// When things are tried again. Each wait is drawn from the upper half of what is
// due, so that proxies that failed together do not come back together.
const (
	certifyFirst = 500 * time.Millisecond
	certifyCap   = time.Minute
	watchFirst   = 100 * time.Millisecond
	watchCap     = 5 * time.Second
	// renewPause is the least time between two renewals, whatever the clock of
	// this machine makes of a leaf's validity.
	renewPause = 5 * time.Second
)

// renewAt is when a leaf is to be renewed: at 50 to 70 % of its lifetime, as
// draw, from [0,1), has it.
func renewAt(notBefore, notAfter time.Time, draw float64) time.Time {
	lifetime := notAfter.Sub(notBefore)
	return notBefore.Add(lifetime/2 + time.Duration(float64(lifetime)*0.2*draw))
}

// backoff is how long to wait after a number of failures in a row, from 1: first,
// doubled with each failure up to limit, less up to half of it as draw, from
// [0,1), has it.
func backoff(failures int, first, limit time.Duration, draw float64) time.Duration {
	wait := first
	for n := 1; n < failures && wait < limit; n++ {
		wait *= 2
	}
	wait = min(wait, limit)
	return wait - time.Duration(float64(wait)/2*draw)
}
