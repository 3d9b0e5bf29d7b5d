package capture

import (
	"bytes"
	"math"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The two ends of every flow here.
var (
	client = netip.MustParseAddrPort("10.77.1.11:40112")
	server = netip.MustParseAddrPort("10.77.2.11:2929")
)

// endOf is one side of a packet.
func endOf(a netip.AddrPort) end {
	e := end{port: a.Port(), family: familyIPv4}
	copy(e.addr[:], a.Addr().AsSlice())
	return e
}

// from makes a segment, written as a trace is read.
func from(src, dst netip.AddrPort, flags string, seq uint32, data string) packet {
	p := packet{proto: protoTCP, src: endOf(src), dst: endOf(dst), seq: seq, payload: []byte(data), at: time.Unix(1, 0)}
	for _, flag := range flags {
		p.flags |= map[rune]uint8{'S': flagSYN, 'F': flagFIN, 'R': flagRST}[flag]
	}
	return p
}

// acking adds an acknowledgement.
func (p packet) acking(ack uint32) packet {
	p.flags |= flagACK
	p.acknowledged = ack
	return p
}

func up(flags string, seq uint32, data string) packet { return from(client, server, flags, seq, data) }
func down(flags string, seq uint32, data string) packet {
	return from(server, client, flags, seq, data)
}

// assembled is the flows that packets make.
func assembled(packets ...packet) []*Flow {
	flows, _ := limited(Limits{}, packets...)
	return flows
}

// limited is the same within limits.
func limited(l Limits, packets ...packet) ([]*Flow, Counts) {
	f := &File{}
	t := NewTable(l, func(flow *Flow) { f.Flows = append(f.Flows, flow) })
	t.keep = true
	for i, p := range packets {
		p.number = i + 1
		t.counts.Packets++
		t.add(&p)
	}
	counts := t.Close()
	f.sort()
	return f.Flows, counts
}

func TestStreamsAreReadBySequenceNumber(t *testing.T) {
	type want struct {
		chunks   []string // as text; a gap lies between each two
		missing  int64
		conflict bool
	}
	for _, tc := range []struct {
		name     string
		segments []packet
		want     want
	}{
		{"in order", []packet{up("S", 100, ""), up("", 101, "abc"), up("", 104, "def")}, want{chunks: []string{"abcdef"}}},
		{"out of order", []packet{up("S", 100, ""), up("", 104, "def"), up("", 101, "abc")}, want{chunks: []string{"abcdef"}}},
		{"sent again", []packet{up("S", 100, ""), up("", 101, "abc"), up("", 101, "abc"), up("", 101, "abcdef")}, want{chunks: []string{"abcdef"}}},
		{"overlapping", []packet{up("S", 100, ""), up("", 103, "cde"), up("", 101, "abcdefg")}, want{chunks: []string{"abcdefg"}}},
		{"sent again with another content", []packet{up("S", 100, ""), up("", 101, "abc"), up("", 102, "Xcd")}, want{chunks: []string{"abcd"}, conflict: true}},
		{"gap", []packet{up("S", 100, ""), up("", 101, "abc"), up("", 106, "fg")}, want{chunks: []string{"abc", "fg"}, missing: 2}},
		{"gap at the end, acknowledged", []packet{up("S", 100, ""), up("", 101, "abc"), down("", 1, "").acking(106)}, want{chunks: []string{"abc"}, missing: 2}},
		{"gap at the end, before the FIN", []packet{up("S", 100, ""), up("", 101, "abc"), up("F", 106, ""), down("", 1, "").acking(107)}, want{chunks: []string{"abc"}, missing: 2}},
		{"FIN acknowledged", []packet{up("S", 100, ""), up("F", 101, "abc"), down("", 1, "").acking(105)}, want{chunks: []string{"abc"}}},
		{"across the end of the numbers", []packet{up("S", math.MaxUint32-2, ""), up("", 1, "def"), up("", math.MaxUint32-1, "abc")}, want{chunks: []string{"abcdef"}}},
		{"data with the SYN", []packet{up("S", 100, "abc"), up("", 104, "def")}, want{chunks: []string{"abcdef"}}},
		{"keep-alive probe", []packet{up("S", 100, ""), up("", 101, "abc"), up("", 103, "\x00"), up("", 104, "def")}, want{chunks: []string{"abcdef"}}},
		{"reset with a wild acknowledgement", []packet{up("S", 100, ""), up("", 101, "abc"), down("R", 1, "").acking(9999)}, want{chunks: []string{"abc"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows := assembled(tc.segments...)
			if len(flows) != 1 {
				t.Fatalf("%d flows", len(flows))
			}
			d := flows[0].ToServer
			if got := texts(d.Chunks); !equal(got, tc.want.chunks) || d.Missing != tc.want.missing || d.Conflict != tc.want.conflict {
				t.Errorf("chunks %q, missing %d, conflict %t; want %+v", got, d.Missing, d.Conflict, tc.want)
			}
		})
	}
}

func texts(chunks []Chunk) (all []string) {
	for _, c := range chunks {
		all = append(all, string(c.Data))
	}
	return all
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestWhoOpenedTheFlow(t *testing.T) {
	for _, tc := range []struct {
		name     string
		segments []packet
		opened   bool
		start    string
	}{
		{"SYN", []packet{up("S", 1, ""), down("S", 1, "").acking(2), up("", 2, "abc")}, true, "abc"},
		{"only the answer", []packet{down("S", 1, "").acking(2), up("", 2, "abc")}, true, ""},
		{"neither: the lesser port serves", []packet{down("", 7, "x").acking(2), up("", 2, "abc")}, false, ""},
		{"a SYN behind its answer", []packet{down("S", 1, "").acking(2), up("S", 1, ""), up("", 2, "abc")}, true, "abc"},
		{"a SYN behind what follows it", []packet{up("", 2, "abc"), up("S", 1, ""), up("", 5, "def")}, true, "abcdef"},
		{"a SYN of another connection", []packet{up("", 5, "def"), up("S", 1, ""), up("", 2, "abc")}, true, "abc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows := assembled(tc.segments...)
			f := flows[len(flows)-1]
			if f.Client != client || f.Server != server || f.Opened != tc.opened {
				t.Errorf("%s → %s, opened %t", f.Client, f.Server, f.Opened)
			}
			if got := string(f.ToServer.Start()); got != tc.start {
				t.Errorf("starts with %q, want %q", got, tc.start)
			}
		})
	}
}

func TestAReusedPortIsAnotherFlow(t *testing.T) {
	flows := assembled(
		up("S", 100, ""), up("", 101, "first"), up("F", 106, ""),
		up("S", 9000, ""), up("S", 9000, ""), up("", 9001, "second"),
	)
	if len(flows) != 2 || string(flows[0].ToServer.Start()) != "first" || string(flows[1].ToServer.Start()) != "second" {
		t.Errorf("flows %v", flows)
	}
}

func TestASegmentBeforeTheSYNIsNotTheBeginning(t *testing.T) {
	// The server's data overtakes its SYN in the capture: taken as the stream's
	// base, it would hide what came before it.
	flows := assembled(up("S", 1, ""), down("", 205, "later"), down("S", 100, "").acking(2), down("", 101, "soon"))
	if got := flows[0].ToClient.Start(); got != nil {
		t.Errorf("begins with %q, which is not shown", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	segments := []packet{up("S", 0, "")}
	for i := range uint32(4 * maxSpans) {
		segments = append(segments, up("", 1+2*i, "x"))
	}
	segments = append(segments, up("", Window, string(make([]byte, 100_000))))
	d := assembled(segments...)[0].ToServer
	if len(d.Chunks) > maxSpans {
		t.Errorf("%d chunks are kept", len(d.Chunks))
	}
	last := d.Chunks[len(d.Chunks)-1]
	if last.Offset+len(last.Data) > Window {
		t.Errorf("%d bytes are kept", last.Offset+len(last.Data))
	}
	if d.Missing < 2*maxSpans {
		t.Errorf("only %d bytes are said to be missing", d.Missing)
	}
	if want := int64(4*maxSpans + 100_000); d.Bytes != want {
		t.Errorf("%d bytes counted, want %d", d.Bytes, want)
	}
}

// TestAnyOrderOfSegmentsIsTheSameStream cuts a stream anyhow, sends pieces
// twice and shuffles all of it: what is read is the stream.
func TestAnyOrderOfSegmentsIsTheSameStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stream := rapid.SliceOfN(rapid.Byte(), 2, 300).Draw(t, "stream")
		isn := rapid.Uint32().Draw(t, "isn")
		var pieces []packet
		for at := 0; at < len(stream); {
			n := rapid.IntRange(2, 40).Draw(t, "size")
			end := min(at+n, len(stream))
			begin := max(0, at-rapid.IntRange(0, 5).Draw(t, "overlap"))
			if end-begin == 1 { // could be taken for a keep-alive probe
				begin--
			}
			pieces = append(pieces, up("", isn+1+uint32(begin), string(stream[begin:end])))
			at = end
		}
		twice := append(pieces, pieces[rapid.IntRange(0, len(pieces)-1).Draw(t, "again")])
		shuffled := rapid.Permutation(twice).Draw(t, "order")
		d := assembled(append([]packet{up("S", isn, "")}, shuffled...)...)[0].ToServer
		if !bytes.Equal(d.Start(), stream) || d.Missing != 0 || d.Conflict {
			t.Fatalf("read %q, missing %d, conflict %t; sent %q", d.Start(), d.Missing, d.Conflict, stream)
		}
	})
}

func TestThePacketOfEachByteIsKnown(t *testing.T) {
	d := assembled(up("S", 100, ""), up("", 104, "def"), up("", 101, "abc"))[0].ToServer
	for i, want := range []int{3, 3, 3, 2, 2, 2} {
		if got := d.Chunks[0].Packet(i); got != want {
			t.Errorf("byte %d came in packet %d, want %d", i, got, want)
		}
	}
}
