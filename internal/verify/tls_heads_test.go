package verify

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// noise is bytes drawn at random, the same at every run.
type noise struct{ *rand.Rand }

func newNoise(seed uint64) noise { return noise{rand.New(rand.NewPCG(seed, 31))} }

func (n noise) bytes(size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(n.Uint32())
	}
	return string(b)
}

// records puts bodies into records of TLS 1.2.
func records(typ byte, bodies ...string) string {
	var all strings.Builder
	for _, b := range bodies {
		all.Write([]byte{typ, 3, 3, byte(len(b) >> 8), byte(len(b))})
		all.WriteString(b)
	}
	return all.String()
}

// repeated is records that each have a message and so many random bytes behind it,
// as a MAC is.
func (n noise) repeated(count int, message string, mac int) []byte {
	var all string
	for range count {
		all += records(tlswire.TypeApplicationData, message+n.bytes(mac))
	}
	return []byte(all)
}

// TestMessagesBeforeAMACAreNotSealed: without a cipher most of a short record is the
// MAC, which looks random.
func TestMessagesBeforeAMACAreNotSealed(t *testing.T) {
	n := newNoise(1)
	for _, message := range []string{"PING\r\n", "test\n", "GET a\r\n", "hello world\n", "set x 5\r\n", "\x00\x00\x00\x05", "\x30\x0c\x02\x01"} {
		for _, mac := range []int{16, 20, 32, 48} {
			for _, count := range []int{2, 3, 8, 40} {
				found := Judge(lateFlow(n.repeated(count, message, mac), n.repeated(count, message, mac)), Knowledge{})
				if found.Verdict.Seals() {
					t.Errorf("%d of %q with %d bytes behind: %s", count, message, mac, found.Verdict)
				}
			}
		}
	}
	bulk := []byte(records(tlswire.TypeApplicationData, n.bytes(60), n.bytes(60), n.bytes(1<<14+20)))
	if found := Judge(lateFlow(bulk, bulk), Knowledge{}); found.Verdict != Unknown || !strings.Contains(found.Reason, "RC4") {
		t.Errorf("full records with a MAC: %+v", found)
	}
}

// TestNoncesAreNoMessages: whatever a nonce is made of, records joined late are TLS.
func TestNoncesAreNoMessages(t *testing.T) {
	n := newNoise(2)
	lost := 0
	const flows = 2000
	for i := range flows {
		var sides [2][]byte
		for side := range sides {
			first, counting := n.Uint64(), make([]byte, 8)
			for j := range uint64(3 + n.IntN(12)) {
				head := [...]string{"", n.bytes(8), "\x00\x00\x00\x00\x00\x00\x00" + string([]byte{byte(j + 1)}), ""}[i%4]
				if i%4 == 3 {
					binary.BigEndian.PutUint64(counting, first+j)
					head = string(counting)
				}
				sides[side] = append(sides[side], records(tlswire.TypeApplicationData, head+n.bytes(17+n.IntN(200)))...)
			}
		}
		if found := Judge(lateFlow(sides[0], sides[1]), Knowledge{}); found.Verdict != TLS {
			if lost++; lost > flows/200 {
				t.Fatalf("nonces of kind %d: %+v", i%4, found)
			}
		}
	}
}

// TestASealThatWasLiftedIsNone: behind a handshake that sealed, records come that a
// second handshake left in clear, or that nothing sealed.
func TestASealThatWasLiftedIsNone(t *testing.T) {
	n := newNoise(3)
	client, server := configs(t)
	toServer13, toClient13 := handshakeBytes(t, client, server)
	client.MaxVersion = 0x0303
	toServer12, toClient12 := handshakeBytes(t, client, server)

	again := records(tlswire.TypeHandshake, n.bytes(200)) + records(tlswire.TypeChangeCipherSpec, n.bytes(25))
	done := records(tlswire.TypeHandshake, "\x14\x00\x00\x0c"+n.bytes(12+20))
	many := func(message string, length int) string {
		var all string
		for range 8 {
			all += records(tlswire.TypeApplicationData, message+n.bytes(length))
		}
		return all
	}
	for _, tc := range []struct {
		name         string
		behind13     bool
		what         string
		want         Verdict
		reasonOrText string
	}{
		{"a handshake that was completed in clear", false, again + done, Plaintext, `\x14\x00\x00\f`},
		{"messages before a MAC", false, again + many("+PONG\r\n", 20), Unknown, "readable"},
		{"gzip", true, many("\x1f\x8b\x08\x00\x00\x00\x00\x00", 300), Unknown, "gzip"},
		{"JPEG", true, many("\xff\xd8\xff\xe0", 300), Unknown, "JPEG"},
		{"zeros", true, records(tlswire.TypeApplicationData, strings.Repeat("\x00", 64)), Unknown, "random"},
		{"UTF-16", false, records(tlswire.TypeApplicationData, n.bytes(8)+wideText("a word, and what it means")), Unknown, "random"},
		{"protobuf", true, many("\x08\x96\x01\x12\x20", 32), Unknown, "same from one to the next"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			toServer, toClient := toServer12, toClient12
			if tc.behind13 {
				toServer, toClient = toServer13, toClient13
			}
			f := flow(append(bytes.Clone(toServer), tc.what...), append(bytes.Clone(toClient), tc.what...))
			found := Judge(f, Knowledge{})
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || !strings.Contains(said, tc.reasonOrText) {
				t.Errorf("%s: %q, want %s: %q", found.Verdict, said, tc.want, tc.reasonOrText)
			}
		})
	}
}

// TestAFinishedInClearIsPlaintext: also where the hellos were not captured.
func TestAFinishedInClearIsPlaintext(t *testing.T) {
	n := newNoise(4)
	side := func(message string) []byte {
		return []byte(records(tlswire.TypeChangeCipherSpec, "\x01") + records(tlswire.TypeHandshake, "\x14\x00\x00\x0c"+n.bytes(12+20)) +
			records(tlswire.TypeApplicationData, message+n.bytes(20), message+n.bytes(20)))
	}
	found := Judge(lateFlow(side("PING\r\n"), side("+PONG\r\n")), Knowledge{})
	if found.Verdict != Plaintext || found.Protocol != "tls" || !strings.HasPrefix(found.Evidence.Text, `\x14\x00\x00\f`) {
		t.Errorf("%+v", found)
	}
}

// TestSSL2OfACipherThatMayBeNoneIsUnknown: resumed, the cipher is not named.
func TestSSL2OfACipherThatMayBeNoneIsUnknown(t *testing.T) {
	n := newNoise(6)
	record := func(body string) string { return string([]byte{0x80 | byte(len(body)>>8), byte(len(body))}) + body }
	hello := func(kinds string) string {
		return record("\x01\x00\x02\x00" + string(byte(len(kinds))) + "\x00\x10\x00\x10" + kinds + n.bytes(16) + n.bytes(16))
	}
	resumed := record("\x04\x01\x00\x00\x02\x00\x00\x00\x00\x00\x10" + n.bytes(16))
	fresh := record("\x04\x00\x00\x00\x02\x00\x00\x00\x03\x00\x10" + "\x01\x00\x80" + n.bytes(16))
	key := func(kind string) string { return record("\x02" + kind + "\x00\x00\x00\x20\x00\x00" + n.bytes(32)) }
	sealed := func() string { return record(n.bytes(120)) + record(n.bytes(200)) }
	for _, tc := range []struct {
		name, client, server string
		want                 Verdict
	}{
		{"resumed, with ciphers only", hello("\x01\x00\x80\x00\x00\x05") + sealed(), resumed + sealed(), TLS},
		{"resumed, and none was offered too", hello("\x01\x00\x80\x00\x00\x00") + sealed(), resumed + sealed(), Unknown},
		{"a key for RC4", hello("\x01\x00\x80") + key("\x01\x00\x80") + sealed(), fresh + sealed(), TLS},
		{"a key for nobody knows what", hello("\x01\x00\x80") + key("\x01\x77\x80") + sealed(), fresh + sealed(), Unknown},
		{"a key for no cipher", hello("\x01\x00\x80") + key("\x00\x00\x00") + sealed(), fresh + sealed(), Plaintext},
	} {
		if found := Judge(flow([]byte(tc.client), []byte(tc.server)), Knowledge{}); found.Verdict != tc.want {
			t.Errorf("%s: %s, %s", tc.name, found.Verdict, found.Reason)
		}
	}
}
