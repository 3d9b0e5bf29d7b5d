package verify

import "fmt"

// counter follows the numbers that one sender gives the messages of one session.
// They rise; but on the way messages are lost and overtake each other.
type counter struct {
	seen    map[uint64]bool
	highest uint64
	late    int // messages behind one of a higher number
	bytes   int // that should be sealed
}

const (
	// counterGap is wider than what is lost at a time.
	counterGap = 1 << 20
	// counterWindow is how late a message may come: WireGuard in Linux takes no
	// older ones, and others have smaller windows.
	counterWindow = 8192
)

func newCounter() *counter { return &counter{seen: map[uint64]bool{}} }

// add takes in one message of a number of sealed bytes, unless its number cannot
// be that of a counter.
func (c *counter) add(n uint64, sealed int) error {
	switch {
	case c.seen[n]:
		return fmt.Errorf("the number %d occurs twice", n)
	case len(c.seen) > 0 && n < c.highest:
		c.late++
		if c.highest-n >= counterWindow {
			return fmt.Errorf("the numbers fall from %d to %d", c.highest, n)
		}
	case len(c.seen) > 0 && n-c.highest >= counterGap:
		return fmt.Errorf("the numbers jump from %d to %d", c.highest, n)
	}
	c.seen[n] = true
	c.highest = max(c.highest, n)
	c.bytes += sealed
	return nil
}

// rises reports whether the numbers do, by and large.
func (c *counter) rises() bool { return c.late*2 <= len(c.seen) }
