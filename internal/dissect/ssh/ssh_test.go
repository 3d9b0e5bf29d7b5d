package ssh

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// packet is a message in clear, as on the wire.
func packet(m ...byte) []byte {
	const padding = 4
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(m)+padding))
	return append(append(append(b, padding), m...), make([]byte, padding)...)
}

// kexInit is an offer of ten lists.
func kexInit(lists ...string) []byte {
	m := append([]byte{KexInit}, make([]byte, 16)...)
	for _, list := range lists {
		m = append(binary.BigEndian.AppendUint32(m, uint32(len(list))), list...)
	}
	return append(m, 0, 0, 0, 0, 0)
}

func TestBannersAreRead(t *testing.T) {
	for stream, want := range map[string]Banner{
		"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\nrest":       {"2.0", "OpenSSH_9.2p1 Debian-2"},
		"SSH-2.0-dropbear\nrest":                       {"2.0", "dropbear"},
		"SSH-1.99-Cisco-1.25\nrest":                    {"1.99", "Cisco-1.25"},
		"welcome\r\nto this host\r\nSSH-2.0-x\r\nrest": {"2.0", "x"},
		"SSH-2.0-x":       {},
		"SSH-2.0\r\nrest": {},
		"hello\r\nrest":   {},
		"SSH-2.0-" + strings.Repeat("x", 300) + "\r\n":   {},
		strings.Repeat("a line\n", 2000) + "SSH-2.0-x\n": {},
		"binary \x00\nSSH-2.0-x\n":                       {},
		"":                                               {},
	} {
		got, rest, err := ParseBanner([]byte(stream))
		if got != want || (err == nil) != (want.Protocol != "") || err == nil && string(rest) != "rest" {
			t.Errorf("%.40q: %+v, %q, %v", stream, got, rest, err)
		}
	}
}

func TestMessagesAreReadUpToTheKeys(t *testing.T) {
	offer := packet(kexInit("a", "b", "c", "d", "e", "f", "none", "none", "", "")...)
	for name, tc := range map[string]struct {
		stream []byte
		count  int
		sealed string
		keyed  bool
		fails  bool
	}{
		"whole":                   {bytes.Join([][]byte{offer, packet(30, 1), packet(31), packet(NewKeys), []byte("sealed")}, nil), 4, "sealed", true, false},
		"breaks off":              {offer[:40], 0, "", false, false},
		"without keys":            {offer, 1, "", false, false},
		"no packet":               {[]byte("GET / HTTP/1.1\r\n"), 0, "GET / HTTP/1.1\r\n", false, true},
		"authentication in clear": {append(bytes.Clone(offer), packet(50)...), 1, string(packet(50)), false, true},
		"keys with content":       {packet(NewKeys, 1), 0, string(packet(NewKeys, 1)), false, true},
		"nothing":                 {nil, 0, "", false, false},
	} {
		all, sealed, keyed, err := Messages(tc.stream)
		if len(all) != tc.count || string(sealed) != tc.sealed || keyed != tc.keyed || (err != nil) != tc.fails {
			t.Errorf("%s: %d messages, %q, %v, %v", name, len(all), sealed, keyed, err)
		}
	}
}

func TestOffersAreRead(t *testing.T) {
	m := kexInit("k1,k2", "h", "c1,c2", "c3", "m1", "m2", "none", "none", "", "")
	got, err := ParseOffer(m)
	want := Offer{
		Kex: []string{"k1", "k2"}, HostKeys: []string{"h"},
		Ciphers: [2][]string{{"c1", "c2"}, {"c3"}}, MACs: [2][]string{{"m1"}, {"m2"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	for n := range m {
		if _, err := ParseOffer(m[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken", n, len(m))
		}
	}
	if name, ok := Agree([]string{"a", "b"}, []string{"c", "b", "a"}); name != "a" || !ok {
		t.Errorf("agreed on %q", name)
	}
}

func TestBodiesStandBetweenTheLengths(t *testing.T) {
	sealed := append(binary.BigEndian.AppendUint32(nil, 8), bytes.Repeat([]byte{1}, 24)...)
	sealed = append(binary.BigEndian.AppendUint32(sealed, 100), 2, 2)
	for _, tc := range []struct {
		cipher, mac string
		want        []int
	}{
		{"aes128-gcm@openssh.com", "", []int{24, 2}},
		{"aes128-ctr", "umac-128-etm@openssh.com", []int{24, 2}},
		{"aes128-ctr", "hmac-sha2-256", []int{len(sealed)}},
		{"chacha20-poly1305@openssh.com", "hmac-sha2-256-etm@openssh.com", []int{len(sealed)}},
	} {
		bodies, err := Bodies(sealed, tc.cipher, tc.mac)
		var got []int
		for _, b := range bodies {
			got = append(got, len(b))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
			t.Errorf("%s %s: %v %v", tc.cipher, tc.mac, got, err)
		}
	}
	if _, err := Bodies([]byte("text\n"), "aes128-gcm@openssh.com", ""); err == nil {
		t.Error("text is taken")
	}
}

func FuzzStream(f *testing.F) {
	offer := packet(kexInit("a", "b", "c", "d", "e", "f", "none", "none", "", "")...)
	f.Add(append(append([]byte("SSH-2.0-x\r\n"), offer...), packet(NewKeys)...))
	f.Add([]byte("hello\nSSH-2.0-x\n\x00\x00\x00\x0c\x0a\x15"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		_, rest, err := ParseBanner(stream)
		if err != nil {
			return
		}
		all, sealed, keyed, err := Messages(rest)
		if keyed && (err != nil || len(all) == 0 || !bytes.HasSuffix(stream, sealed)) {
			t.Error("keys out of nowhere")
		}
		for _, m := range all {
			if m[0] == KexInit {
				_, _ = ParseOffer(m)
			}
		}
		for _, mac := range []string{"", "umac-64-etm@openssh.com"} {
			_, _ = Bodies(sealed, "aes128-gcm", mac)
		}
	})
}
