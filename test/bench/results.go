package main

import (
	"math"
)

// peerNames are the systems that sealmesh is compared with.
var peerNames = []string{"haproxy", "nginx"}

// ours is the name of the system that has targets.
const ours = "sealmesh"

// results are the values of all rounds.
type results struct {
	systems      []string // columns, in order
	measurements []measurement
	values       map[string]map[string][]float64 // by title of the figure within its measurement, by system
	shares       map[string]map[string][]share   // by measurement, by system
	failures     []string
}

func newResults(systems []string, chosen []measurement) *results {
	return &results{
		systems: systems, measurements: chosen,
		values: make(map[string]map[string][]float64),
		shares: make(map[string]map[string][]share),
	}
}

// key tells figures of different measurements apart.
func key(m measurement, f figure) string { return m.name + " " + f.title }

// add takes what was observed of a system in one round.
func (r *results) add(m measurement, system string, o observation) {
	for _, f := range m.figures {
		k := key(m, f)
		if r.values[k] == nil {
			r.values[k] = make(map[string][]float64)
		}
		r.values[k][system] = append(r.values[k][system], f.value(o))
	}
	if r.shares[m.name] == nil {
		r.shares[m.name] = make(map[string][]share)
	}
	r.shares[m.name][system] = append(r.shares[m.name][system], shareOf(o))
}

// summary of one figure of one system.
func (r *results) summary(m measurement, f figure, system string) summary {
	return sumUp(r.values[key(m, f)][system])
}

// share of the processors' time in one measurement of one system: medians.
func (r *results) share(m measurement, system string) share {
	median := func(part func(share) float64) float64 {
		var values []float64
		for _, s := range r.shares[m.name][system] {
			values = append(values, part(s))
		}
		return sumUp(values).median
	}
	return share{
		proxies:   median(func(s share) float64 { return s.proxies }),
		generator: median(func(s share) float64 { return s.generator }),
		idle:      median(func(s share) float64 { return s.idle }),
		rest:      median(func(s share) float64 { return s.rest }),
	}
}

// verdict compares sealmesh with the better peer, and with the target.
type verdict struct {
	// ratio to the better one of the peers; not a number if either is unknown.
	ratio float64
	// judged is false if there is no target or nothing to hold against it.
	judged  bool
	met     bool
	reached bool // the aim too
}

// judge is the verdict on one figure.
func (r *results) judge(m measurement, f figure) verdict {
	we := r.summary(m, f, ours)
	v := verdict{ratio: we.median / r.betterPeer(m, f)}
	var measured float64
	switch f.target.kind {
	case noTarget:
		return v
	case ofBetterPeer:
		measured = v.ratio
	case atMost:
		measured = we.median
	}
	v.judged = !math.IsNaN(measured)
	v.met = reaches(f, measured, f.target.value)
	v.reached = f.target.aim != 0 && reaches(f, measured, f.target.aim)
	return v
}

// reaches says whether value is at least, or at most, what is wanted.
func reaches(f figure, value, want float64) bool {
	if f.higherIsBetter {
		return value >= want
	}
	return value <= want
}

// betterPeer is the better median of the peers; not a number without any.
func (r *results) betterPeer(m measurement, f figure) float64 {
	better := math.NaN()
	for _, name := range peerNames {
		s := r.summary(m, f, name)
		if s.known() && (math.IsNaN(better) || reaches(f, s.median, better)) {
			better = s.median
		}
	}
	return better
}
