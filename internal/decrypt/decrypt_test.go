package decrypt

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
)

const (
	curl = "spiffe://demo.local/ns/shop/sa/curl"
	web  = "spiffe://demo.local/ns/shop/sa/web"
)

func keysOf(tb testing.TB, text []byte) *Keys {
	tb.Helper()
	k, err := ParseKeys(text)
	must(tb, err)
	return k
}

// mutual is two ends that show certificates.
func mutual(tb testing.TB) (client, server *tls.Config) {
	tb.Helper()
	own, _, _ := leaf(tb, ecdsaKey(tb), curl)
	theirs, _, _ := leaf(tb, rsaKey(tb), web)
	protocols := []string{LaneProtocol}
	return &tls.Config{Certificates: []tls.Certificate{own}, InsecureSkipVerify: true, NextProtos: protocols, ServerName: "web.shop.demo.local", MinVersion: tls.VersionTLS13},
		&tls.Config{Certificates: []tls.Certificate{theirs}, ClientAuth: tls.RequireAnyClientCert, NextProtos: protocols}
}

func TestWhatTwoEndsOfGoSaid(t *testing.T) {
	long := strings.Repeat("a long message. ", 9000)
	ed, _, _ := leaf(t, ed25519Key(t), web)
	for name, change := range map[string]func(client, server *tls.Config){
		"as lanes do":              func(_, _ *tls.Config) {},
		"after a retry":            func(_, s *tls.Config) { s.CurvePreferences = []tls.CurveID{tls.CurveP384} },
		"with Ed25519":             func(_, s *tls.Config) { s.Certificates = []tls.Certificate{ed} },
		"with tickets":             func(c, _ *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(1) },
		"small records by default": func(c, s *tls.Config) { c.DynamicRecordSizingDisabled, s.DynamicRecordSizingDisabled = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			client, server := mutual(t)
			change(client, server)
			tape, log := talk(t, client, server, "hello", long, "again")
			s, err := Decrypt(tape.flow(), keysOf(t, log))
			must(t, err)
			want := "hello" + long + "again"
			if said(s, Client) != want || said(s, Server) != strings.ToUpper(want) {
				t.Errorf("said %d and %d bytes, want %d", len(said(s, Client)), len(said(s, Server)), len(want))
			}
			if s.Stops != [2]*Stop{} || s.Skipped != 0 {
				t.Errorf("stops %v, skipped %d", s.Stops, s.Skipped)
			}
			if s.Version != tls.VersionTLS13 || s.Protocol != LaneProtocol || s.Name != "web.shop.demo.local" {
				t.Errorf("version %x, protocol %q, name %q", s.Version, s.Protocol, s.Name)
			}
			if c, w := s.Peers[Client], s.Peers[Server]; c.ID != curl || w.ID != web || !c.Proven || !w.Proven {
				t.Errorf("peers %s (proven %v) and %s (proven %v)", c.ID, c.Proven, w.ID, w.Proven)
			}
			if c, w, err := Identities(tape.flow(), keysOf(t, log)); c != curl || w != web || err != nil {
				t.Errorf("identities %s and %s, %v", c, w, err)
			}
			if r, ok := Random(tape.flow()); !ok || r != s.Random || !bytes.Contains(log, []byte(hex.EncodeToString(r[:]))) {
				t.Errorf("random %x", r)
			}
		})
	}
}

func TestSuitesOfTLS12(t *testing.T) {
	ecdsaCert, _, _ := leaf(t, ecdsaKey(t), web)
	rsaCert, _, _ := leaf(t, rsaKey(t), web)
	for number := range suites {
		if number>>8 == 0x13 || number == 0x009e || number == 0x009f || number == 0xccaa {
			continue // those of 1.3, and of finite-field groups, which Go does not speak
		}
		t.Run(tls.CipherSuiteName(number), func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{ecdsaCert, rsaCert}, CipherSuites: []uint16{number}, MaxVersion: tls.VersionTLS12}
			client := &tls.Config{InsecureSkipVerify: true, CipherSuites: []uint16{number}, MaxVersion: tls.VersionTLS12}
			tape, log := talk(t, client, server, "hello", "again")
			s, err := Decrypt(tape.flow(), keysOf(t, log))
			must(t, err)
			if s.Cipher != number || said(s, Client) != "helloagain" || said(s, Server) != "HELLOAGAIN" || s.Stops != [2]*Stop{} {
				t.Errorf("cipher %x: said %q and %q, stops %v", s.Cipher, said(s, Client), said(s, Server), s.Stops)
			}
			if s.Peers[Server].ID != web || s.Peers[Server].Proven {
				t.Errorf("server %+v", s.Peers[Server].ID)
			}
		})
	}
	for _, old := range []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA} {
		config := &tls.Config{Certificates: []tls.Certificate{rsaCert}, InsecureSkipVerify: true, CipherSuites: []uint16{old}, MaxVersion: tls.VersionTLS12}
		tape, log := talk(t, config, config, "hello")
		if _, err := Decrypt(tape.flow(), keysOf(t, log)); err == nil || !strings.Contains(err.Error(), "TLS_RSA_WITH_AES_128_CBC_SHA cannot be decrypted") {
			t.Errorf("%x: %v", old, err)
		}
	}
}

// A direction is read up to where it cannot be read any more, and says where.
func TestStopsAreExact(t *testing.T) {
	client, server := mutual(t)
	tape, log := talk(t, client, server, "one", "two", "three", "four")
	keys := keysOf(t, log)
	spoil := func(change func(*capture.Direction, int)) *Session {
		f := tape.flow()
		// The record that holds "three" is the last but one.
		last := 5 + len("four") + 17
		at := len(f.ToServer.Chunks[0].Data) - last - (5 + len("three") + 17)
		change(&f.ToServer, at)
		s, err := Decrypt(f, keys)
		must(t, err)
		if got := said(s, Server); got != "ONETWOTHREEFOUR" || s.Stops[Server] != nil {
			t.Errorf("the server's direction suffers: %q, %v", got, s.Stops[Server])
		}
		if said(s, Client) != "onetwo" {
			t.Errorf("the client said %q", said(s, Client))
		}
		if s.Stops[Client] == nil || s.Stops[Client].Offset != at {
			t.Errorf("stops %v, want at byte %d", s.Stops[Client], at)
			s.Stops[Client] = &Stop{}
		}
		return s
	}
	for want, change := range map[string]func(*capture.Direction, int){
		"the record does not verify": func(d *capture.Direction, at int) { d.Chunks[0].Data[at+8] ^= 1 },
		"27 bytes are not in the capture": func(d *capture.Direction, at int) {
			c := d.Chunks[0]
			d.Chunks = []capture.Chunk{{Data: c.Data[:at]}, {Offset: at + 27, Data: c.Data[at+27:]}}
		},
		"a record of 27 bytes is cut by 7 bytes": func(d *capture.Direction, at int) {
			c := d.Chunks[0]
			d.Chunks = []capture.Chunk{{Data: c.Data[:at+10]}, {Offset: at + 17, Data: c.Data[at+17:]}}
		},
		"a record of 27 bytes breaks off after 20 bytes": func(d *capture.Direction, at int) { d.Chunks[0].Data = d.Chunks[0].Data[:at+20] },
		"a record's header breaks off after 3 bytes":     func(d *capture.Direction, at int) { d.Chunks[0].Data = d.Chunks[0].Data[:at+3] },
		"not a TLS record": func(d *capture.Direction, at int) { d.Chunks[0].Data[at+1] = 9 },
	} {
		if s := spoil(change); !strings.Contains(s.Stops[Client].String(), want) {
			t.Errorf("%q, want %q", s.Stops[Client], want)
		}
	}
}

// A segment that the capture lost ends its direction there, with the packet before
// it named; the other direction is read to its end.
func TestALostSegmentIsNamed(t *testing.T) {
	client, server := mutual(t)
	tape, log := talk(t, client, server, "one", "two", strings.Repeat("three", 600), "four")
	segments := 0
	tape.file(t, func(int) bool { segments++; return false })
	f := read(t, tape.file(t, func(segment int) bool { return segment == segments-4 })) // within the long turns
	s, err := Decrypt(f, keysOf(t, log))
	must(t, err)
	for side, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		stop := s.Stops[side]
		if whole := len(d.Chunks) == 1; whole != (stop == nil) {
			t.Errorf("%s: %d chunks, stops %v", Side(side), len(d.Chunks), stop)
		}
		if stop == nil {
			continue
		}
		c := d.Chunks[0]
		if stop.Offset > len(c.Data) || stop.Packet != c.Packet(stop.Offset-1) || !strings.Contains(stop.Reason, "are not in the capture") {
			t.Errorf("%s: stops %v, its first chunk has %d bytes", Side(side), stop, len(c.Data))
		}
		if got := said(s, Side(side)); !strings.HasPrefix(strings.ToLower(got), "onetwo") || strings.Contains(strings.ToLower(got), "four") {
			t.Errorf("%s said %d bytes", Side(side), len(got))
		}
	}
	if s.Stops == [2]*Stop{} {
		t.Error("nothing stops")
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	client, server := mutual(t)
	tape, log := talk(t, client, server, "hello")
	_, other := talk(t, client, server, "hello")
	if _, err := Decrypt(tape.flow(), keysOf(t, other)); !errors.Is(err, ErrNoKeys) {
		t.Errorf("keys of another session: %v", err)
	}
	if _, err := Decrypt(&capture.Flow{}, keysOf(t, log)); !errors.Is(err, ErrNotTLS) {
		t.Errorf("an empty flow: %v", err)
	}
	without := func(label string) []byte {
		var out []byte
		for line := range bytes.Lines(log) {
			if !bytes.HasPrefix(line, []byte(label)) {
				out = append(out, line...)
			}
		}
		return out
	}
	s, err := Decrypt(tape.flow(), keysOf(t, without("CLIENT_TRAFFIC")))
	if err != nil || said(s, Server) != "HELLO" || s.Stops[Client] == nil || !strings.Contains(s.Stops[Client].Reason, "no secrets of what the client says next") {
		t.Errorf("without the client's traffic secret: %v, %v", err, s.Stops)
	}
	s, err = Decrypt(tape.flow(), keysOf(t, bytes.ReplaceAll(without("SERVER_HANDSHAKE"), []byte("CLIENT_HANDSHAKE"), []byte("EXPORTER"))))
	if err != nil || said(s, Client) != "hello" || said(s, Server) != "HELLO" || s.Skipped == 0 || s.Peers[Server].ID != "" {
		t.Errorf("without the handshake's secrets: %v, %q and %q, skipped %d", err, said(s, Client), said(s, Server), s.Skipped)
	}
	// Secrets of the right session that are wrong open nothing, and say so.
	wrong := bytes.ReplaceAll(log, []byte("\n"), []byte("\x00"))
	var spoiled []byte
	for line := range bytes.SplitSeq(bytes.TrimRight(wrong, "\x00"), []byte("\x00")) {
		last := len(line) - 1
		line = bytes.Clone(line)
		line[last] = map[bool]byte{true: '1', false: '0'}[line[last] == '0']
		spoiled = append(append(spoiled, line...), '\n')
	}
	s, err = Decrypt(tape.flow(), keysOf(t, spoiled))
	if err != nil || len(s.Data) != 0 || s.Stops[Client] == nil || s.Stops[Server] == nil || s.Peers[Server].Proven {
		t.Errorf("with wrong secrets: %v, %d pieces, stops %v", err, len(s.Data), s.Stops)
	}
}

// A certificate alone proves nothing: its signature must be over this handshake.
func TestASignatureOfAnotherHandshakeProvesNothing(t *testing.T) {
	client, server := mutual(t)
	tape, log := talk(t, client, server, "hello")
	f := tape.flow()
	// The session ID is echoed and belongs to no key: only the transcript changes.
	for _, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		d.Chunks[0].Data[5+4+2+32+1] ^= 1
	}
	s, err := Decrypt(f, keysOf(t, log))
	must(t, err)
	if s.Peers[Client].ID != curl || s.Peers[Server].ID != web || s.Peers[Client].Proven || s.Peers[Server].Proven {
		t.Errorf("peers %+v", s.Peers)
	}
	if c, w, _ := Identities(f, keysOf(t, log)); c != "" || w != "" {
		t.Errorf("identities %q and %q", c, w)
	}
}

func TestWhatStoodInClearBefore(t *testing.T) {
	client, server := mutual(t)
	tape, log := talk(t, client, server, "hello")
	tape.parts = append([]part{{Server, []byte("220 mail\r\n")}, {Client, []byte("STARTTLS\r\n")}, {Server, []byte("220 go\r\n")}}, tape.parts...)
	s, err := Decrypt(tape.flow(), keysOf(t, log))
	must(t, err)
	if said(s, Client) != "hello" || said(s, Server) != "HELLO" {
		t.Errorf("said %q and %q", said(s, Client), said(s, Server))
	}
	if len(s.Data) != 4 || !s.Data[0].Clear || string(s.Data[0].Data) != "STARTTLS\r\n" {
		t.Errorf("data %+v", s.Data)
	}
}

func TestMalformedKeyLogs(t *testing.T) {
	random := strings.Repeat("ab", 32)
	for line, want := range map[string]string{
		"CLIENT_RANDOM " + random + " 00ff": "",
		"# comment":                         "",
		"":                                  "",
		"EXPORTER_SECRET x y":               "",
		"RSA 00 11":                         "",
		"CLIENT_RANDOM " + random:           "line 2: CLIENT_RANDOM must be followed by",
		"CLIENT_RANDOM abcd 00":             "line 2: CLIENT_RANDOM: the random must be 32 bytes",
		"CLIENT_RANDOM " + random + "00 00": "the random must be 32 bytes",
		"CLIENT_RANDOM " + random + " 0":    "the secret must be",
		"CLIENT_RANDOM " + random + " " + strings.Repeat("00", 65): "the secret must be 1 to 64 bytes",
		"not a key log": "line 2: must begin with a label",
	} {
		k, err := ParseKeys([]byte("# first\n" + line + "\r\n"))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", line, err)
		}
		if err == nil && k.Sessions() != strings.Count(line, "CLIENT_RANDOM") {
			t.Errorf("%q: %d sessions", line, k.Sessions())
		}
	}
}

// However a direction is cut into chunks, what is read is a beginning of what was
// said, and it is all or a stop is named.
func TestPartsOfAFlowAreReadInPart(t *testing.T) {
	client, server := mutual(t)
	tape, log := talk(t, client, server, "one", strings.Repeat("two", 9000), "three")
	keys := keysOf(t, log)
	want := "one" + strings.Repeat("two", 9000) + "three"
	rapid.Check(t, func(t *rapid.T) {
		f := tape.flow()
		data := f.ToServer.Chunks[0].Data
		from := rapid.IntRange(2000, len(data)).Draw(t, "from")
		to := rapid.IntRange(from, len(data)).Draw(t, "to")
		f.ToServer.Chunks = []capture.Chunk{{Data: data[:from]}, {Offset: to, Data: data[to:]}}
		s, err := Decrypt(f, keys)
		if err != nil {
			t.Fatal(err)
		}
		got := said(s, Client)
		if !strings.HasPrefix(want, got) || (got == want) != (s.Stops[Client] == nil) && from != len(data) {
			t.Fatalf("said %d bytes of %d, stops %v", len(got), len(want), s.Stops[Client])
		}
	})
}

// FuzzDecrypt: whatever the bytes and the keys, nothing panics, and what is said
// has been opened by a key.
func FuzzDecrypt(f *testing.F) {
	client, server := mutual(f)
	tape, log := talk(f, client, server, "hello")
	flow := tape.flow()
	f.Add(flow.ToServer.Chunks[0].Data, flow.ToClient.Chunks[0].Data, log, 0)
	f.Add(flow.ToServer.Chunks[0].Data, flow.ToClient.Chunks[0].Data, log, 900)
	f.Fuzz(func(t *testing.T, a, b, log []byte, cut int) {
		keys, err := ParseKeys(log)
		if err != nil {
			return
		}
		flow := &capture.Flow{}
		flow.ToServer.Chunks, flow.ToClient.Chunks = []capture.Chunk{{Data: a}}, []capture.Chunk{{Data: b}}
		if cut > 0 && cut < len(a) {
			flow.ToServer.Chunks = []capture.Chunk{{Data: a[:cut]}, {Offset: cut + 1, Data: a[cut:]}}
		}
		s, err := Decrypt(flow, keys)
		if err == nil && keys.Sessions() == 0 {
			t.Error("decrypted without keys")
		}
		for from := range 2 {
			if s != nil && s.Stops[from] != nil && (s.Stops[from].Reason == "" || s.Stops[from].Offset < 0) {
				t.Errorf("stop %+v", s.Stops[from])
			}
		}
	})
}

// FuzzKeys: what is accepted is complete.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("CLIENT_RANDOM " + strings.Repeat("ab", 32) + " 00ff\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, err := ParseKeys(text)
		if err != nil {
			return
		}
		for random, secrets := range k.sessions {
			for label, secret := range secrets {
				if len(secret) == 0 || !bytes.Contains(bytes.ToLower(text), []byte(fmt.Sprintf("%x", random))) {
					t.Errorf("%s of %x", label, random)
				}
			}
		}
	})
}
