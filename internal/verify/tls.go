package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// judgeTLS recognises TLS by its hellos.
func judgeTLS(f *capture.Flow, knows Knowledge, found *Finding) bool {
	info, err := readTLS(f)
	found.TLS = info
	switch {
	case judgeClear(f, knows, found):
		return true
	case err != nil:
		found.Reason = err.Error()
		return false
	case tlswire.PlainSuite(info.Cipher):
		found.Verdict, found.Protocol = Plaintext, "tls"
		found.Evidence = &Evidence{Text: info.Cipher}
	case strings.HasPrefix(info.Cipher, "0x"):
		found.Verdict, found.Reason = Unknown, "whether cipher suite "+info.Cipher+" encrypts is not known here"
	default:
		found.Verdict, found.Seal = TLS, "tls"
	}
	return true
}

// complete says why the kept bytes of a direction are not all there is of it, or
// nil if they are. Nothing can be shown about a flow with holes.
func complete(d *capture.Direction, name string) error {
	switch {
	case !d.Began:
		return fmt.Errorf("the beginning of what the %s sent was not captured", name)
	case d.Conflict:
		return fmt.Errorf("the %s sent bytes again with another content", name)
	case d.Missing > 0 && len(d.Start()) < capture.Window:
		return fmt.Errorf("%d bytes of what the %s sent were not captured", d.Missing, name)
	case len(d.Start()) == 0:
		return fmt.Errorf("the %s sent nothing", name)
	}
	return nil
}

// readTLS reads the handshake of a flow, and holds every record that follows
// against what it agreed on. The info is returned once both hellos are read; an
// error says why the flow is not shown to be TLS.
func readTLS(f *capture.Flow) (*TLSInfo, error) {
	if err := errors.Join(complete(&f.ToServer, "client"), complete(&f.ToClient, "server")); err != nil {
		return nil, err
	}
	client, restC := tlswire.Records(f.ToServer.Start())
	server, restS := tlswire.Records(f.ToClient.Start())
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
		Version:     tlswire.VersionName(answer.Version),
		Cipher:      tlswire.CipherName(answer.Cipher),
		SNI:         hello.ServerName,
		ALPNOffered: hello.Protocols,
		Handshake:   "seen",
		Random:      hex.EncodeToString(hello.Random[:]),
	}
	if answer.Group != 0 {
		info.Group = tlswire.GroupName(answer.Group)
	}
	check := checkLegacy
	if answer.Version == tlswire.Version13 {
		check = func(side []tlswire.Record) error { return check13(side, retried) }
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
func offered(hello tlswire.ClientHello, answer tlswire.ServerHello) error {
	switch {
	case !slices.Contains(hello.Ciphers, answer.Cipher):
		return fmt.Errorf("answers with cipher suite %s, which was not offered", tlswire.CipherName(answer.Cipher))
	case answer.Version == tlswire.Version13 && !slices.Contains(hello.Versions, answer.Version):
		return errors.New("answers with TLS 1.3, which was not offered")
	case answer.Group != 0 && !slices.Contains(hello.Groups, answer.Group):
		return fmt.Errorf("answers with group %s, which was not offered", tlswire.GroupName(answer.Group))
	}
	return nil
}

// ended accepts what is left of a stream behind its records: nothing, or a
// header that the window cut off.
func ended(rest, stream []byte) error {
	if len(rest) == 0 || len(stream) == capture.Window && len(rest) < tlswire.RecordHeader {
		return nil
	}
	return fmt.Errorf("%d bytes behind the last record are not TLS", len(rest))
}

// check13 accepts what one side may send in TLS 1.3: its hello in clear, twice
// if it was asked to retry, and from then on sealed records, at least one.
func check13(side []tlswire.Record, retried bool) error {
	hellos, sealed := 1, 0
	if retried {
		hellos = 2
	}
	clear := handshakeOf(side)
	for range hellos {
		_, rest, err := tlswire.Next(clear)
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
		case r.Type == tlswire.TypeApplicationData && (r.Length < tlswire.MinSealed13 || r.Length > tlswire.MaxBody13):
			return fmt.Errorf("a sealed record of %d bytes, which TLS 1.3 does not have", r.Length)
		case r.Type == tlswire.TypeApplicationData:
			sealed++
		case r.Type == tlswire.TypeChangeCipherSpec && r.Whole && (r.Length != 1 || r.Body[0] != 1):
			return errors.New("a change of cipher that TLS 1.3 does not have")
		case r.Type == tlswire.TypeHandshake && sealed > 0:
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
func checkLegacy(side []tlswire.Record) error {
	changed, sealed := false, 0
	for _, r := range side {
		switch {
		case r.Type == tlswire.TypeChangeCipherSpec:
			changed = true
		case r.Type == tlswire.TypeApplicationData && !changed:
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
func handshakeOf(side []tlswire.Record) []byte {
	var stream []byte
	for _, r := range side {
		if r.Type == tlswire.TypeHandshake {
			stream = append(stream, r.Body...)
		}
		if r.Type == tlswire.TypeApplicationData {
			break
		}
	}
	return stream
}

// firstClientHello reads the hello that a client begins with.
func firstClientHello(side []tlswire.Record) (tlswire.ClientHello, error) {
	if len(side) == 0 || side[0].Type != tlswire.TypeHandshake {
		return tlswire.ClientHello{}, errors.New("does not begin with a TLS handshake")
	}
	m, _, err := tlswire.Next(handshakeOf(side))
	if err != nil {
		return tlswire.ClientHello{}, err
	}
	if m.Type != tlswire.HelloClient {
		return tlswire.ClientHello{}, fmt.Errorf("begins with handshake message %d, not a ClientHello", m.Type)
	}
	return tlswire.ParseClientHello(m.Body)
}

// lastServerHello reads the hello that counts: the second one if the first asks
// the client to retry.
func lastServerHello(side []tlswire.Record) (hello tlswire.ServerHello, retried bool, err error) {
	if len(side) == 0 || side[0].Type != tlswire.TypeHandshake {
		return tlswire.ServerHello{}, false, errors.New("does not begin with a TLS handshake")
	}
	stream := handshakeOf(side)
	for {
		m, rest, err := tlswire.Next(stream)
		if err != nil {
			return tlswire.ServerHello{}, retried, err
		}
		if m.Type != tlswire.HelloServer {
			return tlswire.ServerHello{}, retried, fmt.Errorf("begins with handshake message %d, not a ServerHello", m.Type)
		}
		hello, err := tlswire.ParseServerHello(m.Body)
		if err != nil {
			return tlswire.ServerHello{}, retried, err
		}
		if hello.Random != tlswire.RetryRandom || retried {
			return hello, retried, nil
		}
		retried, stream = true, rest
	}
}
