package verify

// Real peers that crypto/tls cannot play: OpenSSL with every version and suite it
// has, through a relay that keeps what each side sends.
//
//	openssl s_client ── relay ── openssl s_server

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// keyFiles writes the certificate and the key of a server.
func keyFiles(t *testing.T) (cert, key string) {
	t.Helper()
	pair := certificate(t)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

var accepts = regexp.MustCompile(`ACCEPT \S+:(\d+)`)

// opensslServer starts a server that sends each line back reversed, and returns
// its address.
func opensslServer(t *testing.T, args ...string) string {
	t.Helper()
	cert, key := keyFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-rev"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := accepts.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return "127.0.0.1:" + m[1]
		}
	}
	t.Skipf("openssl s_server does not start with %q", args)
	return ""
}

// opensslTalk lets a client send a line through a relay, and wait for the answer
// if there should be one.
func opensslTalk(t *testing.T, server string, args ...string) (toServer, toClient []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type streams struct{ toServer, toClient []byte }
	relayed := make(chan streams, 1)
	go func() {
		near, err := ln.Accept()
		if err != nil {
			relayed <- streams{}
			return
		}
		far, err := net.Dial("tcp", server)
		if err != nil {
			near.Close()
			relayed <- streams{}
			return
		}
		n, f := &recording{Conn: near}, &recording{Conn: far}
		done := make(chan struct{})
		go func() {
			_, _ = io.Copy(struct{ io.Writer }{f}, near)
			_ = far.(*net.TCPConn).CloseWrite()
			close(done)
		}()
		_, _ = io.Copy(struct{ io.Writer }{n}, far)
		near.Close()
		<-done
		far.Close()
		relayed <- streams{f.sent.Bytes(), n.sent.Bytes()}
	}()
	cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", ln.Addr().String(), "-quiet"}, args...)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "this is a test of what is on the wire\n")
	_, _ = bufio.NewReader(out).ReadString('\n')
	in.Close()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	s := <-relayed
	return s.toServer, s.toClient
}

func TestOpenSSLIsJudgedByWhatItAgreesOn(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}
	for name, tc := range map[string]struct {
		server, client string
		want           Verdict
		seal, version  string
		cipher         string
		says           string // part of evidence, reason or weakness
	}{
		"1.3":                {"", "-tls1_3", TLS, "tls", "1.3", "TLS_AES_256_GCM_SHA384", ""},
		"1.3 with short tag": {"-ciphersuites TLS_AES_128_CCM_8_SHA256", "-tls1_3 -ciphersuites TLS_AES_128_CCM_8_SHA256", TLS, "tls", "1.3", "TLS_AES_128_CCM_8_SHA256", ""},
		"1.2":                {"", "-tls1_2", TLS, "tls", "1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", ""},
		"1.1":                {"-cipher ALL:@SECLEVEL=0", "-tls1_1 -cipher ALL:@SECLEVEL=0", TLS, "tls", "1.1", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS 1.1"},
		"1.0":                {"-cipher ALL:@SECLEVEL=0", "-tls1 -cipher ALL:@SECLEVEL=0", TLS, "tls", "1.0", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "TLS 1.0"},
		"null":               {"-cipher eNULL:@SECLEVEL=0", "-tls1_2 -cipher eNULL:@SECLEVEL=0", Plaintext, "", "1.2", "TLS_ECDHE_ECDSA_WITH_NULL_SHA", "this is a test"},
		"anonymous": {"-cipher aNULL:@SECLEVEL=0", "-tls1_2 -cipher AECDH-AES256-SHA:@SECLEVEL=0", Unknown, "", "1.2",
			"TLS_ECDH_anon_WITH_AES_256_CBC_SHA", "proves the identity of neither"},
		"refused by the client":         {"", "-tls1_2 -verify_return_error", Unknown, "", "1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "client: "},
		"refused by the client, sealed": {"", "-tls1_3 -verify_return_error", Unknown, "", "1.3", "TLS_AES_256_GCM_SHA384", ""},
		"no common version":             {"-tls1_2", "-tls1_3", Unknown, "", "", "", "server: protocol_version"},
	} {
		t.Run(name, func(t *testing.T) {
			server := opensslServer(t, strings.Fields(tc.server)...)
			found := Judge(flow(opensslTalk(t, server, strings.Fields(tc.client)...)), Knowledge{})
			if found.TLS == nil {
				t.Fatalf("found %+v", found)
			}
			if found.Verdict != tc.want || found.Seal != tc.seal || found.TLS.Version != tc.version || found.TLS.Cipher != tc.cipher {
				t.Errorf("%s %q, %+v, %s", found.Verdict, found.Seal, found.TLS, found.Reason)
			}
			said := found.Reason + strings.Join(found.Weak, " ")
			if found.Evidence != nil {
				said += found.Evidence.Text
			}
			if !strings.Contains(said, tc.says) {
				t.Errorf("says %q, want %q", said, tc.says)
			}
		})
	}
}

// TestResumedSessionsSaySo resumes with tickets of both kinds.
func TestResumedSessionsSaySo(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := configs(t)
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		server.SessionTicketsDisabled = false
		client.MaxVersion = version
		for _, resumed := range []bool{false, true} {
			toServer, toClient, state := handshake(t, client, server, "payload")
			found := Judge(flow(toServer, toClient), Knowledge{})
			if found.Verdict != TLS || found.TLS.Resumed != resumed || state.DidResume != resumed {
				t.Errorf("%s, resumed %t, in truth %t: %s, %+v", tls.VersionName(version), resumed, state.DidResume, found.Verdict, found.TLS)
			}
		}
	}
}
