package verify

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// clearFlow is datagrams of both sides, each a chunk.
func clearFlow(proto capture.Proto, client, server []string) *capture.Flow {
	f := &capture.Flow{Proto: proto}
	for i, said := range [][]string{client, server} {
		d := []*capture.Direction{&f.ToServer, &f.ToClient}[i]
		for _, s := range said {
			d.Chunks = append(d.Chunks, capture.Chunk{Offset: int(d.Bytes), Data: []byte(s)})
			d.Bytes += int64(len(s))
			d.Packets++
		}
	}
	return f
}

// lateFlow is what a capture has that began in the middle.
func lateFlow(toServer, toClient []byte) *capture.Flow {
	f := flow(toServer, toClient)
	f.Opened, f.ToServer.Began, f.ToClient.Began = false, false, false
	return f
}

// fixedNoise is the same at every run.
func fixedNoise(n int) []byte {
	r := rand.New(rand.NewPCG(21, 22))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func wideText(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		b.WriteByte(byte(u))
		b.WriteByte(byte(u >> 8))
	}
	return b.String()
}

func TestPlaintextIsNamed(t *testing.T) {
	noise := string(fixedNoise(300))
	for _, tc := range []struct {
		name     string
		flow     *capture.Flow
		protocol string
		says     string
		from     string
	}{
		{"five bytes", flow([]byte("test\n"), nil), "text", "test", fromClient},
		{"three bytes", flow(nil, []byte("ok\n")), "text", "ok", fromServer},
		{"without a line end", flow([]byte("hello"), nil), "text", "hello", fromClient},
		{"base64", flow([]byte(base64.StdEncoding.EncodeToString([]byte(noise))), nil), "text", "", fromClient},
		{"JSON", flow([]byte(`{"order":1}`), nil), "json", "order", fromClient},
		{"XML", flow([]byte("<?xml version=\"1.0\"?><a/>"), nil), "xml", "<?xml", fromClient},
		{"UTF-16 among binary", flow([]byte(noise+wideText("SELECT name FROM orders")+noise), nil), "text", `S\x00E\x00L`, fromClient},
		{"Russian", flow([]byte("наступление на рассвете\n"), nil), "text", "наступ", fromClient},
		{"Chinese", flow([]byte("黎明时分进攻"), nil), "text", "黎明", fromClient},
		{"a sentence among binary", lateFlow([]byte(noise+"attack at dawn tomorrow"+noise), nil), "text", "attack", fromClient},
		{"late, one side", lateFlow(nil, []byte("250 2.1.0 Ok\r\n")), "smtp", "250", fromServer},
		{"SMTP", flow([]byte("EHLO a\r\n"), []byte("220 mail\r\n")), "smtp", "EHLO", fromClient},
		{"FTP", flow([]byte("USER bob\r\n"), []byte("220 ready\r\n331 who\r\n")), "ftp", "USER", fromClient},
		{"POP3", flow([]byte("USER bob\r\n"), []byte("+OK hello\r\n")), "pop3", "USER", fromClient},
		{"IMAP", flow([]byte("a1 LOGIN bob secret\r\n"), []byte("* OK ready\r\n")), "imap", "LOGIN", fromClient},
		{"IRC", flow([]byte("NICK bob\r\nUSER bob 0 * :Bob\r\n"), nil), "irc", "NICK", fromClient},
		{"NNTP", flow([]byte("MODE READER\r\n"), []byte("200 news ready\r\n")), "nntp", "MODE", fromClient},
		{"XMPP", flow([]byte("<stream:stream to='a' xmlns='jabber:client'>"), nil), "xmpp", "<stream", fromClient},
		{"inline Redis", flow([]byte("PING\r\n"), []byte("+PONG\r\n")), "redis", "PING", fromClient},
		{"STOMP", flow([]byte("CONNECT\naccept-version:1.2\n\n\x00"), nil), "stomp", "CONNECT", fromClient},
		{"NATS", flow([]byte("CONNECT {\"verbose\":false}\r\n"), []byte("INFO {\"server_id\":\"a\"}\r\n")), "nats", "CONNECT", fromClient},
		{"FIX", flow([]byte("8=FIX.4.4\x019=65\x0135=A\x0149=BANK\x0156=EXCHANGE\x01"), nil), "fix", "8=FIX", fromClient},
		{"RTSP", flow([]byte("OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n"), nil), "rtsp", "OPTIONS", fromClient},
		{"syslog", clearFlow(capture.UDP, []string{"<34>Oct 11 22:14:15 host su: failed"}, nil), "syslog", "<34>", fromClient},
		{"SIP", clearFlow(capture.UDP, []string{"INVITE sip:bob@a SIP/2.0\r\n"}, nil), "sip", "INVITE", fromClient},
		{"text in datagrams", clearFlow(capture.UDP, []string{"hello\n", "again\n"}, nil), "text", "hello", fromClient},
		{"one text among binary datagrams", clearFlow(capture.UDP, []string{noise, "attack at dawn tomorrow"}, nil), "text", "attack", fromClient},
		{"ping", clearFlow(capture.ICMP, []string{"\x12\x34\x00\x01" + noise[:8] + "\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f !\"#$%&'()*+,-./01234567"}, nil), "icmp-echo", `\x10\x11`, fromClient},
		{"zeros", flow(make([]byte, 4000), nil), "pattern", `\x00`, fromClient},
		{"SCTP", clearFlow(capture.SCTP, []string{"attack at dawn tomorrow"}, nil), "text", "attack", fromClient},
		{"credentials to a proxy", flow([]byte("CONNECT a:443 HTTP/1.1\r\nProxy-Authorization: Basic Ym9iOnNlY3JldA==\r\n\r\n"), nil), "http", "CONNECT", fromClient},
		{"behind a tunnel", flow([]byte("CONNECT a:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 Connection established\r\n\r\n")), "http", "GET", fromClient},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var found Finding
			if !judgeClear(tc.flow, Knowledge{}, &found) || found.Verdict != Plaintext || found.Protocol != tc.protocol {
				t.Fatalf("found %+v, want %s", found, tc.protocol)
			}
			e := found.Evidence
			if e.From != tc.from || !strings.Contains(e.Text, tc.says) || len(e.Hex) > 2*evidenceBytes {
				t.Errorf("evidence %+v, want %q from the %s", e, tc.says, tc.from)
			}
		})
	}
}

func TestReasonsHelp(t *testing.T) {
	noise := fixedNoise(2000)
	for _, tc := range []struct {
		name string
		flow *capture.Flow
		says string
	}{
		{"gzip", flow(append([]byte("\x1f\x8b\x08\x00"), noise...), nil), "gzip data"},
		{"zstd in datagrams", clearFlow(capture.UDP, []string{"\x28\xb5\x2f\xfd" + string(noise[:200])}, nil), "zstd data"},
		{"few", clearFlow(capture.UDP, []string{"\x01\x02\xff"}, nil), "too few"},
		{"few values", clearFlow(capture.UDP, []string{strings.Repeat("\x01\x82\x05\xf0\x07", 40)}, nil), "not random"},
		{"SMB", flow([]byte("\x00\x00\x00\x10\xfdSMBabcdefghijkl"), nil), "SMB 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var found Finding
			if judgeClear(tc.flow, Knowledge{}, &found) || !strings.Contains(found.Reason, tc.says) {
				t.Errorf("found %+v, want unknown because %q", found, tc.says)
			}
		})
	}
}

// TestHandshakesAreNotPlaintext: a handshake of TLS, whose certificate and server
// name are readable, is no plaintext wherever the capture begins and ends.
func TestHandshakesAreNotPlaintext(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := configs(t)
		client.MaxVersion = version
		toServer, toClient := handshakeBytes(t, client, server)
		for _, stream := range [][]byte{toServer, toClient} {
			for cut := 0; cut < len(stream); cut += 3 {
				for name, f := range map[string]*capture.Flow{
					"late":        lateFlow(stream[cut:], nil),
					"late, short": lateFlow(stream[cut:min(cut+200, len(stream))], nil),
					"short":       flow(stream[:cut], nil),
				} {
					var found Finding
					if judgeClear(f, Knowledge{}, &found) {
						t.Fatalf("version %x, %s at %d of %d: %s %+v", version, name, cut, len(stream), found.Protocol, found.Evidence)
					}
				}
			}
		}
	}
}

// TestRandomBytesAreNotPlaintext measures the rate of false plaintext. The bound
// on a text is 2^-textBits for each flow; ten million flows have less than one.
func TestRandomBytesAreNotPlaintext(t *testing.T) {
	n := 20_000
	if testing.Short() {
		n = 2_000
	}
	r := rand.New(rand.NewPCG(11, 12))
	b := make([]byte, capture.Window)
	wrong := 0
	for i := range n {
		size := 24 + r.IntN(1500)
		if i%50 == 0 {
			size = len(b)
		}
		for j := range size {
			b[j] = byte(r.Uint32())
		}
		f := flow(b[:size/2], b[size/2:size])
		switch i % 3 {
		case 1:
			f = lateFlow(b[:size], nil)
		case 2:
			f = clearFlow(capture.UDP, []string{string(b[:size/2])}, []string{string(b[size/2 : size])})
		}
		var found Finding
		if judgeClear(f, Knowledge{}, &found) {
			wrong++
			t.Errorf("%d bytes: %s, %+v", size, found.Protocol, found.Evidence)
		}
	}
	t.Logf("%d of %d random flows were called plaintext", wrong, n)
}

// TestOpenVPNJoinedLateIsNotPlaintext: its handshake is readable, as that of TLS is.
func TestOpenVPNJoinedLateIsNotPlaintext(t *testing.T) {
	hello := "\x16\x03\x01\x00\xd0\x01\x00\x00\xcc\x03\x03" + string(fixedNoise(40)) + "\x00\x00\x00\x18\x00\x16\x00\x00\x13vpn.shop.demo.local"
	for name, packets := range map[string][]string{
		"a hello":       {"\x20sessionA\x00\x00\x00\x00\x01" + hello},
		"with tls-auth": {"\x20sessionA" + string(fixedNoise(28)) + "\x00\x00\x00\x00\x01" + hello},
		"acknowledged":  {"\x20sessionA\x01\x00\x00\x00\x02sessionB\x00\x00\x00\x03 its certificate: vpn.shop.demo.local", "\x28sessionA\x01\x00\x00\x00\x03sessionB"},
	} {
		var found Finding
		if judgeClear(clearFlow(capture.UDP, packets, nil), Knowledge{}, &found) || !strings.Contains(found.Reason, "OpenVPN") {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// TestCutTextStaysPlaintext: what is text is text from any packet on.
func TestCutTextStaysPlaintext(t *testing.T) {
	text := []byte("POST /orders HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n\r\n{\"card\":\"4111 1111 1111 1111\"}\n")
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(text)-24).Draw(t, "from")
		to := rapid.IntRange(from+24, len(text)).Draw(t, "to")
		f := lateFlow(bytes.Clone(text[from:to]), nil)
		if rapid.Bool().Draw(t, "start") {
			f = flow(nil, text[from:to])
		}
		var found Finding
		if !judgeClear(f, Knowledge{}, &found) {
			t.Errorf("%q: %s", text[from:to], found.Reason)
		}
	})
}

// FuzzClear: nothing panics, and evidence is of the bytes that were sent.
func FuzzClear(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"), true)
	f.Add([]byte("CONNECT a HTTP/1.1\r\n\r\n\x16\x03\x01"), []byte("SSH-2.0-a\r\n\x00"), true)
	f.Add([]byte("\x06\x03\x55\x04\x03\x0c\x05Alice"), []byte("\x14\x03\x03\x00\x01\x01"), false)
	f.Fuzz(func(t *testing.T, c, s []byte, start bool) {
		for _, fl := range []*capture.Flow{flow(c, s), lateFlow(c, s), clearFlow(capture.UDP, []string{string(c), string(s)}, []string{string(s)})} {
			fl.ToServer.Began = fl.ToServer.Began && start
			var found Finding
			if judgeClear(fl, Knowledge{}, &found) && (found.Evidence == nil || found.Evidence.Hex == "" || found.Protocol == "") {
				t.Errorf("plaintext without evidence: %+v", found)
			}
		}
	})
}
