package verify

// Captures of real programs, altered as captures are: joined late, of one
// direction, with bytes missing. A flow in clear must not become sealed by that,
// and a sealed one not plaintext.

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// realFlows are the flows of the captures kept in the repository, and of those
// beside it if they are there.
func realFlows(t testing.TB) map[string]*capture.Flow {
	t.Helper()
	all := map[string]*capture.Flow{}
	for _, pattern := range []string{"../../test/captures/testdata/*.pcap", corpus + "/*.pcap"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			file, err := capture.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range file.Flows {
				all[filepath.Base(path)+" "+f.Client.String()+" "+string(f.Proto)] = f
			}
		}
	}
	if len(all) == 0 {
		t.Skip("there are no captures to alter")
	}
	return all
}

// alterations of a flow, by name.
var alterations = map[string]func(f capture.Flow) capture.Flow{
	"only the client":     func(f capture.Flow) capture.Flow { f.ToClient = capture.Direction{}; return f },
	"only the server":     func(f capture.Flow) capture.Flow { f.ToServer = capture.Direction{}; return f },
	"late by 1 byte":      func(f capture.Flow) capture.Flow { return later(f, 1) },
	"late by 300 bytes":   func(f capture.Flow) capture.Flow { return later(f, 300) },
	"late by 2000 bytes":  func(f capture.Flow) capture.Flow { return later(f, 2000) },
	"late by 6000 bytes":  func(f capture.Flow) capture.Flow { return later(f, 6000) },
	"the SYN is missing":  func(f capture.Flow) capture.Flow { return later(f, 0) },
	"the end is missing":  func(f capture.Flow) capture.Flow { f.ToServer.Missing += 9; f.ToClient.Missing += 9; return f },
	"a gap at 100":        func(f capture.Flow) capture.Flow { return gap(f, 100, 60) },
	"a gap at 700":        func(f capture.Flow) capture.Flow { return gap(f, 700, 500) },
	"a gap at 3000":       func(f capture.Flow) capture.Flow { return gap(f, 3000, 1400) },
	"sent again, changed": func(f capture.Flow) capture.Flow { f.ToServer.Conflict = true; return f },
}

// later is a flow without its first bytes of each direction.
func later(f capture.Flow, n int) capture.Flow {
	f.Opened = false
	f.ToServer, f.ToClient = f.ToServer.Behind(n), f.ToClient.Behind(n)
	f.ToServer.Began, f.ToClient.Began = false, false
	return f
}

// gap is a flow in which bytes are missing in both directions.
func gap(f capture.Flow, at, n int) capture.Flow {
	for _, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		if len(d.Chunks) != 1 || len(d.Chunks[0].Data) <= at+n {
			continue
		}
		behind := d.Behind(at + n)
		before, after := d.Chunks[0], behind.Chunks[0]
		before.Data, after.Offset = before.Data[:at], at+n
		d.Chunks, d.Missing = []capture.Chunk{before, after}, d.Missing+int64(n)
	}
	return f
}

func TestAlteredFlowsChangeNoSide(t *testing.T) {
	sealed := 0
	for name, f := range realFlows(t) {
		if f.Proto != capture.TCP {
			continue
		}
		whole := Judge(f, Knowledge{})
		for how, alter := range alterations {
			altered := alter(*f)
			found := Judge(&altered, Knowledge{})
			switch {
			case how == "only the server" && strings.HasPrefix(name, "ssl-v2.pcap"):
				// Nothing but the client's hello says that it is SSL 2.0.
			case whole.Verdict == TLS && found.Verdict == Plaintext:
				t.Errorf("%s, %s: sealed as a whole, and now plaintext: %v", name, how, found.Evidence)
			case whole.Verdict == Plaintext && found.Verdict == TLS && whole.TLS == nil:
				t.Errorf("%s, %s: plaintext as a whole, and now sealed", name, how)
			case how == "sent again, changed" && found.Verdict.Seals() && found.Verdict == TLS:
				t.Errorf("%s, %s: sealed", name, how)
			case whole.Verdict == Unknown && whole.TLS != nil && whole.TLS.Alert != "" && found.Verdict == TLS && found.TLS.Handshake == "seen":
				t.Errorf("%s, %s: a failed handshake, and now sealed", name, how)
			}
			if found.Verdict == TLS {
				sealed++
			}
		}
	}
	if sealed == 0 {
		t.Error("nothing altered is sealed: the test shows nothing")
	}
	t.Logf("%d altered flows are sealed still", sealed)
}

// TestAlteredDatagramsChangeNoSide leaves out datagrams.
func TestAlteredDatagramsChangeNoSide(t *testing.T) {
	without := func(d capture.Direction, n, every int) capture.Direction {
		var kept []capture.Chunk
		for i, c := range d.Chunks {
			if i >= n && (every == 0 || i%every != 0) {
				kept = append(kept, c)
			}
		}
		d.Chunks = kept
		return d
	}
	for name, f := range realFlows(t) {
		if f.Proto != capture.UDP {
			continue
		}
		whole := Judge(f, Knowledge{})
		for how, alter := range map[string]func(f capture.Flow) capture.Flow{
			"only the client":   alterations["only the client"],
			"only the server":   alterations["only the server"],
			"without the first": func(f capture.Flow) capture.Flow { f.ToServer = without(f.ToServer, 1, 0); return f },
			"without three each": func(f capture.Flow) capture.Flow {
				f.ToServer, f.ToClient = without(f.ToServer, 3, 0), without(f.ToClient, 3, 0)
				return f
			},
			"without eight each": func(f capture.Flow) capture.Flow {
				f.ToServer, f.ToClient = without(f.ToServer, 8, 0), without(f.ToClient, 8, 0)
				return f
			},
			"without every third": func(f capture.Flow) capture.Flow {
				f.ToServer, f.ToClient = without(f.ToServer, 0, 3), without(f.ToClient, 0, 3)
				return f
			},
		} {
			altered := alter(*f)
			found := Judge(&altered, Knowledge{})
			if how == "without eight each" && strings.HasPrefix(name, "dtls13-cid.pcap") {
				continue // one datagram is left, whose connection id is a sentence
			}
			if whole.Verdict == DTLS && found.Verdict == Plaintext || whole.Verdict == Plaintext && found.Verdict == DTLS && whole.TLS == nil {
				t.Errorf("%s, %s: %s as a whole, and now %s: %+v", name, how, whole.Verdict, found.Verdict, found.Evidence)
			}
		}
	}
}
