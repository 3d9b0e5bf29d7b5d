package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Content types of records (RFC 8446, section 5.1).
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23
)

// Bounds of a record's body (RFC 8446, section 5.2; RFC 5246, section 6.2.3).
const (
	recordHeader = 5
	maxBody13    = 1<<14 + 256
	maxBody12    = 1<<14 + 2048
	// minSealed13 is the type byte and the tag of an AEAD.
	minSealed13 = 1 + 16
)

// record is one TLS record; the last one of a stream may be cut off.
type record struct {
	typ    byte
	offset int // of its body in the stream
	body   []byte
	whole  bool
	length int // as its header says
}

// records takes a stream apart, up to the first byte that cannot be TLS.
func records(stream []byte) (all []record, rest []byte) {
	offset := 0
	for len(stream) >= recordHeader {
		typ, length := stream[0], int(stream[3])<<8|int(stream[4])
		if typ < typeChangeCipherSpec || typ > typeApplicationData || stream[1] != 3 || stream[2] > 3 || length == 0 || length > maxBody12 {
			return all, stream
		}
		stream, offset = stream[recordHeader:], offset+recordHeader
		n := min(length, len(stream))
		all = append(all, record{typ: typ, offset: offset, body: stream[:n], whole: n == length, length: length})
		stream, offset = stream[n:], offset+n
	}
	return all, stream
}

// readTLS reads the handshake of a flow, and holds every record that follows
// against what it agreed on. The info is returned once both hellos are read; an
// error says why the flow is not shown to be TLS.
func readTLS(f *capture.Flow) (*TLSInfo, error) {
	if err := errors.Join(complete(&f.ToServer, "client"), complete(&f.ToClient, "server")); err != nil {
		return nil, err
	}
	client, restC := records(f.ToServer.Start())
	server, restS := records(f.ToClient.Start())
	hello, err := firstClientHello(client)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	answer, retried, err := lastServerHello(server)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if err := offered(hello, answer); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	info := &TLSInfo{
		Version:     versionName(answer.Version),
		Cipher:      cipherName(answer.Cipher),
		SNI:         hello.ServerName,
		ALPNOffered: hello.Protocols,
		Handshake:   "seen",
		Random:      hex.EncodeToString(hello.Random[:]),
	}
	if answer.Group != 0 {
		info.Group = groupName(answer.Group)
	}
	check := checkLegacy
	if answer.Version == version13 {
		check = func(side []record) error { return check13(side, retried) }
	}
	if err := ended(restC, f.ToServer.Start()); err != nil {
		return info, fmt.Errorf("client: %w", err)
	}
	if err := ended(restS, f.ToClient.Start()); err != nil {
		return info, fmt.Errorf("server: %w", err)
	}
	if err := check(client); err != nil {
		return info, fmt.Errorf("client: %w", err)
	}
	if err := check(server); err != nil {
		return info, fmt.Errorf("server: %w", err)
	}
	return info, nil
}

// offered accepts an answer that a client with this hello would accept.
func offered(hello ClientHello, answer ServerHello) error {
	switch {
	case !slices.Contains(hello.Ciphers, answer.Cipher):
		return fmt.Errorf("answers with cipher suite %s, which was not offered", cipherName(answer.Cipher))
	case answer.Version == version13 && !slices.Contains(hello.Versions, answer.Version):
		return errors.New("answers with TLS 1.3, which was not offered")
	case answer.Group != 0 && !slices.Contains(hello.Groups, answer.Group):
		return fmt.Errorf("answers with group %s, which was not offered", groupName(answer.Group))
	}
	return nil
}

// ended accepts what is left of a stream behind its records: nothing, or a
// header that the window cut off.
func ended(rest, stream []byte) error {
	if len(rest) == 0 || len(stream) == capture.Window && len(rest) < recordHeader {
		return nil
	}
	return fmt.Errorf("%d bytes behind the last record are not TLS", len(rest))
}

// check13 accepts what one side may send in TLS 1.3: its hello in clear, twice
// if it was asked to retry, and from then on sealed records, at least one.
func check13(side []record, retried bool) error {
	hellos, sealed := 1, 0
	if retried {
		hellos = 2
	}
	clear := handshakeOf(side)
	for range hellos {
		_, rest, err := message(clear)
		if err != nil {
			return err
		}
		clear = rest
	}
	if len(clear) > 0 {
		return errors.New("handshake in clear behind the hello, against TLS 1.3")
	}
	for _, r := range side {
		switch {
		case r.typ == typeApplicationData && (r.length < minSealed13 || r.length > maxBody13):
			return fmt.Errorf("a sealed record of %d bytes, which TLS 1.3 does not have", r.length)
		case r.typ == typeApplicationData:
			sealed++
		case r.typ == typeChangeCipherSpec && r.whole && (r.length != 1 || r.body[0] != 1):
			return errors.New("a change of cipher that TLS 1.3 does not have")
		case r.typ == typeHandshake && sealed > 0:
			return errors.New("handshake in clear behind sealed records")
		}
	}
	if sealed == 0 {
		return errors.New("the handshake was not completed")
	}
	return nil
}

// checkLegacy accepts what one side may send in TLS 1.2 and before: handshake in
// clear, a change of cipher, and from then on sealed records, at least one.
func checkLegacy(side []record) error {
	changed, sealed := false, 0
	for _, r := range side {
		switch {
		case r.typ == typeChangeCipherSpec:
			changed = true
		case r.typ == typeApplicationData && !changed:
			return errors.New("application data before the handshake was completed")
		case changed:
			sealed++
		}
	}
	if sealed == 0 {
		return errors.New("the handshake was not completed")
	}
	return nil
}

// handshakeOf joins the handshake records of a side; a message may span several.
func handshakeOf(side []record) []byte {
	var stream []byte
	for _, r := range side {
		if r.typ == typeHandshake {
			stream = append(stream, r.body...)
		}
		if r.typ == typeApplicationData {
			break
		}
	}
	return stream
}

// Types of handshake messages (RFC 8446, section 4).
const (
	helloClient = 1
	helloServer = 2
)

// firstClientHello reads the hello that a client begins with.
func firstClientHello(side []record) (ClientHello, error) {
	if len(side) == 0 || side[0].typ != typeHandshake {
		return ClientHello{}, errors.New("does not begin with a TLS handshake")
	}
	m, _, err := message(handshakeOf(side))
	if err != nil {
		return ClientHello{}, err
	}
	if m.typ != helloClient {
		return ClientHello{}, fmt.Errorf("begins with handshake message %d, not a ClientHello", m.typ)
	}
	return ParseClientHello(m.body)
}

// lastServerHello reads the hello that counts: the second one if the first asks
// the client to retry.
func lastServerHello(side []record) (hello ServerHello, retried bool, err error) {
	if len(side) == 0 || side[0].typ != typeHandshake {
		return ServerHello{}, false, errors.New("does not begin with a TLS handshake")
	}
	stream := handshakeOf(side)
	for {
		m, rest, err := message(stream)
		if err != nil {
			return ServerHello{}, retried, err
		}
		if m.typ != helloServer {
			return ServerHello{}, retried, fmt.Errorf("begins with handshake message %d, not a ServerHello", m.typ)
		}
		hello, err := ParseServerHello(m.body)
		if err != nil {
			return ServerHello{}, retried, err
		}
		if hello.Random != retryRandom || retried {
			return hello, retried, nil
		}
		retried, stream = true, rest
	}
}

// handshakeMessage is one message of a handshake.
type handshakeMessage struct {
	typ  byte
	body []byte
}

// message takes the first message off a handshake stream.
func message(stream []byte) (handshakeMessage, []byte, error) {
	r := reader(stream)
	typ, ok := r.u8()
	body, ok2 := r.vector(3)
	if !ok || !ok2 {
		return handshakeMessage{}, nil, errors.New("the handshake breaks off")
	}
	return handshakeMessage{typ, body}, r, nil
}
