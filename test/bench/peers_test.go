package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// The comparison is fair only if the peers do what sealmesh does: mutual TLS 1.3
// with AES-128-GCM, verified at both ends. That they resume sessions, which
// sealmesh never does, is in their favour. Each end is held against a TLS of
// ours that tells what it was shown:
//
//	our TLS client ──▶ the peer's server ──▶ echo
//	plain client ────▶ the peer's client ──▶ our TLS server
func TestThePeersVerifyEachOtherInTLS13(t *testing.T) {
	l := lab.T(t, lab.Config{Nodes: 2, IPv4Only: true})
	dir, strangers := pki(t), pki(t)
	for _, p := range []peer{newHAProxy(dir), newNginx(dir)} {
		if _, err := find(p.program); err != nil {
			t.Logf("%s is not tested: %v", p.program, err)
			continue
		}
		t.Run(p.program, func(t *testing.T) {
			at := pair{l.Workload(t, l.Nodes[0], "client-"+p.program), l.Workload(t, l.Nodes[1], "server-"+p.program)}
			t.Run("its server", func(t *testing.T) { testPeerServer(t, p, at, strangers) })
			t.Run("its client", func(t *testing.T) { testPeerClient(t, p, at, strangers) })
		})
	}
}

// pki makes certificates of an authority of their own.
func pki(t *testing.T) (dir string) {
	dir = t.TempDir()
	if err := writePKI(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// credentials are a certificate from dir and the authority of dir.
func credentials(t *testing.T, dir, name string) (tls.Certificate, *x509.CertPool) {
	leaf, err := tls.LoadX509KeyPair(filepath.Join(dir, name), filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return leaf, pool
}

// run runs one end of a peer until the test ends.
func (p peer) run(t *testing.T, host *lab.Host, end string, listen, target netip.AddrPort) {
	config, err := p.writeConfig(end, listen, target)
	if err != nil {
		t.Fatal(err)
	}
	program, err := find(p.program)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newProcess(t.Context(), host, program, p.args(config)...)
	if err := proxy.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { <-proxy.ended }) // killed with the test's context
}

func testPeerServer(t *testing.T, p peer, at pair, strangers string) {
	echo, err := startServer(t.Context(), at.server.Host, appPort)
	if err != nil {
		t.Fatal(err)
	}
	sealed := netip.AddrPortFrom(at.server.Addr4, peerSealedPort)
	p.run(t, at.server.Host, "server", sealed, netip.MustParseAddrPort("127.0.0.1:7000"))
	leaf, authority := credentials(t, p.dir, "client.pem")
	stranger, _ := credentials(t, strangers, "client.pem")

	config := &tls.Config{
		RootCAs: authority, ServerName: serverName, Certificates: []tls.Certificate{leaf},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	state, err := echoOverTLS(t, at, sealed, config)
	if err != nil {
		t.Fatalf("with a certificate: %v", err)
	}
	checkState(t, state)
	if again, err := echoOverTLS(t, at, sealed, config); err != nil || !again.DidResume {
		t.Errorf("second connection: resumed %v, %v", again.DidResume, err)
	}
	if state.CurveID != tls.X25519 {
		t.Errorf("group %v, want X25519", state.CurveID)
	}
	if _, err := echoOverTLS(t, at, sealed, &tls.Config{RootCAs: authority, ServerName: serverName}); err == nil {
		t.Error("without a certificate: let in")
	}
	if _, err := echoOverTLS(t, at, sealed, &tls.Config{RootCAs: authority, ServerName: serverName, Certificates: []tls.Certificate{stranger}}); err == nil {
		t.Error("with a stranger's certificate: let in")
	}
	if err := echo.stop(); err != nil {
		t.Error(err)
	}
}

// echoOverTLS sends one message through TLS to a peer's server and wants it back.
func echoOverTLS(t *testing.T, at pair, target netip.AddrPort, config *tls.Config) (tls.ConnectionState, error) {
	raw := dialUntilUp(t, at, target)
	defer raw.Close()
	c := tls.Client(raw, config)
	if _, err := c.Write([]byte(strings.Repeat("o", 64))); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err := io.ReadFull(c, make([]byte, 64))
	return c.ConnectionState(), err
}

// dialUntilUp connects as soon as somebody listens.
func dialUntilUp(t *testing.T, at pair, target netip.AddrPort) net.Conn {
	ctx, cancel := context.WithTimeout(t.Context(), upTime)
	defer cancel()
	for {
		c, err := at.client.Dial(ctx, "tcp", target.String())
		if err == nil {
			return c
		}
		if pause(ctx, 10*time.Millisecond) != nil {
			t.Fatalf("dial %v: %v", target, err)
		}
	}
}

func testPeerClient(t *testing.T, p peer, at pair, strangers string) {
	listener, err := at.server.Listen("tcp", netip.AddrPortFrom(at.server.Addr4, peerSealedPort).String())
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	plain := netip.MustParseAddrPort("127.0.0.1:7001")
	p.run(t, at.client.Host, "client", plain, netip.MustParseAddrPort(listener.Addr().String()))
	leaf, authority := credentials(t, p.dir, "server.pem")
	stranger, _ := credentials(t, strangers, "server.pem")

	config := &tls.Config{Certificates: []tls.Certificate{leaf}, ClientCAs: authority, ClientAuth: tls.RequireAndVerifyClientCert}
	state, err := acceptFrom(t, at, plain, listener, config)
	if err != nil {
		t.Fatalf("from a server it should trust: %v", err)
	}
	checkState(t, state)
	if name := state.PeerCertificates[0].Subject.CommonName; name != clientName {
		t.Errorf("shows the certificate of %q, want %q", name, clientName)
	}
	if state.ServerName != serverName {
		t.Errorf("asks for %q, want %q", state.ServerName, serverName)
	}
	// Each of its workers or threads remembers sessions of its own.
	for tries := 0; !state.DidResume && err == nil; tries++ {
		if state, err = acceptFrom(t, at, plain, listener, config); tries == 100 {
			t.Fatal("never resumes a session")
		}
	}
	if _, err := acceptFrom(t, at, plain, listener, &tls.Config{Certificates: []tls.Certificate{stranger}}); err == nil {
		t.Error("accepts a stranger's server")
	}
}

// acceptFrom connects to a peer's client and is the server it then connects to.
func acceptFrom(t *testing.T, at pair, plain netip.AddrPort, listener net.Listener, config *tls.Config) (tls.ConnectionState, error) {
	application := dialUntilUp(t, at, plain)
	defer application.Close()
	if _, err := application.Write([]byte("hello")); err != nil {
		return tls.ConnectionState{}, err
	}
	raw, err := listener.Accept()
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	c := tls.Server(raw, config)
	_, err = io.ReadFull(c, make([]byte, len("hello")))
	return c.ConnectionState(), err
}

// checkState wants what sealmesh speaks too.
func checkState(t *testing.T, state tls.ConnectionState) {
	t.Helper()
	if state.Version != tls.VersionTLS13 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Errorf("%s with %s, want TLS 1.3 with TLS_AES_128_GCM_SHA256",
			tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	}
}
