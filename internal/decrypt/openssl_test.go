package decrypt

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needs skips the test where a program is absent.
func needs(tb testing.TB, programs ...string) {
	tb.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			tb.Skipf("not run: %v", err)
		}
	}
}

// What OpenSSL says with each suite, key updates among it, is read as it was meant,
// and as tshark reads it with the same key log.
func TestOpenSSLAndTshark(t *testing.T) {
	needs(t, "openssl", "tshark")
	for _, c := range []struct {
		args    []string // of the client
		updates int
	}{
		{[]string{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}, 0},
		{[]string{"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"}, 1},
		{[]string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, 2},
		{[]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"}, 0},
		{[]string{"-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"}, 0},
		{[]string{"-tls1_2", "-cipher", "ECDHE-RSA-CHACHA20-POLY1305"}, 0},
		{[]string{"-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"}, 0},
		{[]string{"-tls1_2", "-cipher", "DHE-RSA-CHACHA20-POLY1305"}, 0},
	} {
		t.Run(c.args[2], func(t *testing.T) {
			tape, log, want := converse(t, c.args, c.updates)
			path := tape.file(t, nil)
			s, err := Decrypt(read(t, path), keysOf(t, log))
			must(t, err)
			if got := said(s, Client); got != want {
				t.Errorf("the client said %q, want %q", got, want)
			}
			capitals := strings.ToUpper(want)
			if got := said(s, Server); got != capitals {
				t.Errorf("the server said %q", got)
			}
			if s.Updates[Client] != c.updates || s.Stops != [2]*Stop{} {
				t.Errorf("%v key updates, stops %v", s.Updates, s.Stops)
			}
			for i, p := range s.Data {
				if p.Packet == 0 || i > 0 && p.Packet < s.Data[i-1].Packet {
					t.Errorf("piece %d is of packet %d", i, p.Packet)
				}
			}
			if client, server := tshark(t, path, log); client != want || server != capitals {
				t.Errorf("tshark reads %q and %q", client, server)
			}
		})
	}
}

// converse has s_client talk to a server of ours that answers in capitals, with key
// updates between what it says.
func converse(t *testing.T, args []string, updates int) (tp *tape, log []byte, said string) {
	t.Helper()
	dir := t.TempDir()
	serverCert, certPEM, keyPEM := leaf(t, rsaKey(t), web)
	must(t, os.WriteFile(filepath.Join(dir, "cert"), certPEM, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "key"), keyPEM, 0o600))
	serve := func() string { return goServer(t, serverCert) }
	if strings.HasPrefix(args[2], "DHE") {
		serve = func() string { return opensslServer(t, dir) }
	}
	address, tp, wait := forward(t, serve())
	keys := filepath.Join(dir, "log")
	cmd := exec.CommandContext(t.Context(), "openssl", append([]string{"s_client", "-connect", address, "-keylogfile", keys, "-nocommands", "-quiet", "-no_ign_eof"}, args...)...)
	if updates > 0 {
		cmd.Args = append([]string{"openssl", "s_client", "-connect", address, "-keylogfile", keys}, args...)
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	complaints, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	heard := make(chan string, 16)
	go listen(out, heard)
	go listen(complaints, heard)
	tell := func(text, answered string) {
		_, err := io.WriteString(in, text)
		must(t, err)
		for answer := ""; !strings.Contains(answer, answered); {
			select {
			case more := <-heard:
				answer += more
			case <-time.After(20 * time.Second):
				t.Fatalf("no answer to %q but %q", text, answer)
			}
		}
	}
	say := func(text string) {
		tell(text, strings.ToUpper(text))
		said += text
	}
	say("hello there\n")
	for i := range updates {
		tell("K\n", "KEYUPDATE") // and have the server update its own
		say(fmt.Sprintf("after update %d\n", i+1))
	}
	must(t, in.Close())
	_ = cmd.Wait()
	wait()
	log, err = os.ReadFile(keys)
	must(t, err)
	return tp, log, said
}

func listen(r io.Reader, heard chan<- string) {
	b := make([]byte, 4096)
	for {
		n, err := r.Read(b)
		if n > 0 {
			heard <- string(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// goServer answers one client in capitals.
func goServer(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			if _, err := conn.Write(bytes.ToUpper(b[:n])); err != nil {
				return
			}
		}
	}()
	return l.Addr().String()
}

// opensslServer is a server for what Go does not speak, whose answers a program of
// ours writes.
func opensslServer(t *testing.T, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := l.Addr().String()
	must(t, l.Close())
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), "openssl", "s_server", "-accept", port, "-cert", filepath.Join(dir, "cert"), "-key", filepath.Join(dir, "key"), "-quiet", "-naccept", "1")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			_, _ = in.Write(bytes.ToUpper(b[:n]))
		}
	}()
	for end := time.Now().Add(10 * time.Second); ; {
		// Not by connecting: it accepts once.
		if b, _ := exec.CommandContext(t.Context(), "ss", "-ltnH", "sport", "=", ":"+port).Output(); len(b) > 0 {
			return address
		}
		if time.Now().After(end) {
			t.Fatal("s_server does not listen")
		}
	}
}

// tshark is what each side said, as tshark reads a file with a key log.
func tshark(t *testing.T, path string, log []byte) (client, server string) {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys")
	must(t, os.WriteFile(keys, log, 0o600))
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", path, "-o", "tls.keylog_file:"+keys, "-d", "tcp.port==443,tls", "-q", "-z", "follow,tls,raw,0").Output()
	must(t, err)
	var both [2][]byte
	first := Client
	if strings.Contains(string(out), "Node 0: 10.0.0.2:443") {
		first = Server
	}
	for line := range strings.Lines(string(out)) {
		side := first
		if strings.HasPrefix(line, "\t") {
			side = 1 - first
		}
		var b []byte
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "%x", &b); err == nil && !strings.Contains(line, ":") && !strings.Contains(line, "=") {
			both[side] = append(both[side], b...)
		}
	}
	return string(both[Client]), string(both[Server])
}
