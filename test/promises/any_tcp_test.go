package promises

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// Any TCP is carried as it is. Each behaviour of TCP below is looked at on every
// path, of which the first has nothing of ours on it: what happens there is what
// the programs expect.
//
//	 node n1                           node n2
//	┌────────────────────┐            ┌────────────────────────┐
//	│ outsider ──────────── reference ──▶ bystander  (strangers)│
//	│    └─────────────────── plain in ─┐      ▲                │
//	│                    │            │ ▼      │                │
//	│ sender ───────────────── sealed ──▶ receiver              │
//	│    └─────────────────── plain out ───────┘   │ sealed     │
//	│                    │            │ neighbour ◀┘            │
//	└────────────────────┘            └────────────────────────┘
func TestAnyTCP(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 1, "outsider", stranger)
	bystander := m.add(t, 2, "bystander", stranger)
	neighbour := m.add(t, 2, "neighbour", sealed)
	m.start(t)
	for _, p := range []path{
		{"reference", outsider, bystander, bystander.Addr4, 0},
		{"sealed IPv4", m.Sender, m.Receiver, m.Receiver.Addr4, 0}, // strict: or it fails
		{"sealed IPv6, on one node", m.Receiver, neighbour, neighbour.Addr6, 0},
	} {
		t.Run(p.name, func(t *testing.T) { p.behaves(t) })
	}
	m.setModes(t, permissive, permissive)
	for _, p := range []path{
		{"plain in", outsider, m.Receiver, m.Receiver.Addr4, 0},
		{"plain out", m.Sender, bystander, bystander.Addr6, 0},
	} {
		t.Run(p.name, func(t *testing.T) { p.behaves(t) })
	}
}

// path is a way from one workload to an address of another.
type path struct {
	name     string
	from, to *lab.Workload
	addr     netip.Addr
	port     uint16
}

// target is the address and port that the path leads to.
func (p path) target() netip.AddrPort { return netip.AddrPortFrom(p.addr, p.port) }

// behaves looks at each behaviour twice, on a port of its own: in the mesh the
// first connection makes a lane, while the client goes on, and the second finds
// it.
func (p path) behaves(t *testing.T) {
	for i, behaviour := range []struct {
		name string
		look func(*testing.T, path)
	}{
		{"client first", clientFirst},
		{"server first", serverFirst},
		{"much said by the client, which leaves", clientLeaves},
		{"much said by the server, which leaves", serverLeaves},
		{"half-closed by the client", halfClosedByClient},
		{"half-closed by the server", halfClosedByServer},
		{"nothing said, closed by the client", silentClient},
		{"nothing said, closed by the server", silentServer},
		{"reset by the client", resetByClient},
		{"reset by the server", resetByServer},
		{"reset by the server after the client half-closed", resetByServerLater},
		{"reset by the client after the server half-closed", resetByClientLater},
		{"reset by the client after it half-closed itself", resetByHalfClosedClient},
		{"reset by the server after it half-closed itself", resetByHalfClosedServer},
		{"refused", refused},
		{"one byte at a time", trickle},
		{"many at once", manyAtOnce},
		{"client's address", clientAddress},
		{"HTTP upgrade", upgrade},
		{"TLS of the application", applicationTLS},
	} {
		p.port = appPort + uint16(i)
		t.Run(behaviour.name, func(t *testing.T) { behaviour.look(t, p) })
		t.Run(behaviour.name+" again", func(t *testing.T) { behaviour.look(t, p) })
	}
}

// serve runs the server at the end of the path. What handle returns is sent on
// the channel.
func serveAt[T any](t *testing.T, p path, handle func(*net.TCPConn) T) <-chan T {
	t.Helper()
	results := make(chan T, 1000)
	serve(t, p.to, p.port, func(c *net.TCPConn) { results <- handle(c) })
	return results
}

func (p path) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	return dial(t, p.from, p.target())
}

// take receives what must come.
func take[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v", patience)
		panic("unreachable")
	}
}

func clientFirst(t *testing.T, p path) {
	serve(t, p.to, p.port, echo)
	c := p.dial(t)
	for _, text := range []string{"a", "longer than that", string(bytes.Repeat([]byte("long "), 20_000))} {
		go func() { _, _ = io.WriteString(c, text) }()
		hear(t, c, text)
	}
}

func serverFirst(t *testing.T, p path) {
	serve(t, p.to, p.port, func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "220 ready\r\n")
		echo(c)
	})
	c := p.dial(t)
	hear(t, c, "220 ready\r\n")
	say(t, c, "HELO\r\n")
	hear(t, c, "HELO\r\n")
}

// answer is more than any buffer on the way holds.
var answer = bytes.Repeat([]byte("the other direction goes on. "), 300_000)

func clientLeaves(t *testing.T, p path) {
	heard := serveAt(t, p, hearsAnswer)
	c := p.dial(t)
	_, err := c.Write(answer)
	must(t, err)
	must(t, c.Close())
	must(t, take(t, heard))
}

func serverLeaves(t *testing.T, p path) {
	serve(t, p.to, p.port, func(c *net.TCPConn) { _, _ = c.Write(answer) })
	must(t, hearsAnswer(p.dial(t)))
}

// hearsAnswer reads to the end and compares.
func hearsAnswer(c *net.TCPConn) error {
	all, err := io.ReadAll(c)
	if !bytes.Equal(all, answer) {
		return fmt.Errorf("heard %d bytes (%v), expected %d", len(all), err, len(answer))
	}
	return err
}

func halfClosedByClient(t *testing.T, p path) {
	heard := serveAt(t, p, func(c *net.TCPConn) string {
		all, err := io.ReadAll(c)
		_, _ = c.Write(answer)
		return fmt.Sprintf("%s %v", all, err)
	})
	c := p.dial(t)
	say(t, c, "question")
	must(t, c.CloseWrite())
	must(t, hearsAnswer(c))
	if h := take(t, heard); h != "question <nil>" {
		t.Errorf("server heard %q", h)
	}
}

func halfClosedByServer(t *testing.T, p path) {
	heard := serveAt(t, p, func(c *net.TCPConn) error {
		if _, err := io.WriteString(c, "go on"); err != nil {
			return err
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		return hearsAnswer(c)
	})
	c := p.dial(t)
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "go on" {
		t.Errorf("client heard %q (%v)", got, err)
	}
	_, err = c.Write(answer)
	must(t, err)
	must(t, c.CloseWrite())
	must(t, take(t, heard))
}

// first is what a read that should find nothing found.
func first(c *net.TCPConn) string {
	n, err := c.Read(make([]byte, 1))
	return fmt.Sprintf("%d bytes, %v", n, err)
}

const ended = "0 bytes, EOF"

func silentClient(t *testing.T, p path) {
	heard := serveAt(t, p, first)
	must(t, p.dial(t).Close())
	if h := take(t, heard); h != ended {
		t.Errorf("server heard %s", h)
	}
}

func silentServer(t *testing.T, p path) {
	serve(t, p.to, p.port, func(*net.TCPConn) {})
	if h := first(p.dial(t)); h != ended {
		t.Errorf("client heard %s", h)
	}
}

// abort closes with a RST.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// readOn reads to the end, or the failure, of a connection.
func readOn(c *net.TCPConn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// writeOn writes until it fails.
func writeOn(c *net.TCPConn) error {
	for {
		if _, err := c.Write(answer); err != nil {
			return err
		}
	}
}

func wantReset(t *testing.T, who string, err error, also ...error) {
	t.Helper()
	for _, e := range append(also, syscall.ECONNRESET) {
		if errors.Is(err, e) {
			return
		}
	}
	t.Errorf("%s: %v, expected a reset", who, err)
}

func resetByClient(t *testing.T, p path) {
	result := serveAt(t, p, func(c *net.TCPConn) error { echoOnce(c); return readOn(c) })
	c := p.dial(t)
	say(t, c, "!")
	hear(t, c, "!")
	abort(c)
	wantReset(t, "server", take(t, result))
}

// echoOnce echoes one byte: then both know that the other is there.
func echoOnce(c *net.TCPConn) { _, _ = io.CopyN(c, c, 1) }

func resetByServer(t *testing.T, p path) {
	serve(t, p.to, p.port, func(c *net.TCPConn) { echoOnce(c); abort(c) })
	c := p.dial(t)
	say(t, c, "!")
	hear(t, c, "!")
	wantReset(t, "client", readOn(c))
}

func resetByServerLater(t *testing.T, p path) {
	serve(t, p.to, p.port, func(c *net.TCPConn) { _ = readOn(c); abort(c) })
	c := p.dial(t)
	say(t, c, "!")
	must(t, c.CloseWrite())
	wantReset(t, "client", readOn(c))
}

func resetByClientLater(t *testing.T, p path) {
	result := serveAt(t, p, func(c *net.TCPConn) error { _ = c.CloseWrite(); return readOn(c) })
	c := p.dial(t)
	must(t, readOn(c))
	abort(c)
	wantReset(t, "server", take(t, result))
}

// Whoever still writes on a half-closed connection that is reset gets EPIPE from
// Linux.
func resetByHalfClosedClient(t *testing.T, p path) {
	result := serveAt(t, p, func(c *net.TCPConn) error { _ = readOn(c); return writeOn(c) })
	c := p.dial(t)
	must(t, c.CloseWrite())
	hear(t, c, string(answer[:1]))
	abort(c)
	wantReset(t, "server", take(t, result), syscall.EPIPE)
}

func resetByHalfClosedServer(t *testing.T, p path) {
	serve(t, p.to, p.port, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		_, _ = c.Read(make([]byte, 1))
		abort(c)
	})
	c := p.dial(t)
	must(t, readOn(c))
	wantReset(t, "client", writeOn(c), syscall.EPIPE)
}

// A port on which nobody listens. Through a proxy the connection is accepted
// before that is known, and then reset.
func refused(t *testing.T, p path) {
	_, err := attempt(t, p.from, netip.AddrPortFrom(p.addr, 9), "is anybody there?")
	wantReset(t, "client", err, syscall.ECONNREFUSED)
}

func trickle(t *testing.T, p path) {
	serve(t, p.to, p.port, echo)
	c := p.dial(t)
	for i := range 500 {
		text := string(rune('a' + i%26))
		say(t, c, text)
		hear(t, c, text)
	}
}

func manyAtOnce(t *testing.T, p path) {
	serve(t, p.to, p.port, echo)
	var clients sync.WaitGroup
	for i := range pick(400, 150) {
		clients.Go(func() {
			c, err := tryDial(t.Context(), p.from, p.target())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			text := bytes.Repeat([]byte(strconv.FormatInt(i, 10)+" "), 5_000)
			go func() { _, _ = c.Write(text); _ = c.CloseWrite() }()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, text) {
				t.Errorf("connection %d: heard %d bytes (%v), expected %d", i, len(got), err, len(text))
			}
		})
	}
	clients.Wait()
}

func clientAddress(t *testing.T, p path) {
	seen := serveAt(t, p, func(c *net.TCPConn) netip.Addr { return host(c.RemoteAddr()) })
	client := host(p.dial(t).LocalAddr())
	if a := take(t, seen); a != client {
		t.Errorf("server is called from %s, by %s", a, client)
	}
}

func host(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }

// upgrade is how WebSockets begin.
func upgrade(t *testing.T, p path) {
	ln, err := p.to.Listen("tcp", p.target().String())
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst frame")
		_, _ = io.Copy(c, buffered)
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { server.Close() })

	c := p.dial(t)
	say(t, c, "GET /chat HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	hear(t, c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst frame")
	say(t, c, "\x00\xff binary frame")
	hear(t, c, "\x00\xff binary frame")
}

// applicationTLS is TLS that the programs themselves speak: the client must see
// the server's own certificate, and each the other's protocol.
func applicationTLS(t *testing.T, p path) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"app.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	server := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"},
	}
	serve(t, p.to, p.port, func(c *net.TCPConn) {
		s := tls.Server(c, server)
		_, _ = io.Copy(s, s)
	})
	trusted := x509.NewCertPool()
	trusted.AddCert(cert)
	c := tls.Client(p.dial(t), &tls.Config{RootCAs: trusted, ServerName: "app.example", NextProtos: []string{"h2"}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	must(t, c.HandshakeContext(ctx))
	state := c.ConnectionState()
	if !state.PeerCertificates[0].Equal(cert) || state.NegotiatedProtocol != "h2" {
		t.Errorf("client sees %v, protocol %q", state.PeerCertificates[0].Subject, state.NegotiatedProtocol)
	}
	say(t, c, "inside of both")
	hear(t, c, "inside of both")
}

// A workload that calls itself by its own address meets nothing of ours, not even
// under strict, and nothing of it is on the wire.
func TestWorkloadCallsItself(t *testing.T) {
	m := startMesh(t)
	uplink := recordOn(t, m.Receiver.Host, "tcp")
	served := func() string {
		r := connections(t, m.Receiver)
		return fmt.Sprint(len(r.Connections), len(r.Lanes), len(m.logged(0, has("msg", "connection"))))
	}
	before := served()
	for _, addr := range []netip.Addr{
		m.Receiver.Addr4, m.Receiver.Addr6, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(),
	} {
		p := path{addr.String(), m.Receiver, m.Receiver, addr, 0}
		t.Run(p.name, func(t *testing.T) { p.behaves(t) })
	}
	if after := served(); after != before {
		t.Errorf("the proxy had to do with it: %s before, %s after", before, after)
	}
	if seen := uplink.stop(t); seen.packets > 0 {
		t.Errorf("%d packets are on the wire", seen.packets)
	}
}
