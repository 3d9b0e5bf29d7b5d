package verify

import (
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Heads of what opens a path, and the answers to them.
var paths = map[string][2]string{
	"proxy v1":     {"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n", ""},
	"proxy v2":     {"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x00\x00\x01\x0a\x00\x00\x02\x0f\xa0\x00\x50", ""},
	"http-connect": {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "HTTP/1.1 200 Connection established\r\n\r\n"},
	"socks5":       {"\x05\x01\x00\x05\x01\x00\x03\x01a\x01\xbb", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
	"socks4":       {"\x04\x01\x00\x50\x01\x02\x03\x04\x00", "\x00\x5a\x00\x00\x00\x00\x00\x00"},
	"both":         {"PROXY TCP4 10.0.0.1 10.0.0.2 4000 80\r\n\x05\x01\x00\x05\x01\x00\x03\x01a\x01\xbb", "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
}

// TestWhatAPathCarriesIsJudged: what opens a path says nothing of what follows it.
func TestWhatAPathCarriesIsJudged(t *testing.T) {
	n := newNoise(5)
	client, server := configs(t)
	toServer, toClient := handshakeBytes(t, client, server)
	for path, head := range paths {
		for _, tc := range []struct {
			name, client, server string
			want                 Verdict
			protocol             string
		}{
			{"TLS", string(toServer), string(toClient), TLS, ""},
			{"HTTP", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", Plaintext, "http"},
			{"Redis", "*1\r\n$4\r\nPING\r\n", "+PONG\r\n", Plaintext, "redis"},
			{"MQTT", "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", "\x20\x02\x00\x00", Plaintext, "mqtt"},
			{"PostgreSQL", "\x00\x00\x00\x12\x00\x03\x00\x00user\x00bob\x00\x00", "R\x00\x00\x00\x08\x00\x00\x00\x00Z\x00\x00\x00\x05I", Plaintext, "postgresql"},
			{"a line", "hi\n", "ok, go on\n", Plaintext, "text"},
			{"noise", n.bytes(300), n.bytes(300), Unknown, ""},
		} {
			found := Judge(flow([]byte(head[0]+tc.client), []byte(head[1]+tc.server)), Knowledge{})
			if found.Verdict != tc.want || found.Protocol != tc.protocol {
				t.Errorf("%s in %s: %s %q, %s", tc.name, path, found.Verdict, found.Protocol, found.Reason)
			}
		}
	}
}

// TestAPathHidesNoSSH: SSH is found in it, and what it says in clear before is not lost.
func TestAPathHidesNoSSH(t *testing.T) {
	var real *capture.Flow
	for name, f := range realFlows(t) {
		if strings.HasPrefix(name, "ssh.pcap") && Judge(f, Knowledge{}).Verdict == SSH {
			real = f
		}
	}
	if real == nil {
		t.Skip("there is no capture of SSH")
	}
	client, server := string(real.ToServer.Start()), string(real.ToClient.Start())
	for path, head := range paths {
		if found := Judge(flow([]byte(head[0]+client), []byte(head[1]+server)), Knowledge{}); found.Verdict != SSH {
			t.Errorf("SSH in %s: %s, %s", path, found.Verdict, found.Reason)
		}
	}
	for name, said := range map[string][2]string{
		"a secret":            {"token hunter2\n", ""},
		"a password to HTTP":  {"CONNECT a:22 HTTP/1.1\r\nProxy-Authorization: Basic Ym9iOmh1bnRlcjI=\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
		"a password to SOCKS": {"\x05\x01\x02\x01\x03bob\x07hunter2\x05\x01\x00\x03\x01a\x01\xbb", "\x05\x02\x01\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"},
	} {
		if found := Judge(flow([]byte(said[0]+client), []byte(said[1]+server)), Knowledge{}); found.Verdict != Plaintext {
			t.Errorf("SSH behind %s: %s", name, found.Verdict)
		}
	}
}
