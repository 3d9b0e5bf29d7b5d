package verify

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// sshHost is OpenSSH's server, one for each connection, and a client of it.
type sshHost struct {
	dir string
}

// newSSHHost makes the keys of both ends. It needs root: the server changes user.
func newSSHHost(t testing.TB) *sshHost {
	t.Helper()
	for _, program := range []string{"/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(program); err != nil {
			t.Skipf("not run: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("not run: sshd needs root")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // where it locks itself in
		t.Fatal(err)
	}
	h := &sshHost{t.TempDir()}
	for _, key := range []string{"host", "user"} {
		h.run(t, "/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", h.path(key))
	}
	return h
}

func (h *sshHost) path(name string) string { return filepath.Join(h.dir, name) }

func (h *sshHost) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// talk runs a command over SSH with options that both ends take, and returns what
// each sent.
func (h *sshHost) talk(t testing.TB, command string, options ...string) (toServer, toClient []byte) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type served struct {
		up, down bytes.Buffer
		err      error
	}
	done := make(chan *served, 1)
	go func() {
		s := &served{}
		defer func() { done <- s }()
		conn, err := ln.Accept()
		if err != nil {
			s.err = err
			return
		}
		defer conn.Close()
		s.err = h.serve(t, conn, &s.up, &s.down, options)
	}()
	args := []string{
		"-F", "none", "-i", h.path("user"), "-p", fmt.Sprint(ln.Addr().(*net.TCPAddr).Port),
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	out := h.run(t, "/usr/bin/ssh", append(args, "root@127.0.0.1", command)...)
	if !strings.Contains(out, "cleartext") {
		t.Fatalf("the server answered %q", out)
	}
	s := <-done
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.up.Bytes(), s.down.Bytes()
}

// serve lets a server talk on its standard input and output, and listens in.
func (h *sshHost) serve(t testing.TB, conn net.Conn, up, down io.Writer, options []string) error {
	args := []string{
		"-i", "-e", "-f", "/dev/null", "-h", h.path("host"), "-o", "UsePAM=no", "-o", "StrictModes=no",
		"-o", "PermitRootLogin=yes", "-o", "AuthorizedKeysFile=" + h.path("user.pub"), "-o", "LogLevel=ERROR",
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	server := exec.CommandContext(t.Context(), "/usr/sbin/sshd", args...)
	in, err := server.StdinPipe()
	if err != nil {
		return err
	}
	server.Stdout = io.MultiWriter(conn, down)
	if err := server.Start(); err != nil {
		return err
	}
	var copied sync.WaitGroup
	copied.Go(func() {
		_, _ = io.Copy(io.MultiWriter(in, up), conn)
		in.Close()
	})
	_ = server.Wait() // the client's word on how the command went is enough
	conn.Close()
	copied.Wait()
	return nil
}

func TestSSHIsRead(t *testing.T) {
	h := newSSHHost(t)
	for _, tc := range []struct {
		options []string
		kex     string
		cipher  string
		weak    bool
	}{
		{nil, "", "chacha20-poly1305@openssh.com", false},
		{[]string{"Ciphers=aes256-gcm@openssh.com", "KexAlgorithms=ecdh-sha2-nistp256"}, "ecdh-sha2-nistp256", "aes256-gcm@openssh.com", false},
		{[]string{"Ciphers=aes128-ctr", "MACs=hmac-sha2-256-etm@openssh.com"}, "", "aes128-ctr", false},
		{[]string{"Ciphers=aes128-ctr", "MACs=umac-64@openssh.com"}, "", "aes128-ctr", false},
		{[]string{"Ciphers=aes256-cbc", "MACs=hmac-sha1", "KexAlgorithms=diffie-hellman-group-exchange-sha256"}, "diffie-hellman-group-exchange-sha256", "aes256-cbc", false},
		{[]string{"Ciphers=3des-cbc"}, "", "3des-cbc", true},
	} {
		t.Run(tc.cipher, func(t *testing.T) {
			toServer, toClient := h.talk(t, "for i in $(seq 50); do echo cleartext $i; done", tc.options...)
			found := Judge(flow(toServer, toClient), Knowledge{})
			if found.Verdict != SSH || found.Seal != "ssh" {
				t.Fatalf("%s: %s", found.Verdict, found.Reason)
			}
			if !strings.HasPrefix(found.SSH.Client, "OpenSSH_") || found.SSH.Server == "" || found.SSH.Cipher != tc.cipher || (len(found.Weak) > 0) != tc.weak {
				t.Errorf("%+v, weak %q", found.SSH, found.Weak)
			}
			if tc.kex != "" && found.SSH.Kex != tc.kex {
				t.Errorf("key exchange %s", found.SSH.Kex)
			}
		})
	}
}

// TestNothingElseIsCalledSSH takes a connection and breaks it in one way each.
func TestNothingElseIsCalledSSH(t *testing.T) {
	toServer, toClient := newSSHHost(t).talk(t, "echo cleartext")
	line := func(b []byte) []byte { return b[:bytes.IndexByte(b, '\n')+1] }
	keyed := func(b []byte) []byte { // up to what is sealed
		at := bytes.LastIndex(b, []byte{0, 0, 0, 12, 10, 21})
		return b[:at+16]
	}
	with := func(a []byte, b string) []byte { return append(bytes.Clone(a), b...) }
	none := func(b []byte) []byte { // of the same length
		return bytes.ReplaceAll(b, []byte("chacha20-poly1305@openssh.com"), []byte("none,xxxxxxxxxxxxxxxxxxxxxxxx"))
	}
	other := func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("chacha20-poly1305@openssh.com"), []byte("chacha21-poly1305@openssh.com"))
	}
	text := strings.Repeat("cleartext ", 10)
	for _, tc := range []struct {
		name string
		flow *capture.Flow
		want Verdict
		says string
	}{
		{"banners", flow(line(toServer), line(toClient)), Unknown, "not agreed on"},
		{"agreed, and nothing behind it", flow(keyed(toServer), keyed(toClient)), Unknown, "not completed"},
		{"one side keyed", flow(toServer, keyed(toClient)), Unknown, "not completed"},
		{"text behind the keys", flow(toServer, with(keyed(toClient), text)), Unknown, "readable"},
		{"text behind the banners", flow(with(line(toServer), text), with(line(toClient), text)), Plaintext, "SSH-2.0"},
		{"zeros behind the keys", flow(with(keyed(toServer), strings.Repeat("\x00", 100)), toClient), Unknown, "random"},
		{"no encryption", flow(none(toServer), none(toClient)), Plaintext, ""},
		{"no encryption, text", flow(with(keyed(none(toServer)), text), none(toClient)), Plaintext, "cleartext"},
		{"a cipher nobody knows", flow(other(toServer), other(toClient)), Unknown, "chacha21"},
		{"one side only", flow(toServer, nil), Unknown, ""},
		{"joined late", flow(keyed(toServer)[:0], toClient[len(keyed(toClient)):]), Unknown, ""},
		{"version 1", flow([]byte("SSH-1.5-a\n"), []byte("SSH-1.5-b\n")), Unknown, "SSH 1.5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "one side only" {
				tc.flow.ToClient = capture.Direction{}
			}
			found := Judge(tc.flow, Knowledge{})
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || found.Seal != "" || !strings.Contains(said, tc.says) {
				t.Errorf("%s, saying %q; want %s, saying %q", found.Verdict, said, tc.want, tc.says)
			}
		})
	}
}
