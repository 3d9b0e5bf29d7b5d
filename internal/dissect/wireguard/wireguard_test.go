package wireguard

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// initiation is one that wireguard-go 0.0.20220316 sent to the owner of receiver.
const (
	initiation = "" +
		"01000000faa0c10944b7716bca5ba1bcce59b306a6113f026fc6cf297b851f41b853264ffcc6a46ed2e625fedd3b5edf5c773be050a24660" +
		"f0846d1dce2f00b6aa6f30129693b1f2f5c25476f849adb36b04279eee33e7f45cbf9d2cf88ea7c628759209e2c24785d29993912628eab7" +
		"557bd7c570f07e54226d6002c550793299375b0c00000000000000000000000000000000"
	receiver = "d6122090b77ae9fe2f5d2d505d354a14ce058efc167e1e5f9bc0c014bf751473"
)

func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestARealInitiationIsAddressedToItsReceiver is a known answer for mac1.
func TestARealInitiationIsAddressedToItsReceiver(t *testing.T) {
	b := unhex(t, initiation)
	m, err := Parse(b, len(b))
	if err != nil {
		t.Fatal(err)
	}
	key := [32]byte(unhex(t, receiver))
	if m.Type != Initiation || len(m.Sealed) != 124 || !m.AddressedTo(key) {
		t.Errorf("type %d, %d bytes sealed, addressed %v", m.Type, len(m.Sealed), m.AddressedTo(key))
	}
	key[0] ^= 1
	if m.AddressedTo(key) {
		t.Error("addressed to another key too")
	}
	if m, err := Parse(b[:100], len(b)); err != nil || m.AddressedTo([32]byte(unhex(t, receiver))) {
		t.Errorf("cut off: %v, or addressed to somebody", err)
	}
}

// TestABatchIsTakenApart: what a kernel hands to the network card in one piece.
func TestABatchIsTakenApart(t *testing.T) {
	message := func(counter byte, body string) string {
		return "\x04\x00\x00\x00\x01\x02\x03\x04" + string(rune(counter)) + strings.Repeat("\x00", 7) + body
	}
	long, short := strings.Repeat("a packet that is", 4), strings.Repeat("b", 32)
	for name, tc := range map[string]struct {
		datagram string
		cut      int
		sealed   []int
	}{
		"one":               {message(7, long), 0, []int{64}},
		"three":             {message(7, long) + message(8, long) + message(9, short), 0, []int{64, 64, 32}},
		"one was lost":      {message(7, long) + message(9, long), 0, []int{64, 64}},
		"cut in the last":   {message(7, long) + message(8, long[:8]), 56, []int{64, 8}},
		"cut in its header": {message(7, long) + message(8, long) + message(9, "")[:8], 72, []int{64, 64}},
		"the same again":    {message(7, long) + message(7, long), 0, []int{144}},
		"of two lengths":    {message(7, short) + message(8, long), 0, []int{112}},
	} {
		all, err := Split([]byte(tc.datagram), len(tc.datagram)+tc.cut)
		var sealed []int
		for _, m := range all {
			sealed = append(sealed, len(m.Sealed))
		}
		if err != nil || !slices.Equal(sealed, tc.sealed) {
			t.Errorf("%s: %d, %v", name, sealed, err)
		}
	}
}

func TestMessagesAreRead(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	for name, tc := range map[string]struct {
		datagram string
		cut      int
		want     Message
		sealed   int
		fails    string
	}{
		"initiation":     {"\x01\x00\x00\x00\x01\x02\x03\x04" + zeros(140), 0, Message{Type: Initiation, Sender: 0x04030201}, 124, ""},
		"response":       {"\x02\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08" + zeros(80), 0, Message{Type: Response, Sender: 0x04030201, Receiver: 0x08070605}, 64, ""},
		"cookie":         {"\x03\x00\x00\x00\x01\x02\x03\x04" + zeros(56), 0, Message{Type: Cookie, Receiver: 0x04030201}, 56, ""},
		"keepalive":      {"\x04\x00\x00\x00\x01\x02\x03\x04\x05\x00\x00\x00\x00\x00\x00\x80" + zeros(16), 0, Message{Type: Data, Receiver: 0x04030201, Counter: 1<<63 + 5}, 16, ""},
		"data":           {"\x04\x00\x00\x00" + zeros(92), 0, Message{Type: Data}, 80, ""},
		"data, cut off":  {"\x04\x00\x00\x00" + zeros(28), 64, Message{Type: Data}, 16, ""},
		"header cut off": {"\x04\x00\x00\x00" + zeros(8), 84, Message{}, 0, "only 12 bytes"},
		"another length": {"\x04\x00\x00\x00" + zeros(93), 0, Message{}, 0, "97 bytes"},
		"another type":   {"\x05\x00\x00\x00" + zeros(92), 0, Message{}, 0, "type 0x5"},
		"reserved":       {"\x04\x00\x01\x00" + zeros(92), 0, Message{}, 0, "type 0x10004"},
		"too short":      {"\x04\x00\x00\x00" + zeros(12), 0, Message{}, 0, "16 bytes"},
		"nothing":        {"", 0, Message{}, 0, "0 bytes"},
	} {
		m, err := Parse([]byte(tc.datagram), len(tc.datagram)+tc.cut)
		if tc.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || m.Type != tc.want.Type || m.Sender != tc.want.Sender || m.Receiver != tc.want.Receiver || m.Counter != tc.want.Counter || len(m.Sealed) != tc.sealed {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, initiation), 0)
	f.Add(append([]byte{4}, make([]byte, 31)...), 64)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		m, err := Parse(b, len(b)+max(cut, 0)%2000)
		if err == nil && !bytes.Contains(b, m.Sealed) {
			t.Error("more than there is")
		}
		if m.AddressedTo([32]byte{}) {
			t.Error("addressed to nobody's key")
		}
	})
}
