package proxy

import "runtime/debug"

// trimAfter is how many looks without a new connection end a burst.
const trimAfter = 3

// trim gives memory back to the system once a burst of connections is over: what
// their handshakes needed is garbage by then, their stacks have more room than
// they use, and an idle process would not collect either for minutes.
type trim struct {
	begun uint64
	quiet int
}

// look is called about once a second with the number of connections begun so far.
func (t *trim) look(begun uint64) {
	if begun != t.begun {
		t.begun, t.quiet = begun, 0
		return
	}
	if t.quiet++; t.quiet == trimAfter && begun > 0 {
		go debug.FreeOSMemory()
	}
}
