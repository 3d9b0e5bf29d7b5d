package clear

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"golang.org/x/net/http2/hpack"
)

func TestMessagesAreRecognized(t *testing.T) {
	for i, s := range samples {
		m, ok := Recognize(s.talk())
		if !ok || m.Protocol != s.name {
			t.Errorf("sample %d: %q (%d bits), want %q", i, m.Protocol, m.Bits, s.name)
		}
		if why := Sealing(s.talk()); why != "" {
			t.Errorf("sample %d, %s: %s", i, s.name, why)
		}
	}
}

// TestEveryProtocolHasASample keeps the table and the samples together.
func TestEveryProtocolHasASample(t *testing.T) {
	named := map[string]bool{}
	for _, s := range samples {
		m, _ := Recognize(s.talk())
		named[m.Protocol] = true
	}
	for _, p := range table {
		if !named[p.name] {
			t.Errorf("no sample of %s", p.name)
		}
	}
}

func TestGRPCIsReadFromHeaders(t *testing.T) {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/shop.Cart/Add"}, {Name: "content-type", Value: "application/grpc+proto"}} {
		if err := e.WriteField(f); err != nil {
			t.Fatal(err)
		}
	}
	settings := x("000000 04 00 00000000")
	headers := x("0000") + string([]byte{byte(block.Len())}) + x("01 04 00000001") + block.String()
	s := sample{client: []string{preface, settings, headers}}
	if m, _ := Recognize(s.talk()); m.Protocol != "grpc" {
		t.Errorf("protocol %q", m.Protocol)
	}
}

// sealedSamples are of protocols that encrypt, or may: none is in clear.
var sealedSamples = map[string]sample{
	"WireGuard handshake": {client: []string{x("01000000 a1b2c3d4") + noise(140)}, server: []string{x("02000000 11223344 a1b2c3d4") + noise(80)}, datagrams: true},
	"WireGuard keepalive": {client: []string{x("04000000 11223344 0000000000000000") + noise(16)}, server: []string{x("04000000 a1b2c3d4 0100000000000000") + noise(112)}, datagrams: true},
	"WireGuard data": {client: []string{x("04000000 11223344 0000000000000000") + noise(112), x("04000000 11223344 0100000000000000") + noise(112),
		x("04000000 11223344 0200000000000000") + noise(1424)}, datagrams: true},
	"ESP":                {client: []string{x("c0ffee01 00000001") + noise(100), x("c0ffee01 00000002") + noise(100), x("c0ffee01 00000003") + noise(100)}, datagrams: true},
	"DTLS 1.2 data":      {client: []string{x("17 fefd 0001000000000001 0040") + noise(64)}, server: []string{x("17 fefd 0001000000000001 0040") + noise(64)}, datagrams: true},
	"QUIC":               {client: []string{x("c3 00000001 08") + noise(8) + x("08") + noise(8) + x("00 4480") + noise(1152)}, server: []string{x("43") + noise(100)}, datagrams: true},
	"VNC, RSA-AES":       {client: []string{"RFB 005.000\n\x05" + x("00000800") + noise(512)}, server: []string{"RFB 005.000\n\x02\x05\x06" + x("00000800") + noise(512)}},
	"PostgreSQL, GSSAPI": {client: []string{x("00000008 04d21630 00000042") + "\x60\x40" + noise(64)}, server: []string{"G" + x("00000042") + "\x60\x40" + noise(64)}},
	"LDAP, GSSAPI": {client: []string{x("30 1d 020101 60 18 020103 0400 a3 11 04 06 'GSSAPI' 04 07") + noise(7), x("0000005c 0504 06ff 00000000") + noise(84)},
		server: []string{x("30 0c 020101 61 07 0a0100 0400 0400"), x("0000005c 0504 07ff 00000000") + noise(84)}},
	"SRTP, an extension":  {client: srtpSample("90", "bede0001 10ff0000", ""), datagrams: true},
	"SRTP, two sources":   {client: srtpSample("82", "11111111 22222222", ""), datagrams: true},
	"SRTP, a key's name":  {client: srtpSample("80", "", "00000001"), datagrams: true},
	"SRTCP":               {client: []string{x("80 c8 0006 cafebabe") + noise(20) + x("80000001") + noise(10), x("81 c9 0007 cafebabe") + noise(24) + x("80000002") + noise(10)}, datagrams: true},
	"SRTP, with SRTCP":    {client: append(srtpSample("80", "", ""), x("81 c9 0007 cafebabe")+noise(24)+x("80000001")+noise(10)), datagrams: true},
	"SRTP":                {client: []string{x("80 60 0101 00000000 cafebabe") + noise(160), x("80 60 0102 000000a0 cafebabe") + noise(160), x("80 60 0103 00000140 cafebabe") + noise(160), x("80 60 0104 000001e0 cafebabe") + noise(160)}, datagrams: true},
	"SNMPv3 with privacy": {client: []string{x("30 81 80 02 01 03 30 11 02 04 12345678 02 03 00ffe3 04 01 07 02 01 03 04 30") + noise(48) + x("04 32") + noise(50)}, datagrams: true},
	"SMB 3": {client: []string{x("00 000024 fe 'SMB' 4000 0000 00000000 0000 0100") + varied(20), x("00 000040 fd 'SMB'") + noise(60)},
		server: []string{x("00 000044 fd 'SMB'") + noise(64)}},
	"TLS":          {client: []string{x("16 0301 0100 01 0000fc 0303") + noise(250)}, server: []string{x("16 0303 007a 02 000076 0303") + noise(116) + x("17 0303 0040") + noise(64)}},
	"TLS records":  {client: []string{x("17 0303 0040") + noise(64) + x("17 0303 0100") + noise(256)}, server: []string{x("17 0303 0018") + noise(24)}},
	"SSH packets":  {client: []string{x("0000002c") + noise(44) + x("0000003c") + noise(60)}, server: []string{x("0000002c") + noise(44)}},
	"OpenVPN":      {client: []string{x("38") + "abcdefgh" + x("00 00000000")}, server: []string{x("40") + "12345678" + x("01 00000000") + "abcdefgh" + x("00000000")}, datagrams: true},
	"IKE":          {client: []string{noise(8) + zeros(8) + x("21 20 22 08 00000000 0000007c") + noise(96)}, datagrams: true},
	"DCE privacy":  {client: []string{x("05 00 00 03 10000000 5000 1000 01000000 00000000 0000 0000") + noise(32) + x("09 06 00 00 00000000") + noise(16)}},
	"NFS with GSS": {client: []string{x("80000080 12345678 00000000 00000002 000186a3 00000004 00000001 00000006 00000018 00000001 00000000 00000005 00000003") + noise(76)}},
}

var source = rand.New(rand.NewPCG(5, 7))

// noise is the same at every run.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(source.Uint32())
	}
	return string(b)
}

func TestSealedTrafficIsNotClear(t *testing.T) {
	for name, s := range sealedSamples {
		talk := s.talk()
		if Sealing(talk) != "" {
			continue
		}
		for _, part := range []*Talk{talk, {Client: talk.Client, Datagrams: talk.Datagrams}, {Server: talk.Server, Datagrams: talk.Datagrams}} {
			if m, ok := Recognize(part); ok {
				t.Errorf("%s is called %s, by %d bits", name, m.Protocol, m.Bits)
			}
		}
	}
}

// TestBitsAreHonest: whatever a message begins with, random bytes behind it earn n
// bits no more often than once in 2^n, with some room for unions. It keeps a
// part of each sample and makes the rest random.
func TestBitsAreHonest(t *testing.T) {
	const tries = 400
	r := rand.New(rand.NewPCG(1, 2))
	for i, s := range samples {
		talk := s.talk()
		p := find(s.name, s.datagrams)
		if p == nil || len(talk.Client.Parts) == 0 {
			continue
		}
		read := p.stream
		if s.datagrams {
			read = p.datagram
		}
		whole := talk.Client.Parts[0].Data
		for keep := 0; keep < min(len(whole), 48); keep += 4 {
			base := bitsOf(read, bytes.Clone(whole[:min(keep+7, len(whole))]), true) // a field that is half kept
			if s.name == "radius" || s.name == "bacnet" || s.name == "ipfix" {
				base += 12 // a length that meets the end tells more than one beyond it
			}
			var gained [64]int
			for range tries {
				b := bytes.Clone(whole)
				for j := keep; j < len(b); j++ {
					b[j] = byte(r.Uint32())
				}
				if n := bitsOf(read, b, false) - base; n > 0 {
					gained[min(n, 63)]++
				}
			}
			for n, sum := 63, 0; n >= 4; n-- {
				sum += gained[n]
				if allowed := 6*tries*math.Pow(2, -float64(n)) + 12; float64(sum) > allowed {
					t.Errorf("sample %d, %s: %d of %d random tails behind %d bytes earn %d bits", i, s.name, sum, tries, keep, n)
					break
				}
			}
		}
	}
}

func find(name string, datagrams bool) *protocol {
	for i := range table {
		if p := &table[i]; p.name == name && (p.datagram != nil || !datagrams) && (p.stream != nil || datagrams) {
			return p
		}
	}
	return nil
}

func bitsOf(read form, b []byte, open bool) int {
	m := message{b: b, open: open, first: true, said: &shared{}}
	read(&m)
	if m.bad {
		return 0
	}
	return m.bits
}

// TestRandomIsNotNamed measures the rate of false names.
func TestRandomIsNotNamed(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 5_000
	}
	named := 0
	r := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		talk := &Talk{Datagrams: i%2 == 0, Client: Side{Start: true}, Server: Side{Start: true}}
		for _, side := range talk.sides() {
			for range 1 + r.IntN(3) {
				b := make([]byte, 1+r.IntN(200))
				for k := range b {
					b[k] = byte(r.Uint32())
				}
				side.Parts = append(side.Parts, Part{Data: b, Cut: r.IntN(4) == 0})
			}
		}
		if m, ok := Recognize(talk); ok {
			named++
			t.Errorf("called %s by %d bits", m.Protocol, m.Bits)
		}
	}
	t.Logf("%d of %d random talks were named", named, n)
}

// TestDamage: cut at any byte, without its first message, and one direction alone,
// nothing panics; a cut that leaves much is still recognized.
func TestDamage(t *testing.T) {
	for i, s := range samples {
		whole := s.talk()
		for cut := range 200 {
			talk := s.talk()
			for _, side := range talk.sides() {
				for j := range side.Parts {
					p := &side.Parts[j]
					if cut < len(p.Data) {
						p.Data, p.Cut = p.Data[:cut], true
					}
				}
			}
			m, ok := Recognize(talk)
			if ok && m.Protocol != s.name && s.name != "websocket" && cut >= 24 && m.Bits >= 48 {
				t.Errorf("sample %d, cut to %d: %s is called %s (%d bits)", i, cut, s.name, m.Protocol, m.Bits)
			}
			if cut >= 128 && !ok {
				t.Errorf("sample %d, %s cut to %d is not recognized", i, s.name, cut)
				break
			}
		}
		Recognize(&Talk{Client: whole.Client, Datagrams: whole.Datagrams})
		Recognize(&Talk{Server: whole.Server, Datagrams: whole.Datagrams})
		for from := range 64 {
			talk := s.talk()
			for _, side := range talk.sides() {
				side.Start = false
				for j := range side.Parts {
					side.Parts[j].Data = side.Parts[j].Data[min(from, len(side.Parts[j].Data)):]
				}
			}
			Recognize(talk)
			Sealing(talk)
		}
	}
}

func FuzzRecognize(f *testing.F) {
	for _, s := range samples {
		t := s.talk()
		f.Add(t.Client.head(), t.Server.head(), s.datagrams)
	}
	for _, s := range sealedSamples {
		t := s.talk()
		f.Add(t.Client.head(), t.Server.head(), s.datagrams)
	}
	f.Fuzz(func(t *testing.T, c, s []byte, datagrams bool) {
		for _, start := range []bool{true, false} {
			talk := &Talk{Datagrams: datagrams,
				Client: Side{Start: start, Parts: []Part{{Data: c}, {Data: s, Cut: true}}}, Server: Side{Start: start, Parts: []Part{{Data: s}}}}
			Sealing(talk)
			m, ok := Recognize(talk)
			if ok {
				part := talk.sides()[role(0)].Parts
				if m.FromServer {
					part = talk.sides()[1].Parts
				}
				if m.Part >= len(part) || m.Offset+m.Length > len(part[m.Part].Data) || m.Length == 0 {
					t.Errorf("match %+v beyond what was sent", m)
				}
			}
			NameText(talk)
			Framing(c)
			Text(c)
			Whole(c)
			Prefix(c)
			Compressed(c)
		}
	})
}

// srtpSample is a call: what stands behind the header of each packet, and behind
// its authentication tag.
func srtpSample(first, head, end string) (all []string) {
	for i := range 6 {
		all = append(all, x(first+" 60 01 ")+string(rune('0'+i))+x("00000000 cafebabe "+head)+noise(90)+x(end))
	}
	return all
}

// TestRTPOfACodecIsInClear: all but the first byte of each payload looks random.
func TestRTPOfACodecIsInClear(t *testing.T) {
	s := sample{datagrams: true}
	for i := range 16 {
		s.client = append(s.client, x("80 60 01 ")+string(rune('0'+i))+x("00000000 cafebabe 78")+noise(90))
	}
	if m, ok := Recognize(s.talk()); !ok || m.Protocol != "rtp" {
		t.Errorf("%+v", m)
	}
}

// TestPiecesOfAStreamDoNotAddUp: runs between gaps that each look a little like a
// protocol, as those of OpenVPN with their lengths before them do.
func TestPiecesOfAStreamDoNotAddUp(t *testing.T) {
	var pieces []Part
	for i := range 10 {
		pieces = append(pieces, Part{Data: []byte(x("00 0e 38 ") + string(rune('0'+i)) + x("24 00 00 00 00 00") + noise(60))})
	}
	if m, ok := Recognize(&Talk{Client: Side{Parts: pieces}}); ok {
		t.Errorf("called %s, by %d bits", m.Protocol, m.Bits)
	}
}

// TestOneNumberDoesNotMakeAConversation: ChannelData of TURN, cut short, has the
// same channel and length in each datagram.
func TestOneNumberDoesNotMakeAConversation(t *testing.T) {
	talk := &Talk{Datagrams: true}
	for i := range 20 {
		side := talk.sides()[i%2]
		side.Parts = append(side.Parts, Part{Data: []byte(x("40 01 0049 17 fefd 0001 00000000 00 ") + string(rune(6+i%6)) + x("003c") + noise(4)), Cut: true})
	}
	if m, ok := Recognize(talk); ok {
		t.Errorf("called %s, by %d bits", m.Protocol, m.Bits)
	}
}
