package verify

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// esp is a packet as Linux makes it with AES-GCM: its IV is a counter.
func esp(t testing.TB, spi, sequence uint32, payload string) []byte {
	t.Helper()
	block, err := aes.NewCipher([]byte("a key of 16 byte"))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, spi), sequence)
	iv := binary.BigEndian.AppendUint64(nil, 0xa1b2c3d4e5f60718^uint64(sequence))
	clear := []byte(payload)
	for pad := byte(1); (len(clear)+2)%4 != 0; pad++ {
		clear = append(clear, pad)
	}
	clear = append(clear, byte((len(clear)-len(payload))&0xff), 4)
	nonce := append(binary.BigEndian.AppendUint32(nil, spi), iv...)
	return append(append(header, iv...), gcm.Seal(nil, nonce, clear, header)...)
}

// ike is a message of IKEv2 whose payload is sealed, or its first exchange.
func ike(t testing.TB, exchange byte, marked bool) []byte {
	t.Helper()
	body := append([]byte{0, 0, 0, 0}, esp(t, 1<<20, uint32(exchange), strings.Repeat("identity", 10))[8:]...)
	next := byte(46)
	if exchange == 34 {
		next = 33
	}
	binary.BigEndian.PutUint16(body[2:], uint16(len(body)))
	b := append([]byte("\x81\x02\x93\x04\xa5\x06\xb7\x08\xc9\x0a\xdb\x0c\xed\x0e\xff\x00"), next, 0x20, exchange, 8, 0, 0, 0, 1)
	b = append(binary.BigEndian.AppendUint32(b, uint32(28+len(body))), body...)
	if marked {
		b = append([]byte{0, 0, 0, 0}, b...)
	}
	return b
}

func TestIPsecIsRead(t *testing.T) {
	text := strings.Repeat("cleartext ", 10)
	packet := func(fromServer bool, sequence uint32) sent {
		return sent{fromServer, esp(t, 0xc0ffee+boolTo(fromServer), sequence, text)}
	}
	several := []sent{packet(false, 7), packet(false, 9), packet(false, 8), packet(true, 1), packet(false, 10)}
	inClear := sent{false, []byte("\x00\x00\x10\x00\x00\x00\x00\x01" + text[:40])}
	initial := []sent{{false, ike(t, 34, false)}, {true, ike(t, 34, false)}}
	auth := func(marked bool) []sent { return []sent{{false, ike(t, 35, marked)}, {true, ike(t, 36, marked)}} }
	join := func(all ...[]sent) (joined []sent) {
		for _, s := range all {
			joined = append(joined, s...)
		}
		return joined
	}
	for _, tc := range []struct {
		name     string
		proto    capture.Proto
		port     uint16
		all      []sent
		want     Verdict
		protocol string
		says     string
	}{
		{"several packets", capture.ESP, 0, several, IPsec, "esp", ""},
		{"captured twice", capture.ESP, 0, append(several, several[0], several[3]), IPsec, "esp", ""},
		{"one direction", capture.ESP, 0, only(several, false), IPsec, "esp", ""},
		{"two each way", capture.ESP, 0, []sent{packet(false, 1), packet(true, 1), packet(false, 2), packet(true, 2)}, IPsec, "esp", ""},
		{"one each way", capture.ESP, 0, []sent{packet(false, 1), packet(true, 1)}, Unknown, "", "too few"},
		{"one packet", capture.ESP, 0, several[:1], Unknown, "", "too few"},
		{"in UDP", capture.UDP, 4500, append(several, sent{true, []byte{0xff}}), IPsec, "esp", ""},
		{"in UDP, on another port", capture.UDP, 4501, several, Unknown, "", ""},
		{"the same number twice", capture.ESP, 0, append(several, packet(true, 3), sent{true, esp(t, 0xc0ffef, 1, text[:60])}), Unknown, "", "twice"},
		{"numbers by chance", capture.ESP, 0, append(several, packet(false, 1<<30)), Unknown, "", "jump"},
		{"text inside", capture.ESP, 0, []sent{inClear, inClear, inClear}, Plaintext, "", "cleartext"},
		{"zeros inside", capture.ESP, 0, append(several, sent{false, append([]byte{0, 0xc0, 0xff, 0xee, 0, 0, 0, 11}, make([]byte, 60)...)}), Unknown, "", "random"},
		{"another form", capture.ESP, 0, append(several, sent{false, []byte{1, 2, 3}}), Unknown, "", "no ESP packet"},
		{"keepalives", capture.UDP, 4500, []sent{{false, []byte{0xff}}, {false, []byte{0xff}}}, Unknown, "", ""},
		{"IKE", capture.UDP, 500, join(initial, auth(false)), IPsec, "ike", ""},
		{"IKE on another port", capture.UDP, 5555, join(initial, auth(false)), IPsec, "ike", ""},
		{"IKE, its first exchange", capture.UDP, 500, initial, Unknown, "", "no encrypted message"},
		{"IKE, one direction", capture.UDP, 500, only(join(initial, auth(false)), false), Unknown, "", "no encrypted message"},
		{"IKE and ESP", capture.UDP, 4500, join(auth(true), several[:1]), IPsec, "esp", ""},
		{"IKE and text", capture.UDP, 500, join(initial, auth(false), []sent{{false, []byte(text)}}), Plaintext, "", "cleartext"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := datagramFlow(tc.proto, tc.all)
			f.Server = netip.AddrPortFrom(f.Server.Addr(), tc.port)
			found := Judge(f, Knowledge{})
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || tc.want == IPsec && (found.Protocol != tc.protocol || found.Seal != "ipsec") || tc.want != IPsec && found.Seal != "" {
				t.Errorf("%s %s, sealed by %q, saying %q", found.Verdict, found.Protocol, found.Seal, said)
			}
			if !strings.Contains(said, tc.says) {
				t.Errorf("says %q, want %q", said, tc.says)
			}
		})
	}
}

// TestESPWithoutEncryptionIsNeverSealed: what it carries looks random, but has
// ports before it and a trailer behind it, if the capture kept that.
func TestESPWithoutEncryptionIsNeverSealed(t *testing.T) {
	noise := fixedNoise(8000)
	for name, tc := range map[string]struct {
		head []byte
		next byte
	}{
		"UDP":  {[]byte{19, 136, 23, 112, 1, 8, 0x55, 0xaa}, 17},
		"SCTP": {[]byte{19, 136, 23, 112, 1, 2, 3, 4}, 132},
		"L2TP": {[]byte{0, 1, 2, 3}, 115},
	} {
		for _, kept := range []int{30, 44, 62, 94, 400} {
			var all []sent
			for i := range 8 {
				b := append([]byte{0, 0, 0x10, byte(i % 2), 0, 0, 0, byte(i/2 + 1)}, tc.head...)
				if tc.next == 17 {
					b[14], b[15] = noise[2*i], noise[2*i+1] // a check sum
				}
				b = append(b, noise[300*i:300*i+256]...)
				b = append(append(b, 1, 2, 2, tc.next), noise[4000+12*i:4012+12*i]...) // padded to a multiple of four
				all = append(all, sent{i%2 == 1, b})
			}
			f := cutTo(datagramFlow(capture.ESP, all), kept)
			found := Judge(f, Knowledge{})
			if found.Verdict.Seals() || kept == 400 && found.Verdict != Plaintext {
				t.Errorf("%s, %d bytes of each packet: %s, %s", name, kept, found.Verdict, found.Reason)
			}
		}
	}
}

// TestNoncesOfCiphersAreKnown: as Linux, VPP and others make them.
func TestNoncesOfCiphersAreKnown(t *testing.T) {
	salt := []byte("\x8a\x01\xfe\x33\x90\x77\x12\xc5")
	be, le := binary.BigEndian, binary.LittleEndian
	for name, tc := range map[string]struct {
		make func(i uint32) []byte
		want bool
	}{
		"a counter":             {func(i uint32) []byte { return be.AppendUint32(make([]byte, 4), i) }, true},
		"of several sessions":   {func(i uint32) []byte { return be.AppendUint32(make([]byte, 4), 900+7*i) }, true},
		"low byte first":        {func(i uint32) []byte { return append(le.AppendUint32(nil, i), 0, 0, 0, 0) }, true},
		"with a mask":           {func(i uint32) []byte { return be.AppendUint32(append([]byte(nil), salt[:4]...), be.Uint32(salt[4:])^i) }, true},
		"drawn":                 {func(i uint32) []byte { return fixedNoise(400)[8*i : 8*i+8] }, true},
		"ports and a check sum": {func(i uint32) []byte { return append([]byte{1, 187, 156, 64, 1, 8}, fixedNoise(400)[2*i:2*i+2]...) }, false},
		"ports and numbers":     {func(i uint32) []byte { return be.AppendUint32([]byte{1, 187, 156, 64}, 77+1400*i) }, false},
		"an echo, of what": {func(i uint32) []byte {
			return append(append([]byte{8, 0}, fixedNoise(400)[2*i:2*i+2]...), 0, 77, 0, byte(i))
		}, false},
	} {
		var all []nonce
		for _, i := range []uint32{1, 2, 3, 5, 4, 6} {
			all = append(all, nonce{uint64(i), tc.make(i)})
		}
		if got := drawnOrCounted(all); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestIKECutToItsHeadersShowsNothing: four bytes of what is said to be encrypted.
func TestIKECutToItsHeadersShowsNothing(t *testing.T) {
	f := datagramFlow(capture.UDP, []sent{{false, ike(t, 35, false)}, {true, ike(t, 35, false)}})
	if found := Judge(cutTo(f, 44), Knowledge{}); found.Verdict != Unknown {
		t.Errorf("%s %s", found.Verdict, found.Protocol)
	}
}

func boolTo(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// TestESPThatDoesNotEncryptIsPlaintext sends what a cipher could not have made:
// an IPv4 packet whose payload was compressed, so that all but its header looks
// random.
func TestESPThatDoesNotEncryptIsPlaintext(t *testing.T) {
	inner := []byte{
		0x45, 0, 0, 0x54, 0xa6, 0xf2, 0, 0, 0x40, 1, 0, 0, 10, 1, 1, 1, 10, 1, 2, 1,
	}
	sum := uint32(0)
	for i := 0; i < len(inner); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(inner[i:]))
	}
	binary.BigEndian.PutUint16(inner[10:], ^uint16(sum&0xffff+sum>>16))
	random := esp(t, 300, 1, strings.Repeat("x", 80))
	packet := append([]byte{0, 0, 0x10, 0, 0, 0, 0, 1}, inner...)
	packet = append(packet, random[16:16+64]...)
	packet = append(packet, 1, 2, 2, 4)
	packet = append(packet, random[:12]...)
	found := judgeSent(capture.ESP, []sent{{false, packet}})
	if found.Verdict != Plaintext || found.Protocol != "esp" || !strings.HasPrefix(found.Evidence.Hex, "45000054") || found.Evidence.From != "client" {
		t.Errorf("%s %s, %+v", found.Verdict, found.Reason, found.Evidence)
	}
}
