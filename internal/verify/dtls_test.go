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

// TestWhatOnlyHasTheFormOfDTLS: records without a handshake whose numbers or whose
// first bytes are not those of a cipher, cut short or whole.
func TestWhatOnlyHasTheFormOfDTLS(t *testing.T) {
	noise := fixedNoise(4000)
	hidden := func(first byte, number func(i int) uint16) (all [][]byte) {
		for i := range 12 {
			n := number(i)
			body := noise[100*i : 100*i+60+i]
			all = append(all, append([]byte{first, byte(n >> 8), byte(n), 0, byte(len(body))}, body...))
		}
		return all
	}
	clear := func(head string) (all [][]byte) {
		for i := range 8 {
			all = append(all, sealedDatagram(byte(i/2+1), append([]byte(head), noise[100*i:100*i+60]...)))
		}
		return all
	}
	drawn := func(i int) uint16 { return uint16(noise[3000+2*i])<<8 | uint16(noise[3001+2*i]) }
	for name, tc := range map[string]struct {
		datagrams [][]byte
		want      Verdict
	}{
		"DTLS 1.3":                      {hidden(0x2f, drawn), DTLS},
		"numbers that count":            {hidden(0x2f, func(i int) uint16 { return uint16(i/2 + 1) }), Unknown},
		"numbers that stay":             {hidden(0x2f, func(int) uint16 { return 9 }), Unknown},
		"times":                         {hidden(0x2f, func(i int) uint16 { return uint16(1000 + 160*i) }), Unknown},
		"another epoch":                 {hidden(0x2e, drawn), Unknown},
		"a header before what is drawn": {clear("\x44\x01\x02\xb4temp"), Unknown},
	} {
		for _, kept := range []int{22, 200} {
			found := Judge(cutTo(datagramsInTurn(tc.datagrams...), kept), Knowledge{})
			if found.Verdict != tc.want && (tc.want == Unknown || kept == 200) {
				t.Errorf("%s, %d bytes of each: %s, %s", name, kept, found.Verdict, found.Reason)
			}
		}
	}
}

// TestDataBeforeAnyKeyIsPlaintext: application data of epoch 0 is in clear.
func TestDataBeforeAnyKeyIsPlaintext(t *testing.T) {
	record := sealedDatagram(1, []byte("user=root&password=hunter2&more=of+it"))
	record[4] = 0
	found := Judge(datagramsInTurn(record), Knowledge{})
	if found.Verdict != Plaintext || found.Evidence.Text != "user=root&password=hunter2&more=of+it" {
		t.Errorf("%s, %s, %+v", found.Verdict, found.Reason, found.Evidence)
	}
}

// TestSTUNBesideDTLSIsNotPlaintext: it finds the way for what is sealed.
func TestSTUNBesideDTLSIsNotPlaintext(t *testing.T) {
	noise := fixedNoise(1000)
	stun := func(i int) []byte { return append([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42"), noise[20*i:20*i+12]...) }
	all := [][]byte{stun(0), stun(1), stun(2), stun(3)}
	for i := range 6 {
		all = append(all, sealedDatagram(byte(i/2+1), noise[100*i:100*i+80]))
	}
	if found := Judge(datagramsInTurn(all...), Knowledge{}); found.Verdict != Unknown {
		t.Errorf("%s %s", found.Verdict, found.Protocol)
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
