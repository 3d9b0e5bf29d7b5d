package proxy

import "runtime/debug"

// trimFrom is how many connections make a burst.
const trimFrom = 128

// trim gives memory back to the system once a burst of connections is over: what
// their handshakes needed is garbage by then, their stacks have more room than
// they use, and an idle process would not collect either for minutes.
type trim struct {
	begun   uint64 // connections at the last look
	trimmed uint64 // connections when memory was last given back
}

// look is called about once a second with the number of connections begun so far.
func (t *trim) look(begun uint64) {
	quiet := begun == t.begun
	t.begun = begun
	if quiet && begun-t.trimmed >= trimFrom {
		t.trimmed = begun
		go debug.FreeOSMemory()
	}
}
