package verify

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// macsec is a frame from its SecTAG on. What GCM seals looks the same in ESP.
func macsec(t testing.TB, flags byte, number uint32, payload string) []byte {
	t.Helper()
	b := append([]byte{flags, 0}, binary.BigEndian.AppendUint32(nil, number)...)
	if flags&0x20 != 0 {
		b = append(b, 2, 0, 0, 0, 0, byte(len(payload)&1), 0, 1)
	}
	sealed := esp(t, 1<<20, number, payload)[16:]
	if len(sealed)-macsecICV < 48 {
		b[1] = byte(len(sealed) - macsecICV)
	}
	return append(b, sealed...)
}

func TestMACsecIsRead(t *testing.T) {
	const whole, bare = 0x2c, 0x0c // with the name of the channel, and without
	text := strings.Repeat("cleartext ", 10)
	frames := func(flags byte, numbers ...uint32) (all []sent) {
		for _, n := range numbers {
			all = append(all, sent{false, macsec(t, flags, n, text)})
		}
		return all
	}
	for _, tc := range []struct {
		name string
		all  []sent
		want Verdict
		says string
	}{
		{"several frames", frames(whole, 1, 2, 3), MACsec, ""},
		{"without a channel", frames(bare, 1, 2, 3), MACsec, ""},
		{"overtaken", frames(whole, 1, 3, 2, 4), MACsec, ""},
		{"short frames, padded", []sent{
			{false, append(macsec(t, whole, 1, "test"), 0, 0, 0)}, {false, append(macsec(t, whole, 2, "test"), 0, 0)}, {true, macsec(t, whole, 1, text)},
			{false, macsec(t, whole, 3, text)}, {false, macsec(t, whole, 4, text)},
		}, MACsec, ""},
		{"two frames", frames(whole, 1, 2), Unknown, "too few"},
		{"numbers by chance", frames(whole, 1, 1<<30, 3), Unknown, "jump"},
		{"number 0", frames(whole, 0, 1, 2), Unknown, "header"},
		{"changed, not encrypted", frames(0x24, 1, 2, 3), Unknown, "header"},
		{"text inside", append(frames(whole, 1, 2, 3), sent{false, append(macsec(t, whole, 4, "")[:14], text...)}), Plaintext, "cleartext"},
		{"a header in clear inside", []sent{
			{false, clearHeader(t, 1)}, {false, clearHeader(t, 2)}, {false, clearHeader(t, 3)}, {false, clearHeader(t, 4)},
		}, Unknown, "should be sealed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := judgeSent(capture.MACsec, tc.all)
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || (found.Seal == "macsec") != (tc.want == MACsec) || !strings.Contains(said, tc.says) {
				t.Errorf("%s, sealed by %q, saying %q", found.Verdict, found.Seal, said)
			}
		})
	}
}

// clearHeader is a frame of which only a part is sealed: a "confidentiality
// offset" leaves 30 bytes of it in clear.
func clearHeader(t testing.TB, number uint32) []byte {
	frame := macsec(t, 0x2c, number, strings.Repeat("cleartext ", 10))
	copy(frame[14:], []byte{8, 0, 0x45, 0, 0, 120, byte(number), 7, 0x40, 0, 64, 6, 0x99, 0xaa, 10, 0, 0, 1, 10, 0, 0, 2})
	return frame
}
