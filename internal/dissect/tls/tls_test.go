package tls

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// TestEverySuiteIsWorthWhatItsNameSays holds the table against crypto/tls, and
// what is derived from names against lists by hand.
func TestEverySuiteIsWorthWhatItsNameSays(t *testing.T) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if got := CipherName(s.ID); got != s.Name {
			t.Errorf("%04X is %s, want %s", s.ID, got, s.Name)
		}
		if suite := SuiteOf(s.ID); !suite.Encrypts || suite.Anonymous || suite.Broken != "" {
			t.Errorf("%+v", suite)
		}
	}
	var plain, anonymous, broken []uint16
	for id := range suiteNames {
		s := SuiteOf(id)
		if !s.Encrypts {
			plain = append(plain, id)
		}
		if s.Anonymous {
			anonymous = append(anonymous, id)
		}
		if s.Broken != "" {
			broken = append(broken, id)
		}
		if s.Encrypts && (strings.Contains(s.Name, "NULL") || s.Name == "TLS_SHA256_SHA256") {
			t.Errorf("%s is said to encrypt", s.Name)
		}
	}
	for name, tc := range map[string]struct{ got, want []uint16 }{
		"plain": {plain, []uint16{
			0x0000, 0x0001, 0x0002, 0x002C, 0x002D, 0x002E, 0x003B, 0x0082, 0x0083, 0x00B0, 0x00B1, 0x00B4, 0x00B5, 0x00B8, 0x00B9,
			0xC001, 0xC006, 0xC00B, 0xC010, 0xC015, 0xC039, 0xC03A, 0xC03B, 0xC0B4, 0xC0B5,
		}},
		"anonymous": {anonymous, []uint16{
			0x0000, 0x0017, 0x0018, 0x0019, 0x001A, 0x001B, 0x0034, 0x003A, 0x0046, 0x006C, 0x006D, 0x0089, 0x009B, 0x00A6, 0x00A7,
			0x00BF, 0x00C5, 0xC015, 0xC016, 0xC017, 0xC018, 0xC019, 0xC046, 0xC047, 0xC05A, 0xC05B, 0xC084, 0xC085,
		}},
		"broken": {broken, []uint16{
			0x0003, 0x0006, 0x0008, 0x0009, 0x000B, 0x000C, 0x000E, 0x000F, 0x0011, 0x0012, 0x0014, 0x0015, 0x0017, 0x0019, 0x001A,
			0x001E, 0x0022, 0x0026, 0x0027, 0x0028, 0x0029, 0x002A, 0x002B, 0x0060, 0x0061, 0x0062, 0x0063, 0x0064, 0x0065,
		}},
	} {
		slices.Sort(tc.got)
		if !slices.Equal(tc.got, tc.want) {
			t.Errorf("%s: %04X, want %04X", name, tc.got, tc.want)
		}
	}
	if s := SuiteOf(0xFEFE); s.Known || s.Encrypts || s.Name != "0xFEFE" {
		t.Errorf("a suite nobody knows: %+v", s)
	}
}

func TestNames(t *testing.T) {
	for v, want := range map[uint16]string{
		0x0002: "SSL 2.0", 0x0300: "SSL 3.0", 0x0301: "1.0", 0x0303: "1.2", 0x0304: "1.3", 0x7F17: "1.3 draft 23", 0x7F1C: "1.3 draft 28",
		0x7F00: "0x7F00", 0x7F1D: "0x7F1D", 0xFEFF: "1.0", 0xFEFD: "1.2", 0xFEFC: "1.3", 0xFB17: "1.3 draft 23", 0x0305: "0x0305",
	} {
		if got := VersionName(v); got != want || Is13(v) != strings.HasPrefix(want, "1.3") || KnownVersion(v) == strings.HasPrefix(want, "0x") {
			t.Errorf("%04X is %q, want %q", v, got, want)
		}
	}
	if GroupName(0x11EC) != "X25519MLKEM768" || GroupName(0x9999) != "0x9999" || AlertName(48) != "unknown_ca" || AlertName(200) != "alert 200" {
		t.Error("a group or an alert has another name")
	}
}

func TestKeyExchanges(t *testing.T) {
	prime := func(bits int) []byte {
		p := bytes.Repeat([]byte{0xFF}, bits/8)
		return append([]byte{byte(len(p) >> 8), byte(len(p))}, p...)
	}
	ffdhe := append([]byte{1, 0}, append(unhex(t, "FFFFFFFFFFFFFFFFADF85458A2BB4A9A"), bytes.Repeat([]byte{7}, 240)...)...)
	for name, tc := range map[string]struct {
		body   []byte
		cipher uint16
		want   KeyExchange
		ok     bool
	}{
		"curve":               {[]byte{3, 0, 29, 1, 9}, 0xC02F, KeyExchange{Group: 29}, true},
		"curve of ECDH_anon":  {[]byte{3, 0, 23}, 0xC018, KeyExchange{Group: 23}, true},
		"curve behind a hint": {[]byte{0, 1, 'h', 3, 0, 23}, 0xC035, KeyExchange{Group: 23}, true},
		"explicit curve":      {[]byte{1, 0, 29}, 0xC02F, KeyExchange{Group: 29}, false},
		"prime":               {prime(1024), 0x0033, KeyExchange{PrimeBits: 1024}, true},
		"prime of RFC 7919":   {ffdhe, 0x009E, KeyExchange{PrimeBits: 2048, Standard: true}, true},
		"prime with zeros":    {[]byte{0, 3, 0, 0, 1}, 0x0033, KeyExchange{PrimeBits: 1}, true},
		"no prime":            {[]byte{0, 0}, 0x0033, KeyExchange{}, false},
		"RSA":                 {[]byte{3, 0, 29}, 0x002F, KeyExchange{}, false},
		"cut":                 {[]byte{3, 0}, 0xC02F, KeyExchange{}, false},
	} {
		if got, ok := ParseKeyExchange(tc.body, tc.cipher); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// helloV2 is a hello of SSL 2.0 with two kinds of ciphers, one of them of TLS.
const helloV2 = "802F 01 0301 0006 0000 0020 010080 00002F 000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"

func TestHelloOfSSL2(t *testing.T) {
	stream := unhex(t, helloV2)
	all, rest := RecordsV2(stream[:len(stream)-1])
	if len(all) != 1 || all[0].Length != 0x2F || all[0].Whole || len(rest) != 0 {
		t.Errorf("%+v, rest %x", all, rest)
	}
	if !BeginsV2(stream) {
		t.Fatal("not taken for a hello")
	}
	all, _ = RecordsV2(stream)
	h, err := ParseClientHelloV2(all[0].Body)
	if err != nil {
		t.Fatal(err)
	}
	hello := h.Hello()
	if !slices.Equal(hello.Ciphers, []uint16{0x002F}) || hello.Versions[0] != Version10 || hello.Random[31] != 0x1F || !hello.SSL2 {
		t.Errorf("%+v", hello)
	}
	if BeginsV2([]byte("GET / HTTP/1.1\r\nHost: web\r\n\r\n")) {
		t.Error("text is taken for a hello")
	}
	padded, _ := RecordsV2([]byte{0x00, 4, 1, 9, 9, 9, 0, 0x80, 1, 7})
	if len(padded) != 2 || padded[0].Padding != 1 || padded[1].Length != 1 {
		t.Errorf("with padding: %+v", padded)
	}
}

func TestLeaf(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want string
		ok   bool
	}{
		"two":    {"00000B 000003 AABBCC 000002 DDEE", "AABBCC", true},
		"none":   {"000000", "", true},
		"cut":    {"00000B 000003 AABB", "", false},
		"longer": {"000003 000009 AA", "", false},
	} {
		der, ok := Leaf(unhex(t, tc.body))
		if ok != tc.ok || ok && !bytes.Equal(der, unhex(t, tc.want)) {
			t.Errorf("%s: %x, %t", name, der, ok)
		}
	}
}

// FuzzStream: no stream makes a parser panic, and records cover it up to the rest.
func FuzzStream(f *testing.F) {
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0, 20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 2, 9})
	f.Add(unhex(f, helloV2))
	f.Add([]byte{0x80, 3, 4, 0, 1})
	f.Fuzz(func(t *testing.T, stream []byte) {
		all, rest := Records(stream)
		length := len(rest)
		for _, r := range all {
			length += RecordHeader + len(r.Body)
			if r.Whole != (len(r.Body) == r.Length) || len(r.Body) > 0 && &stream[r.Offset] != &r.Body[0] {
				t.Errorf("record %+v", r)
			}
			_, _ = ParseAlert(r.Body)
		}
		if length != len(stream) {
			t.Errorf("%d bytes in records and behind them, of %d", length, len(stream))
		}
		v2, _ := RecordsV2(stream)
		for _, r := range v2 {
			_, _ = ParseClientHelloV2(r.Body)
			_, _ = ParseServerHelloV2(r.Body)
			_, _ = ParseMasterKeyV2(r.Body)
		}
	})
}

// FuzzMessage: no message makes a parser panic.
func FuzzMessage(f *testing.F) {
	f.Add(make([]byte, 64), uint16(0xC02F))
	f.Add([]byte{0, 0, 4, 0, 0, 1, 9}, uint16(0x009E))
	f.Fuzz(func(_ *testing.T, body []byte, cipher uint16) {
		_, _ = ParseClientHello(body)
		_, _ = ParseClientHelloDTLS(body)
		_, _ = ParseServerHello(body)
		_, _ = Leaf(body)
		_, _ = ParseKeyExchange(body, cipher)
		_, _, _ = Next(body)
	})
}
