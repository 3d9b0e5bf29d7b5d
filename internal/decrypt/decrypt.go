// Package decrypt turns a flow and the session secrets of its ends into what was
// said inside TLS, and into who said it. It is pure.
//
//	key log ──▶ Keys ─┐
//	flow ─────────────┴▶ hellos ──▶ keys of each direction ──▶ records ──▶ messages, application data
//	                     hello.go   suite.go                   side.go     proof.go, frame.go
//
// It reads TLS 1.3 (RFC 8446) with all suites but those of CCM, and TLS 1.2 with
// those of GCM and ChaCha20-Poly1305. Bytes are either decrypted, each record by
// its own authentication tag, or they are not there: where bytes are missing or a
// record does not verify, a direction stops and says where.
package decrypt

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Side is one end of a flow.
type Side uint8

// The two sides.
const (
	Client Side = iota
	Server
)

// String is "client" or "server".
func (s Side) String() string {
	if s == Server {
		return "server"
	}
	return "client"
}

// What stands in the way of decrypting a flow at all.
var (
	// ErrNotTLS: no ClientHello was seen, or no ServerHello that answers it.
	ErrNotTLS = errors.New("no TLS handshake was captured")
	// ErrNoKeys: the key log does not know the session.
	ErrNoKeys = errors.New("the key log holds no secrets of this session")
)

// Session is what a flow was found to carry.
type Session struct {
	// Random of the ClientHello.
	Random [32]byte
	// Version and Cipher as on the wire.
	Version, Cipher uint16
	// Protocol is the ALPN name agreed on, Name the SNI.
	Protocol, Name string
	// Data of the application from both sides, in the order of its packets.
	Data []Piece
	// Peers are the two ends, by Side.
	Peers [2]Peer
	// Stops say where a direction could not be read on, nil if it was read to its end.
	Stops [2]*Stop
	// Updates counts the KeyUpdates of each side.
	Updates [2]int
	// Skipped counts records that the keys do not open, before the first that they
	// do: early data, or a handshake without its secrets.
	Skipped int
}

// Piece is application data of one side: of one record, or what stood in clear
// before TLS began.
type Piece struct {
	From Side
	// Offset of the data in its direction's plaintext; of Clear in the stream.
	Offset int
	Data   []byte
	// Packet that completed it, counted from 1; 0 if unknown.
	Packet int
	Clear  bool
}

// Peer is who an end is, as its certificate says.
type Peer struct {
	// ID is the SPIFFE ID, empty if there is not exactly one.
	ID string
	// Chain is what it showed, leaf first.
	Chain []*x509.Certificate
	// Proven: its signature over the handshake was checked, so it holds the key.
	Proven bool
}

// Stop says where a direction ends before its time.
type Stop struct {
	// Offset in the stream, and the packet of the last byte before it.
	Offset, Packet int
	Reason         string
}

// String names the place and the reason.
func (s *Stop) String() string {
	if s.Packet == 0 {
		return fmt.Sprintf("at byte %d: %s", s.Offset, s.Reason)
	}
	return fmt.Sprintf("at byte %d, packet %d: %s", s.Offset, s.Packet, s.Reason)
}

// Random is that of the ClientHello of a flow, by which its secrets are found.
func Random(f *capture.Flow) (random [32]byte, ok bool) {
	c, ok := findHello(&f.ToServer, helloClient)
	return c.random, ok
}

// Decrypt reads a flow with the keys there are. An error means that nothing could
// be decrypted: a session beside it has only what was said in clear before. What
// could be read in part says so in Stops.
func Decrypt(f *capture.Flow, keys *Keys) (*Session, error) {
	client, ok := findHello(&f.ToServer, helloClient)
	if !ok {
		return nil, ErrNotTLS
	}
	server, ok := findHello(&f.ToClient, helloServer)
	if !ok {
		return nil, ErrNotTLS
	}
	s := &Session{Random: client.random, Version: server.version, Cipher: server.cipher, Name: client.name}
	s.preamble(f, client.at, server.at)
	suite, err := suiteOf(server.version, server.cipher)
	if err != nil {
		return s, err
	}
	secrets := keys.sessions[client.random]
	if secrets == nil {
		return s, ErrNoKeys
	}
	sides := [2]*side{newSide(Client, &f.ToServer, client.at), newSide(Server, &f.ToClient, server.at)}
	p, err := newProtection(suite, secrets, client, server)
	if err != nil {
		return s, err
	}
	for _, d := range sides {
		d.early = d.from == Client && client.early
		s.Stops[d.from] = d.run(p)
		s.Data = append(s.Data, d.data...)
		s.Updates[d.from] = d.updates
		s.Skipped += d.skipped
	}
	s.Protocol = cmp.Or(protocolOf(sides[Server].messages), server.protocol)
	s.Peers = peers(suite, sides)
	slices.SortStableFunc(s.Data, func(a, b Piece) int { return cmp.Compare(a.Packet, b.Packet) })
	return s, nil
}

// preamble is what stood in clear before TLS began.
func (s *Session) preamble(f *capture.Flow, client, server int) {
	for from, d := range [...]*capture.Direction{&f.ToServer, &f.ToClient} {
		if until := [...]int{client, server}[from]; until > 0 {
			c := d.Chunks[0] // findHello found the hello in it, which begins at offset 0
			s.Data = append(s.Data, Piece{From: Side(from), Data: c.Data[:until], Packet: c.Packet(until - 1), Clear: true})
		}
	}
}

// Identities are the SPIFFE IDs that the two ends of a flow have shown inside TLS,
// with a signature over this very handshake. Who has not shown one, or has and the
// bytes that prove it are not in the capture, is empty. The error is Decrypt's.
func Identities(f *capture.Flow, keys *Keys) (client, server string, err error) {
	s, err := Decrypt(f, keys)
	if err != nil {
		return "", "", err
	}
	id := func(p Peer) string {
		if !p.Proven {
			return ""
		}
		return p.ID
	}
	return id(s.Peers[Client]), id(s.Peers[Server]), nil
}
