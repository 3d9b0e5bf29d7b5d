package quic

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

// sentTo is the connection ID of the RFCs' examples.
var sentTo = unhex("8394c8f03e515708")

func one(t testing.TB, digits string) Packet {
	t.Helper()
	b := unhex(digits)
	all, err := Split(b, len(b))
	if err != nil || len(all) != 1 {
		t.Fatalf("%d packets, %v", len(all), err)
	}
	return all[0]
}

func keys(t testing.TB, v Version, dest []byte) [2]*Keys {
	t.Helper()
	client, server, err := InitialKeys(v, dest)
	if err != nil {
		t.Fatal(err)
	}
	return [2]*Keys{client, server}
}

func TestInitialPacketsOfTheStandardOpen(t *testing.T) {
	for name, tc := range map[string]struct {
		packet      string
		version     Version
		side        int
		number      uint64
		dest, src   string
		cryptoBegin string
		cryptoBytes int
	}{
		"version 1, client": {clientInitial1, V1, 0, 2, "8394c8f03e515708", "", "010000ed0303ebf8fa56f129", 241},
		"version 1, server": {serverInitial1, V1, 1, 1, "", "f067a5502a4262b5", "020000560303eefce7f7b37b", 90},
		"version 2, server": {serverInitial2, V2, 1, 1, "", "f067a5502a4262b5", "020000560303eefce7f7b37b", 90},
	} {
		t.Run(name, func(t *testing.T) {
			p := one(t, tc.packet)
			if p.Kind != Initial || p.Version != tc.version || hex.EncodeToString(p.Dest) != tc.dest || hex.EncodeToString(p.Source) != tc.src {
				t.Fatalf("%s %s to %x from %x", p.Version, p.Kind, p.Dest, p.Source)
			}
			number, payload, err := keys(t, tc.version, sentTo)[tc.side].Open(p, 0)
			if err != nil || number != tc.number {
				t.Fatalf("number %d, %v", number, err)
			}
			all, err := ParseInitial(payload)
			if err != nil || len(all.Crypto) != 1 || all.Close != nil {
				t.Fatalf("%+v, %v", all, err)
			}
			data := all.Crypto[0].Data
			if !bytes.HasPrefix(data, unhex(tc.cryptoBegin)) || len(data) != tc.cryptoBytes {
				t.Errorf("%d bytes of handshake: %x", len(data), data)
			}
			if _, _, err := keys(t, tc.version, sentTo)[1-tc.side].Open(p, 0); err == nil {
				t.Error("opens with the other side's keys")
			}
			if _, _, err := keys(t, tc.version, []byte("another ID"))[tc.side].Open(p, 0); err == nil {
				t.Error("opens with the keys of another connection")
			}
		})
	}
}

func TestRetriesOfTheStandardAnswerTheInitialThatTheyAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		packet  string
		version Version
	}{
		"version 1": {retry1, V1},
		"version 2": {retry2, V2},
	} {
		p := one(t, tc.packet)
		if p.Kind != Retry || p.Version != tc.version || string(p.Token) != "token" {
			t.Errorf("%s: %s %s with token %q", name, p.Version, p.Kind, p.Token)
		}
		if !p.Answers(sentTo) || p.Answers([]byte("another ID")) {
			t.Errorf("%s: answers the wrong one", name)
		}
	}
}

func TestDatagramsAreSplit(t *testing.T) {
	long := func(first byte, size int) []byte { // version 1, from "s" to "d"
		b := append([]byte{first, 0, 0, 0, 1, 1, 'd', 1, 's'}, 0x40|byte(size>>8), byte(size))
		return append(b, bytes.Repeat([]byte{7}, size)...)
	}
	short := append([]byte{0x40}, bytes.Repeat([]byte{9}, 30)...)
	join := func(all ...[]byte) []byte { return bytes.Join(all, nil) }
	for name, tc := range map[string]struct {
		datagram []byte
		cut      int
		want     []Kind
		fails    bool
	}{
		"Handshake":                   {long(0xe0, 40), 0, []Kind{Handshake}, false},
		"0-RTT, Handshake, 1-RTT":     {join(long(0xd0, 100), long(0xe0, 40), short), 0, []Kind{ZeroRTT, Handshake, OneRTT}, false},
		"zeros behind":                {join(long(0xe0, 40), make([]byte, 30)), 0, []Kind{Handshake}, false},
		"cut off by the capture":      {join(long(0xe0, 200))[:60], 151, []Kind{Handshake}, false},
		"versions":                    {unhex("80000000000173016400000001ff00001d"), 0, []Kind{VersionNegotiation}, false},
		"longer than the datagram":    {long(0xe0, 40)[:50], 0, nil, true},
		"too short for a sample":      {long(0xe0, 19), 0, nil, true},
		"short header, too short":     {short[:20], 0, nil, true},
		"an ID of 21 bytes":           {join([]byte{0xe0, 0, 0, 0, 1, 21}, make([]byte, 60)), 0, nil, true},
		"a version that nobody knows": {join([]byte{0xe0, 0x1a, 0x2a, 0x3a, 0x4a}, long(0xe0, 40)[5:]), 0, nil, true},
		"list of versions breaks off": {unhex("80000000000173016400000001ff0000"), 0, nil, true},
		"no version in the list":      {unhex("800000000001730164"), 0, nil, true},
	} {
		all, err := Split(tc.datagram, len(tc.datagram)+tc.cut)
		var got []Kind
		for _, p := range all {
			got = append(got, p.Kind)
		}
		if (err != nil) != tc.fails || !bytes.Equal(kinds(got), kinds(tc.want)) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if len(all) == 1 && all[0].Cut != (tc.cut > 0) {
			t.Errorf("%s: cut %v", name, all[0].Cut)
		}
	}
}

func kinds(all []Kind) (b []byte) {
	for _, k := range all {
		b = append(b, byte(k))
	}
	return b
}

// seal makes an Initial packet, as no program here does but a test must.
func (k *Keys) seal(v Version, dest, source []byte, number uint32, payload []byte) []byte {
	first := byte(0xc3)
	if v.second() {
		first = 0xd3
	}
	size := 4 + len(payload) + tag
	header := append([]byte{first, byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v), byte(len(dest))}, dest...)
	header = append(append(header, byte(len(source))), source...)
	header = append(header, 0, 0x40|byte(size>>8), byte(size))
	at := len(header)
	header = append(header, byte(number>>24), byte(number>>16), byte(number>>8), byte(number))
	nonce := bytes.Clone(k.iv)
	for i := range 4 {
		nonce[8+i] ^= header[at+i]
	}
	packet := append(bytes.Clone(header), k.aead.Seal(nil, nonce, payload, header)...)
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], packet[at+sampleAt:at+sampleAt+sample])
	packet[0] ^= mask[0] & 0x0f
	for i := range 4 {
		packet[at+i] ^= mask[1+i]
	}
	return packet
}

func TestWhatWasSealedOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SampledFrom([]Version{V1, V2, draft2, firstDraft, draft33}).Draw(t, "version")
		dest := rapid.SliceOfN(rapid.Byte(), 0, maxID).Draw(t, "dest")
		payload := rapid.SliceOfN(rapid.Byte(), 0, 1200).Draw(t, "payload")
		number := rapid.Uint32().Draw(t, "number")
		client, _, err := InitialKeys(v, dest)
		if err != nil {
			t.Fatal(err)
		}
		b := client.seal(v, dest, []byte("source"), number, payload)
		all, err := Split(b, len(b))
		if err != nil || len(all) != 1 {
			t.Fatal(err)
		}
		got, opened, err := client.Open(all[0], uint64(number))
		if err != nil || got != uint64(number) || !bytes.Equal(opened, payload) {
			t.Fatalf("number %d, %v", got, err)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if all, err := Split(b, len(b)); err == nil {
			if _, _, err := client.Open(all[0], uint64(number)); err == nil {
				t.Error("opens though it was changed")
			}
		}
	})
}

func TestTheHandshakeIsPutTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "whole")
		var s Stream
		seen := make([]bool, len(whole))
		for range rapid.IntRange(1, 20).Draw(t, "pieces") {
			from := rapid.IntRange(0, len(whole)).Draw(t, "from")
			to := rapid.IntRange(from, len(whole)).Draw(t, "to")
			if err := s.Add(Piece{uint64(from), whole[from:to]}); err != nil {
				t.Fatal(err)
			}
			for i := from; i < to; i++ {
				seen[i] = true
			}
		}
		n := 0
		for n < len(seen) && seen[n] {
			n++
		}
		if got := s.Bytes(); !bytes.Equal(got, whole[:n]) {
			t.Fatalf("%d bytes, want %d", len(got), n)
		}
		if n > 0 && s.Add(Piece{0, []byte{whole[0] + 1}}) == nil {
			t.Error("another content is taken")
		}
	})
	var s Stream
	if s.Add(Piece{1 << 62, []byte{1}}) == nil || s.Add(Piece{maxCrypto, []byte{1}}) == nil {
		t.Error("without bounds")
	}
}

// TestPacketNumbersAreDecoded is RFC 9000, appendix A.3.
func TestPacketNumbersAreDecoded(t *testing.T) {
	for _, tc := range []struct {
		truncated uint64
		size      int
		expected  uint64
		want      uint64
	}{
		{0x9b32, 2, 0xa82f30eb, 0xa82f9b32},
		{0, 1, 0, 0},
		{255, 1, 0, 255},
		{1, 1, 0xff, 0x101},
		{0xff, 1, 0x101, 0xff},
	} {
		if got := decode(tc.truncated, tc.size, tc.expected); got != tc.want {
			t.Errorf("%x of %d bytes after %x: %x", tc.truncated, tc.size, tc.expected, got)
		}
	}
}

func TestGooglesOwnVersionsAreNamed(t *testing.T) {
	for datagram, want := range map[string]string{
		"\x0d\x01\x02\x03\x04\x05\x06\x07\x08Q043\x01": "Q043",
		"\xc3Q046\x50\x01\x02":                         "Q046",
		"\xc3T051\x50":                                 "T051",
		"\xc3\x00\x00\x00\x01":                         "",
		"Q043":                                         "",
		"":                                             "",
	} {
		if got, ok := Google([]byte(datagram)); got != want || ok != (want != "") {
			t.Errorf("%q: %q", datagram, got)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, v := range []string{clientInitial1, serverInitial1, serverInitial2, retry1, retry2} {
		f.Add(unhex(v), 0)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		all, err := Split(b, len(b)+max(cut, 0)%2000)
		if err != nil && len(b) == 0 {
			t.Error("nothing is malformed")
		}
		Google(b)
		for _, p := range all {
			if p.Answers(sentTo) && !bytes.Equal(b, unhex(retry1)) && !bytes.Equal(b, unhex(retry2)) {
				t.Error("an answer from nowhere")
			}
			if p.Kind != Initial {
				continue
			}
			for _, k := range keys(t, p.Version, p.Dest) {
				if _, payload, err := k.Open(p, 0); err == nil {
					_, _ = ParseInitial(payload)
				}
			}
		}
	})
}

func FuzzParseInitial(f *testing.F) {
	f.Add(unhex("060040f1010000ed0303"))
	f.Add(unhex("02000000000600010203001c4178001a0568656c6c6f"))
	f.Add(unhex("03000100000000010203"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		all, err := ParseInitial(payload)
		var s Stream
		for _, p := range all.Crypto {
			if s.Add(p) == nil && err == nil && len(s.Bytes()) > maxCrypto {
				t.Error("without bounds")
			}
		}
	})
}
