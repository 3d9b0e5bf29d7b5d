package ipsec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// drawn is bytes that look encrypted, the same in each run.
func drawn(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.NewChaCha8([32]byte{byte(n)}).Read(b); err != nil {
		panic(err)
	}
	return b
}

// ip4 is an IPv4 packet with a payload.
func ip4(payload []byte) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum&0xffff+sum>>16))
	return append(h, payload...)
}

// null is an ESP packet that does not encrypt.
func null(iv int, payload []byte, next byte, icv int) []byte {
	b := append([]byte{0, 0, 0x10, 0, 0, 0, 0, 1}, drawn(iv)...)
	b = append(b, payload...)
	padding := (4 - (len(payload)+2)%4) % 4
	for i := range padding {
		b = append(b, byte(i+1))
	}
	return append(append(b, byte(padding), next), drawn(icv)...)
}

func TestESPWithoutEncryptionIsSeen(t *testing.T) {
	udp := append([]byte{0, 53, 0, 54, 0, 13, 0, 0}, "hello"...)
	tcp := append([]byte{0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0}, "hello"...)
	ip6 := append([]byte{0x60, 0, 0, 0, 0, byte(len(udp)), 17, 64}, append(make([]byte, 32), udp...)...)
	for name, tc := range map[string]struct {
		packet  []byte
		certain bool
	}{
		"tunnel, IPv4":          {null(0, ip4(udp), 4, 12), true},
		"tunnel, IPv4, SHA-256": {null(0, ip4(udp), 4, 16), true},
		"tunnel, IPv4, GMAC":    {null(8, ip4(udp), 4, 16), true},
		"tunnel, IPv6":          {null(0, ip6, 41, 12), true},
		"transport, UDP":        {null(0, udp, 17, 12), true},
		"transport, TCP":        {null(0, tcp, 6, 12), false},
		"transport, ICMP":       {null(0, append([]byte{8, 0}, drawn(40)...), 1, 32), false},
	} {
		p, err := ParseESP(tc.packet, len(tc.packet))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if inner, ok := p.Clear(); !ok || inner.Certain != tc.certain {
			t.Errorf("%s: %+v, %v", name, inner, ok)
		}
	}
	cut := null(0, ip4(drawn(1000)), 4, 12)
	if p, err := ParseESP(cut[:60], len(cut)); err != nil {
		t.Error(err)
	} else if _, ok := p.Clear(); !ok {
		t.Error("a packet that was cut off is not seen to be in clear")
	}
}

// TestEncryptedESPIsNotTakenForClear draws 100,000 packets.
func TestEncryptedESPIsNotTakenForClear(t *testing.T) {
	source := rand.NewChaCha8([32]byte{1})
	certain, maybe := 0, 0
	for range 100_000 {
		b := append([]byte{0, 0, 0x10, 0, 0, 0, 0, 1}, make([]byte, 96)...)
		if _, err := source.Read(b[8:]); err != nil {
			t.Fatal(err)
		}
		p, err := ParseESP(b, len(b))
		if err != nil {
			t.Fatal(err)
		}
		if inner, ok := p.Clear(); ok && inner.Certain {
			certain++
		} else if ok {
			maybe++
		}
	}
	if certain > 0 || maybe > 10 {
		t.Errorf("%d packets in clear, %d maybe", certain, maybe)
	}
}

func TestWhatIsNoESPIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"short":              drawn(16),
		"no multiple of 4":   append([]byte{0, 0, 0x10, 0, 0, 0, 0, 1}, drawn(41)...),
		"reserved SPI":       append([]byte{0, 0, 0, 255, 0, 0, 0, 1}, drawn(40)...),
		"no sequence number": append([]byte{0, 0, 0x10, 0, 0, 0, 0, 0}, drawn(40)...),
	} {
		if _, err := ParseESP(b, len(b)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// message is one of IKE with a body.
func message(version, exchange, flags, next byte, body []byte) []byte {
	b := append([]byte("initiatorrespondr")[:16], next, version, exchange, flags, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(ikeHeader+len(body)))
	return append(b, body...)
}

func payload(next byte, body []byte) []byte {
	return append([]byte{next, 0, byte((4 + len(body)) >> 8), byte(4 + len(body))}, body...)
}

func TestIKEIsRead(t *testing.T) {
	sealed := drawn(80)
	for name, tc := range map[string]struct {
		message []byte
		version int
		sealed  int
		fails   bool
	}{
		"SA_INIT":                {message(0x20, 34, 8, 33, append(payload(34, drawn(40)), payload(0, drawn(64))...)), 2, 0, false},
		"AUTH":                   {message(0x20, 35, 8, 46, payload(35, sealed)), 2, 72, false},
		"AUTH, a fragment":       {message(0x20, 35, 8, 53, payload(35, sealed)), 2, 68, false},
		"clear, then encrypted":  {message(0x20, 35, 8, 41, append(payload(46, drawn(4)), payload(0, sealed)...)), 2, 72, false},
		"bytes behind":           {message(0x20, 35, 8, 46, append(payload(35, sealed), 1, 2, 3, 4)), 0, 0, true},
		"version 1, main mode":   {message(0x10, 2, 0, 1, payload(0, drawn(40))), 1, 0, false},
		"version 1, quick mode":  {message(0x10, 32, 1, 8, sealed), 1, 80, false},
		"version 3":              {message(0x30, 34, 0, 33, sealed), 0, 0, true},
		"another exchange":       {message(0x20, 99, 0, 33, sealed), 0, 0, true},
		"a payload breaks off":   {message(0x20, 34, 8, 33, []byte{0, 0, 1, 0}), 0, 0, true},
		"not the whole datagram": {append(message(0x20, 35, 8, 46, payload(35, sealed)), 0), 0, 0, true},
		"text":                   {bytes.Repeat([]byte("text"), 20), 0, 0, true},
	} {
		m, err := ParseIKE(tc.message, len(tc.message))
		if (err != nil) != tc.fails || !tc.fails && (m.Version != tc.version || len(m.Sealed) != tc.sealed) {
			t.Errorf("%s: version %d, %d bytes sealed, %v", name, m.Version, len(m.Sealed), err)
		}
	}
}

func FuzzDatagram(f *testing.F) {
	f.Add(null(8, ip4(drawn(20)), 4, 16), 0)
	f.Add(message(0x20, 35, 8, 46, payload(35, drawn(40))), 0)
	f.Add(message(0x10, 32, 1, 8, drawn(40)), 12)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		length := len(b) + max(cut, 0)%2000
		if p, err := ParseESP(b, length); err == nil {
			if inner, ok := p.Clear(); ok && !bytes.HasSuffix(b, inner.Bytes) {
				t.Error("bytes from nowhere", hex.EncodeToString(inner.Bytes))
			}
		}
		if m, err := ParseIKE(b, length); err == nil && len(m.Sealed) > len(b) {
			t.Error("more than there is")
		}
	})
}
