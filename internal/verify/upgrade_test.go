package verify

import (
	"bytes"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// socksTo is the request of SOCKS 5 to a name, and the answer to it.
const (
	socksTo     = "\x05\x01\x00\x03\x08web.shop\x01\xBB"
	socksAnswer = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	proxyV2     = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0C\x0A\x00\x00\x01\x0A\x00\x00\x02\x9C\x40\x01\xBB"
	ldapAsks    = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
	ldapAnswers = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
	sslRequest  = "\x00\x00\x00\x08\x04\xD2\x16\x2F"
	gssRequest  = "\x00\x00\x00\x08\x04\xD2\x16\x30"
	greeting    = "\x1d\x00\x00\x00\x0a8.0.36-sealmesh\x00\x01\x00\x00\x00abcdefgh"
	mysqlTLS    = "\x20\x00\x00\x01\x00\x0A\x00\x00\x00\x00\x00\x01\xFF" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	rdpAsks    = "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"
	rdpAnswers = "\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00\x02\x00\x08\x00\x01\x00\x00\x00"
)

func TestWhatStandsBeforeTLSIsJudged(t *testing.T) {
	client, server := configs(t)
	toServer, toClient, _ := handshake(t, client, server, strings.Repeat("payload ", 20))
	name := "Cookie: mstshash=anna\r\n"
	for _, tc := range []struct {
		what           string
		client, server string // before TLS
		from           string
		want           Verdict
		says           string // part of the evidence
	}{
		{"SMTP", "EHLO a.lab\r\nSTARTTLS\r\n", "220 b.lab ESMTP\r\n250 STARTTLS\r\n220 go\r\n", "smtp", Plaintext, "EHLO a.lab"},
		{"IMAP", "a STARTTLS\r\n", "* OK ready\r\na OK go\r\n", "imap", Plaintext, "STARTTLS"},
		{"POP3", "STLS\r\n", "+OK ready\r\n+OK go\r\n", "pop3", Plaintext, "STLS"},
		{"FTP", "AUTH TLS\r\n", "220 ready\r\n234 go\r\n", "ftp", Plaintext, "AUTH TLS"},
		{"NNTP", "STARTTLS\r\n", "200 ready\r\n382 go\r\n", "nntp", Plaintext, "STARTTLS"},
		{"sieve", "STARTTLS\r\n", "\"IMPLEMENTATION\" \"x\"\r\nOK\r\nOK\r\n", "sieve", Plaintext, "STARTTLS"},
		{"IRC", "STARTTLS\r\n", ":a.lab 670 * :go\r\n", "irc", Plaintext, "STARTTLS"},
		{"XMPP", "<stream:stream to='ü'><starttls/>", "<stream:stream><proceed/>", "xmpp", Plaintext, "<stream"},
		{"any other text", "upgrade, please\n", "yes\n", "text", Plaintext, "upgrade, please"},
		{"MySQL", mysqlTLS, greeting, "mysql", Plaintext, "8.0.36-sealmesh"},
		{"PostgreSQL", sslRequest, "S", "postgresql", TLS, ""},
		{"PostgreSQL, GSS refused", gssRequest + sslRequest, "NS", "postgresql", TLS, ""},
		{"LDAP", ldapAsks, ldapAnswers, "ldap", TLS, ""},
		{"AMQP", "AMQP\x02\x01\x00\x00", "AMQP\x02\x01\x00\x00", "amqp", TLS, ""},
		{"PROXY 1", "PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n", "", "proxy", TLS, ""},
		{"PROXY 2", proxyV2, "", "proxy", TLS, ""},
		{"PROXY and PostgreSQL", proxyV2 + sslRequest, "S", "postgresql", TLS, ""},
		{"PROXY and SMTP", proxyV2 + "EHLO a\r\nSTARTTLS\r\n", "220 x\r\n250 y\r\n220 z\r\n", "smtp", Plaintext, "EHLO a"},
		{"CONNECT", "CONNECT web:443 HTTP/1.1\r\nHost: web:443\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "http-connect", TLS, ""},
		{"CONNECT with a password", "CONNECT web:443 HTTP/1.1\r\nHost: web\r\nProxy-Authorization: Basic YTpi\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "http-connect", Plaintext, "Basic YTpi"},
		{"CONNECT with a cookie", "CONNECT web:443 HTTP/1.1\r\nHost: web\r\nCookie: a=b\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "http-connect", Plaintext, "Cookie"},
		{"CONNECT twice", "CONNECT a:1 HTTP/1.1\r\n\r\nCONNECT b:2 HTTP/1.1\r\n\r\n", "HTTP/1.1 407 No\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "http-connect", Plaintext, "CONNECT a"},
		{"SOCKS 5", "\x05\x01\x00" + socksTo, "\x05\x00" + socksAnswer, "socks5", TLS, ""},
		{"SOCKS 5 with a password", "\x05\x01\x02\x01\x04anna\x06s3cret" + socksTo, "\x05\x02\x01\x00" + socksAnswer, "socks5", Plaintext, "s3cret"},
		{"SOCKS 4", "\x04\x01\x01\xBB\x0A\x00\x00\x02\x00", "\x00\x5A\x00\x00\x00\x00\x00\x00", "socks4", TLS, ""},
		{"SOCKS 4 with a user", "\x04\x01\x01\xBB\x0A\x00\x00\x02anna\x00", "\x00\x5A\x00\x00\x00\x00\x00\x00", "socks4", Plaintext, "anna"},
		{"RDP", rdpAsks, rdpAnswers, "rdp", TLS, ""},
		{"VNC", "RFB 003.008\n\x12", "RFB 003.008\n\x01\x12", "vnc", TLS, ""},
		{"VNC, VeNCrypt", "RFB 003.008\n\x13\x00\x02\x00\x00\x01\x04", "RFB 003.008\n\x01\x13\x00\x02\x00\x02\x00\x00\x01\x04\x00\x00\x01\x05\x01", "vnc", TLS, ""},
		{"RDP with a route", "\x03\x00\x00\x37\x32\xe0\x00\x00\x00\x00\x00Cookie: msts=3640205228.15629.0000\r\n" + rdpAsks[11:], rdpAnswers, "rdp", TLS, ""},
		{"RDP with a user", "\x03\x00\x00\x2a\x25\xe0\x00\x00\x00\x00\x00" + name + rdpAsks[11:], rdpAnswers, "rdp", Plaintext, "anna"},
	} {
		t.Run(tc.what, func(t *testing.T) {
			f := flow(append([]byte(tc.client), toServer...), append([]byte(tc.server), toClient...))
			found := Judge(f, Knowledge{})
			if found.Upgrade == nil || found.TLS == nil {
				t.Fatalf("found %+v", found)
			}
			if found.Verdict != tc.want || found.Upgrade.From != tc.from || found.Upgrade.Bytes != [2]int64{int64(len(tc.client)), int64(len(tc.server))} {
				t.Errorf("%s from %s, %v bytes, %s; want %s from %s", found.Verdict, found.Upgrade.From, found.Upgrade.Bytes, found.Reason, tc.want, tc.from)
			}
			if found.TLS.SNI != "web.shop.demo.local" || found.TLS.Version != "1.3" {
				t.Errorf("TLS %+v", found.TLS)
			}
			if (tc.want == Plaintext) != (found.Evidence != nil) || found.Evidence != nil && !strings.Contains(found.Evidence.Text, tc.says) {
				t.Errorf("evidence %+v, want %q", found.Evidence, tc.says)
			}
			if (found.Seal == "tls") != (tc.want == TLS) {
				t.Errorf("seal %q", found.Seal)
			}
			broken := flow(append([]byte(tc.client), toServer...), append([]byte(tc.server), "clear answer\r\n"...))
			if found := Judge(broken, Knowledge{}); found.Verdict.Seals() {
				t.Errorf("%s, though the server answers in clear", found.Verdict)
			}
		})
	}
}

// TestPreloginOfSQLServerIsTakenOff wraps a handshake into packets as TDS does.
func TestPreloginOfSQLServerIsTakenOff(t *testing.T) {
	client, server := configs(t)
	client.MaxVersion = tls.VersionTLS12
	toServer, toClient, _ := handshake(t, client, server, strings.Repeat("payload ", 20))
	wrap := func(prelogin byte, stream []byte) []byte {
		packet := func(typ byte, body []byte) []byte {
			return append([]byte{typ, 1, byte((len(body) + 8) >> 8), byte(len(body) + 8), 0, 0, 1, 0}, body...)
		}
		const inside = 90 // a part of the handshake, the rest is not wrapped
		out := append(packet(prelogin, []byte{0, 0, 6, 0, 6, 0xFF, 16, 0, 0, 0, 0, 0}), packet(0x12, stream[:inside])...)
		return append(out, stream[inside:]...)
	}
	found := Judge(flow(wrap(0x12, toServer), wrap(0x04, toClient)), Knowledge{})
	if found.Verdict != TLS || found.Upgrade == nil || found.Upgrade.From != "tds" {
		t.Errorf("found %+v", found)
	}
}

func TestAnUpgradeThatIsRefusedIsPlaintext(t *testing.T) {
	startup := "\x00\x00\x00\x15\x00\x03\x00\x00user\x00anna\x00\x00"
	found := Judge(flow([]byte(sslRequest+startup), []byte("NR\x00\x00\x00\x08\x00\x00\x00\x00")), Knowledge{})
	if found.Verdict != Plaintext || found.Evidence == nil {
		t.Errorf("found %+v", found)
	}
	if found := Judge(flow([]byte(sslRequest), []byte("N")), Knowledge{}); found.Verdict != Plaintext || found.Protocol != "postgresql" {
		t.Errorf("refused, and no more: %+v", found)
	}
}

// FuzzUpgrade: whatever stands before TLS, nothing panics, and what is found
// ends where TLS begins.
func FuzzUpgrade(f *testing.F) {
	hello := []byte{22, 3, 1, 0, 4, 1, 0, 0, 0}
	for _, before := range []string{"STARTTLS\r\n", sslRequest, ldapAsks, proxyV2, "\x05\x01\x00" + socksTo, mysqlTLS, rdpAsks, "\x12\x01\x00\x09\x00\x00\x01\x00x"} {
		f.Add(append([]byte(before), hello...), append([]byte("S"), hello...))
	}
	f.Add([]byte("CONNECT a HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200\r\n\r\n"))
	f.Fuzz(func(t *testing.T, toServer, toClient []byte) {
		fl := flow(bytes.Clone(toServer), toClient)
		up := findUpgrade(fl)
		if up != nil && (up.at[0] > len(fl.ToServer.Start()) || up.at[1] > len(fl.ToClient.Start())) {
			t.Errorf("an upgrade ends behind the stream: %+v", up)
		}
		if found := Judge(fl, Knowledge{}); found.Verdict == TLS && len(toServer) < capture.Window && bytes.HasPrefix(toServer, []byte("STARTTLS\r\n")) {
			t.Error("sealed in spite of text before it")
		}
	})
}
