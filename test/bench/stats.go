package main

import (
	"math"
	"slices"
)

// summary is what is told of the values of several rounds.
type summary struct {
	median, low, high float64
	rounds            int
}

// sumUp is the summary of values; those that are not a number are left out.
func sumUp(values []float64) summary {
	sorted := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(sorted)
	n := len(sorted)
	if n == 0 {
		return summary{median: math.NaN(), low: math.NaN(), high: math.NaN()}
	}
	median := sorted[n/2]
	if n%2 == 0 {
		median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return summary{median: median, low: sorted[0], high: sorted[n-1], rounds: n}
}

// known says whether there was any value.
func (s summary) known() bool { return s.rounds > 0 }

// spread is half of what lies between the lowest and the highest value, in
// percent of the median: 100 ± 5 % if they were 95 and 105.
func (s summary) spread() float64 {
	if s.median == 0 {
		return 0
	}
	return (s.high - s.low) / 2 / s.median * 100
}
