// Package lane carries application connections between two proxies: a lane is
// one mutual-TLS connection, used by one stream after another, never by two at
// once. docs/wire.md is the grammar.
//
//	client                                  server
//	OPEN destination  ───────────────────▶  authorize, dial the application
//	DATA …            ◀──────────────────▶  DATA …
//	FIN               ◀──────────────────▶  FIN
//	                       lane is idle
//	OPEN destination  ───────────────────▶  …
//
// A direction ends with FIN or RESET. When both have ended the lane is idle and
// takes the next stream. Whoever sends RESET ignores what the other still sends
// until that direction has ended too. A RESET may follow a FIN of the same side;
// if it arrives after the stream has ended, its stream number tells so and it is
// ignored.
//
// Locking: between streams a lane has one owner. Within a stream one goroutine
// reads and owns the fields of the reading side; writers take mu, which guards
// which of our own directions has ended and is held for one gathered write.
package lane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/sealmesh/sealmesh/internal/sock"
)

// Conn is one end of a lane.
type Conn struct {
	tls    *tls.Conn
	wire   *wire
	client bool
	info   Info
	stream uint8 // number of the current stream, or of the last

	// Reading side.
	header    [HeaderLen]byte
	headerLen int   // bytes of header read so far
	left      int   // payload of the current DATA frame not read yet
	pending   error // how the direction ended, kept while bytes before it are returned
	readEnd   bool  // the peer's direction of the stream has ended
	draining  bool  // the peer sent DRAIN

	mu       sync.Mutex
	writeEnd bool // our direction of the stream has ended
	reset    bool // it ended with RESET
}

// Info says what the handshake of a lane agreed and where the lane runs.
type Info struct {
	// Local and Remote are the ends of the TCP connection.
	Local, Remote netip.AddrPort
	// HelloRandom is the random of the ClientHello, as it was on the wire.
	HelloRandom [32]byte
	// Cipher is the TLS cipher suite, Group the key exchange.
	Cipher uint16
	Group  tls.CurveID
	// PeerChain is what the peer showed, leaf first.
	PeerChain []*x509.Certificate
}

// Client performs the client's handshake before ctx ends. On error the connection
// is closed.
func Client(ctx context.Context, tcp *net.TCPConn, config *tls.Config) (*Conn, error) {
	return handshake(ctx, tcp, config, true)
}

// Server performs the server's handshake before ctx ends. On error the connection
// is closed.
func Server(ctx context.Context, tcp *net.TCPConn, config *tls.Config) (*Conn, error) {
	return handshake(ctx, tcp, config, false)
}

func handshake(ctx context.Context, tcp *net.TCPConn, config *tls.Config, client bool) (*Conn, error) {
	sc, err := sock.New(tcp)
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	w := &wire{Conn: sc, client: client}
	c := &Conn{wire: w, client: client, stream: ^uint8(0), readEnd: true, writeEnd: true}
	if client {
		c.tls = tls.Client(w, config)
	} else {
		c.tls = tls.Server(w, config)
	}
	// In a goroutine of its own: a handshake needs a large stack, which goes away
	// with it, and the caller's goroutine lives as long as the connection.
	shaken := make(chan error)
	go func() { shaken <- c.tls.HandshakeContext(ctx) }()
	if err := <-shaken; err != nil {
		if errors.As(err, new(tls.RecordHeaderError)) {
			sc.Abort() // to one who speaks in clear an orderly end would be an answer
		}
		_ = tcp.Close()
		return nil, err
	}
	state := c.tls.ConnectionState()
	// The slice is crypto/tls's own: it lets go of its certificates, too.
	certificates.share(state.PeerCertificates)
	c.info = Info{
		Local:       sock.AddrPort(tcp.LocalAddr()),
		Remote:      sock.AddrPort(tcp.RemoteAddr()),
		HelloRandom: w.hello.random,
		Cipher:      state.CipherSuite,
		Group:       state.CurveID,
		PeerChain:   state.PeerCertificates,
	}
	return c, nil
}

// Info is what the handshake agreed.
func (c *Conn) Info() *Info { return &c.info }

// Bytes are the bytes on the wire so far, TLS included.
func (c *Conn) Bytes() (received, sent uint64) {
	return c.wire.received.Load(), c.wire.sent.Load()
}

// Close ends the lane and whatever stream it carries.
func (c *Conn) Close() { _ = c.wire.Close() }

// Shutdown ends an idle lane in order: close_notify, then TCP's FIN.
func (c *Conn) Shutdown() { _ = c.tls.Close() }

// Ended reports whether both directions of the stream have ended, so that the
// lane is idle.
func (c *Conn) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readEnd && c.writeEnd
}

// Draining reports whether the server has asked for no further stream.
func (c *Conn) Draining() bool { return c.draining }

// begin makes number the current stream of an idle lane.
func (c *Conn) begin(number uint8) error {
	if !c.Ended() {
		return breach("OPEN while stream %d runs", c.stream)
	}
	if number != c.stream+1 {
		return breach("OPEN of stream %d after %d", number, c.stream)
	}
	c.stream = number
	c.left, c.pending, c.readEnd = 0, nil, false
	c.mu.Lock()
	c.writeEnd, c.reset = false, false
	c.mu.Unlock()
	return nil
}
