package verify

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// datagramsInTurn is datagrams in turn from the client and from the server.
func datagramsInTurn(datagrams ...[]byte) *capture.Flow {
	f := &capture.Flow{Proto: capture.UDP, Opened: true}
	for i, b := range datagrams {
		d := []*capture.Direction{&f.ToServer, &f.ToClient}[i%2]
		d.Chunks = append(d.Chunks, capture.Chunk{Offset: int(d.Bytes), Data: b})
		d.Packets++
		d.Bytes += int64(len(b))
	}
	return f
}

// sealedDatagram is a record of DTLS 1.2 of epoch 1 with a body.
func sealedDatagram(sequence byte, body []byte) []byte {
	return append([]byte{23, 0xFE, 0xFD, 0, 1, 0, 0, 0, 0, 0, sequence, byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestDTLSJoinedLate(t *testing.T) {
	noise := random(t)
	records := func(bodies ...[]byte) *capture.Flow {
		var all [][]byte
		for i, b := range bodies {
			all = append(all, sealedDatagram(byte(i), b))
		}
		return datagramsInTurn(all...)
	}
	four := records(noise[:80], noise[100:190], noise[200:300], noise[300:340])
	for name, tc := range map[string]struct {
		flow *capture.Flow
		want Verdict
	}{
		"four records":        {four, DTLS},
		"two records":         {records(noise[:80], noise[100:190]), Unknown},
		"with readable bytes": {records(noise[:80], noise[100:190], noise[200:300], []byte("user=root&password=hunter2&more=of+it")), Plaintext},
		"of one byte":         {records(bytes.Repeat([]byte{7}, 80), noise[100:190], noise[200:300], noise[300:340]), Unknown},
		"not in order": {datagramsInTurn(sealedDatagram(9, noise[:80]), sealedDatagram(1, noise[100:190]), sealedDatagram(9, noise[200:300]),
			sealedDatagram(1, noise[300:340])), Unknown},
		"beside something else": {datagramsInTurn(sealedDatagram(1, noise[:80]), sealedDatagram(1, noise[100:190]), sealedDatagram(2, noise[200:300]),
			[]byte{0x90, 1, 2, 3}), Unknown},
	} {
		found := Judge(tc.flow, Knowledge{})
		if found.Verdict != tc.want && (name != "of one byte" || found.Verdict != Plaintext) {
			t.Errorf("%s: %s, %s; want %s", name, found.Verdict, found.Reason, tc.want)
		}
	}
	if found := Judge(four, Knowledge{}); found.TLS == nil || found.TLS.Handshake != "unseen" || found.TLS.Version != "1.2" {
		t.Errorf("found %+v", found.TLS)
	}
}

// TestTextIsNeverSealed: whatever is said in text, over either transport, in any
// pieces, none of it is taken for an encryption.
func TestTextIsNeverSealed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.StringMatching(`[ -~]{0,40}(\r\n)?`)
		toServer := rapid.SliceOfN(line, 1, 8).Draw(t, "to server")
		toClient := rapid.SliceOfN(line, 0, 8).Draw(t, "to client")
		tcp := flow([]byte(join(toServer)), []byte(join(toClient)))
		if rapid.Bool().Draw(t, "late") {
			tcp = late(tcp)
			tcp.ToClient.Began = false
		}
		var datagrams [][]byte
		for _, s := range append(toServer, toClient...) {
			datagrams = append(datagrams, []byte(s))
		}
		for _, f := range []*capture.Flow{tcp, datagramsInTurn(datagrams...)} {
			if found := Judge(f, Knowledge{}); found.Verdict.Seals() && found.Verdict != SSH {
				t.Errorf("%s over %s: %q, %q", found.Verdict, f.Proto, toServer, toClient)
			}
		}
	})
}

func join(lines []string) string {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l)
	}
	return b.String()
}

// FuzzJudgeDatagrams: whatever is sent, nothing panics, and what is called DTLS
// has said what it agreed on or was long enough.
func FuzzJudgeDatagrams(f *testing.F) {
	for _, flow := range realFlows(f) {
		if flow.Proto != capture.UDP || len(flow.ToServer.Chunks) < 2 || len(flow.ToClient.Chunks) < 2 {
			continue
		}
		c, s := flow.ToServer.Chunks, flow.ToClient.Chunks
		f.Add(c[0].Data, s[0].Data, c[1].Data, s[1].Data)
	}
	f.Add([]byte{0x2F, 1, 2, 0, 1, 9}, []byte{0x30, 1}, []byte{25, 0xFE, 0xFD, 0, 1}, []byte{})
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		found := Judge(datagramsInTurn(a, b, c, d), Knowledge{})
		if found.Verdict == DTLS && (found.TLS == nil || found.TLS.Handshake == "seen" && found.TLS.Cipher == "") {
			t.Errorf("sealed without a handshake: %+v", found)
		}
	})
}
