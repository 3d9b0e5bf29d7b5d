package capture

import (
	"bytes"
	"strings"
	"testing"
)

// A flow that is to be kept longer is kept whole, each byte with its packet; others
// are not.
func TestSomeFlowsAreKeptWider(t *testing.T) {
	const wide = 1 << 20
	part := strings.Repeat("0123456789abcdef", 64)
	packets := []packet{up("S", 99, "")}
	for i := range wide / len(part) {
		packets = append(packets, up("", uint32(100+i*len(part)), part))
	}
	packets = append(packets, up("", 100+wide, "more"))
	for keep, want := range map[int]int{0: Window, wide: wide, wide + 4: wide, 2 * wide: wide + 4} {
		asked := 0
		flows, _ := limited(Limits{Keep: func(f *Flow) int { asked++; return keep }}, packets...)
		if len(flows) != 1 || asked != 1 || len(flows[0].ToServer.Chunks) != 1 {
			t.Fatalf("%d flows, asked %d times", len(flows), asked)
		}
		c := flows[0].ToServer.Chunks[0]
		if len(c.Data) != want {
			t.Errorf("asked for %d: kept %d, want %d", keep, len(c.Data), want)
		}
		var all []byte
		for number, piece := range c.Pieces() {
			if c.Packet(len(all)) != number || c.Packet(len(all)+len(piece)-1) != number {
				t.Fatalf("byte %d is said to be of packet %d, not %d", len(all), number, c.Packet(len(all)))
			}
			all = append(all, piece...)
		}
		if !bytes.Equal(all, c.Data) {
			t.Errorf("the pieces are %d bytes, the chunk is %d", len(all), len(c.Data))
		}
	}
}
