//go:build race

package promises

// raced: the programs are built with the race detector, like this test.
const raced = true
