package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/quic"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// quicOneWay is how many sealed packets behind its hello a client must have sent,
// if nothing of the server was captured.
const quicOneWay = 4

// judgeQUIC recognises QUIC by its Initial packets, which open with keys that the
// client's connection ID gives: both hellos, and sealed packets of both sides.
func judgeQUIC(f *capture.Flow, _ Knowledge, found *Finding) bool {
	first, length := firstDatagram(&f.ToServer)
	switch {
	case google(f, first, found):
		return true
	case length < quicSmallest, len(first) == 0, first[0] < 0x80:
		return false // without a long header nothing tells it from anything else
	}
	r := quicReading{oneWay: found.OneWay}
	err := r.split(f)
	if len(r.packets) == 0 {
		if errors.Is(err, quic.ErrVersion) {
			found.Reason = "may be QUIC, but " + err.Error()
		}
		return false
	}
	if err == nil {
		err = r.read()
	}
	if err == nil {
		err = refute(r.sealed, quicTag)
	}
	failure := errors.New("the beginning of the connection was not captured")
	for _, c := range r.connections {
		var info *TLSInfo
		if info, failure = c.shown(r.oneWay); info != nil {
			found.TLS = info
		}
		if failure == nil {
			break
		}
	}
	if err = errors.Join(err, failure); err != nil {
		reason, _, _ := strings.Cut(err.Error(), "\n")
		found.Reason = "looks like QUIC, but " + reason
		return false
	}
	found.Verdict, found.Seal = QUIC, string(QUIC)
	return true
}

// quicSmallest is the least datagram that a client may begin with (RFC 9000,
// section 14.1).
const quicSmallest = 1200

// quicTag is the length of the tag at the end of every sealed packet.
const quicTag = 16

// google recognises QUIC from before it was a standard: what it encrypts cannot
// be told here.
func google(f *capture.Flow, first []byte, found *Finding) bool {
	version, ok := quic.Google(first)
	if !ok {
		return false
	}
	for _, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		for c := range datagrams(d) {
			if allReadable(c.Data) {
				return false
			}
		}
	}
	found.Verdict, found.Protocol = Unknown, "gquic"
	found.Reason = "QUIC as Google had it before the standard (" + version + "), which is not read here"
	return true
}

// quicReading is what was read of a flow. Sides are 0, who sent its first packet,
// and 1.
type quicReading struct {
	packets     []quicPacket
	connections []*quicConn
	sealed      [][]byte
	oneWay      bool // what the other side sent was not captured
}

type quicPacket struct {
	quic.Packet
	side   int
	number int // in the capture
}

// split takes all datagrams apart.
func (r *quicReading) split(f *capture.Flow) error {
	for side, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		for c := range datagrams(d) {
			if allReadable(c.Data) {
				return fmt.Errorf("packet %d is text", c.Packet(0))
			}
			packets, err := quic.Split(c.Data, len(c.Data)+c.Cut)
			for _, p := range packets {
				r.packets = append(r.packets, quicPacket{p, side, c.Packet(0)})
			}
			if err != nil {
				return fmt.Errorf("packet %d is not: %w", c.Packet(0), err)
			}
		}
	}
	return nil
}

// read opens the Initial packets, and then looks where all others belong: the two
// directions are not read in the order of time.
func (r *quicReading) read() error {
	for _, p := range r.packets {
		if p.Kind == quic.Initial {
			r.connect(p)
		}
	}
	for _, p := range r.packets {
		if p.Kind != quic.Initial {
			continue
		}
		if err := r.initial(p); err != nil {
			return fmt.Errorf("packet %d: %w", p.number, err)
		}
	}
	for _, p := range r.packets {
		if p.Kind != quic.Initial && !r.belongs(p) {
			return fmt.Errorf("packet %d, %s, belongs to no connection whose beginning was captured", p.number, p.Kind)
		}
	}
	return nil
}

// belongs finds the connection of a packet that does not open.
func (r *quicReading) belongs(p quicPacket) bool {
	switch p.Kind {
	case quic.Retry:
		return slices.ContainsFunc(r.connections, func(c *quicConn) bool { return c.client != p.side && p.Answers(c.dest) })
	case quic.VersionNegotiation:
		return slices.ContainsFunc(r.connections, func(c *quicConn) bool { return c.client != p.side && c.ids[0].has(p.Dest) })
	case quic.OneRTT:
		return r.short(p)
	}
	return r.long(p)
}

// connect begins a connection if an Initial packet opens with the keys of its own
// destination: only a client's first one does, or its first one after a Retry.
func (r *quicReading) connect(p quicPacket) {
	const most = 16 // connections of one flow
	known := func(c *quicConn) bool {
		return c.client == p.side && c.first == p.Version && bytes.Equal(c.dest, p.Dest)
	}
	if len(r.connections) == most || slices.ContainsFunc(r.connections, known) {
		return
	}
	c := &quicConn{client: p.side, dest: p.Dest, first: p.Version, keys: map[quic.Version][2]*quic.Keys{}}
	if _, _, ok := c.unseal(p, p.Version); ok {
		r.connections = append(r.connections, c)
	}
}

// initial opens an Initial packet with the keys of a connection: one that began in
// the packet's version, or else in another, which the server may change. A packet
// that the capture cut off cannot be opened, and shows nothing.
func (r *quicReading) initial(p quicPacket) error {
	for _, same := range []bool{true, false} {
		for _, c := range r.connections {
			if (c.first == p.Version) != same {
				continue
			}
			if ok, err := c.open(p); ok {
				return err
			}
		}
	}
	if p.Cut {
		r.sealed = append(r.sealed, p.Sealed)
		return nil
	}
	return errors.New("an Initial that does not open with what was captured")
}

// long finds the connection of a packet with a long header by its IDs.
func (r *quicReading) long(p quicPacket) bool {
	for _, c := range r.connections {
		from, to := c.roles(p.side)
		unseen := r.oneWay && to == 1
		toward := c.ids[to].has(p.Dest) || p.Kind == quic.ZeroRTT && bytes.Equal(p.Dest, c.dest)
		if !c.ids[from].has(p.Source) || !toward && !unseen {
			continue
		}
		if unseen && p.Kind == quic.Handshake {
			c.learned.add(p.Dest)
		}
		c.sealed[from]++
		r.sealed = append(r.sealed, p.Sealed)
		return true
	}
	return false
}

// short finds the connection of a packet with a short header: by its ID, or, as
// an end may take another one in secret, as the last one of the flow.
func (r *quicReading) short(p quicPacket) bool {
	for _, c := range r.connections {
		from, to := c.roles(p.side)
		for _, id := range slices.Concat(c.ids[to], c.learnedBy(to)) {
			if body, ok := bytes.CutPrefix(p.Sealed, id); ok {
				c.sealed[from]++
				c.short[from]++
				r.sealed = append(r.sealed, batch(body, id)...)
				return true
			}
		}
	}
	for _, c := range slices.Backward(r.connections) {
		from, to := c.roles(p.side)
		if ids := slices.Concat(c.ids[to], c.learnedBy(to)); len(ids) > 0 && len(p.Sealed) > len(ids[0]) {
			c.short[from]++
			r.sealed = append(r.sealed, p.Sealed[len(ids[0]):])
			return true
		}
	}
	return false
}

// batch takes packets apart that the network card was to cut, or put together:
// each begins with a byte and the same ID.
func batch(body, id []byte) (all [][]byte) {
	const long = 8 // enough not to occur by chance
	for len(id) >= long {
		at := bytes.Index(body, id)
		if at < 1+quicTag {
			break
		}
		all, body = append(all, body[:at-1]), body[at+len(id):]
	}
	return append(all, body)
}

// quicConn is one connection. Roles are 0, the client, and 1, the server.
type quicConn struct {
	client int    // side
	dest   []byte // the connection ID that the keys follow from
	keys   map[quic.Version][2]*quic.Keys
	// first version, and that of the last Initial packet: an answer may have
	// another one.
	first, version quic.Version
	next           [2]uint64 // packet number
	crypto         [2]quic.Stream
	closed         [2]*quic.Close
	ids            [2]quicIDs // that a role chose for itself
	learned        quicIDs    // of a server of which nothing was captured
	sealed         [2]int     // packets, all but Initial ones
	short          [2]int     // of these with a short header: who sends one has keys
}

// quicIDs are connection IDs.
type quicIDs [][]byte

func (ids quicIDs) has(id []byte) bool {
	return slices.ContainsFunc(ids, func(other []byte) bool { return bytes.Equal(id, other) })
}

func (ids *quicIDs) add(id []byte) {
	if !ids.has(id) {
		*ids = append(*ids, id)
	}
}

func (c *quicConn) learnedBy(role int) quicIDs {
	if role == 1 {
		return c.learned
	}
	return nil
}

// roles of the side that sent a packet, and of the other.
func (c *quicConn) roles(side int) (from, to int) {
	if side == c.client {
		return 0, 1
	}
	return 1, 0
}

func (c *quicConn) keysOf(v quic.Version) [2]*quic.Keys {
	keys, ok := c.keys[v]
	if !ok {
		var err error
		if keys[0], keys[1], err = quic.InitialKeys(v, c.dest); err != nil {
			keys = [2]*quic.Keys{}
		}
		c.keys[v] = keys
	}
	return keys
}

// unseal opens a packet with the keys of a version.
func (c *quicConn) unseal(p quicPacket, v quic.Version) (number uint64, payload []byte, ok bool) {
	role, _ := c.roles(p.side)
	keys := c.keysOf(v)[role]
	if keys == nil {
		return 0, nil, false
	}
	number, payload, err := keys.Open(p.Packet, c.next[role])
	return number, payload, err == nil
}

// open reads an Initial packet if it opens with the connection's keys, of its own
// version or of the first: aioquic's clients mix the two up.
func (c *quicConn) open(p quicPacket) (ok bool, err error) {
	number, payload, ok := c.unseal(p, p.Version)
	if !ok && c.first != p.Version {
		number, payload, ok = c.unseal(p, c.first)
	}
	if !ok {
		return false, nil
	}
	role, _ := c.roles(p.side)
	c.next[role] = max(c.next[role], number+1)
	c.version = p.Version
	c.ids[role].add(p.Source)
	all, err := quic.ParseInitial(payload)
	for _, piece := range all.Crypto {
		err = errors.Join(err, c.crypto[role].Add(piece))
	}
	if all.Close != nil {
		c.closed[role] = all.Close
	}
	return true, err
}

// shown says why a connection is not shown to be sealed, or nil if it is, and
// what its hellos say.
func (c *quicConn) shown(oneWay bool) (*TLSInfo, error) {
	hello, err := c.clientHello()
	if err != nil {
		return nil, err
	}
	info := &TLSInfo{
		Version: "1.3", SNI: hello.ServerName, ALPNOffered: hello.Protocols,
		Handshake: "seen", Random: hex.EncodeToString(hello.Random[:]), QUICVersion: c.version.String(), ECH: hello.ECH,
	}
	for role, name := range []string{"client", "server"} {
		if end := c.closed[role]; end != nil {
			return info, fmt.Errorf("the %s gave the handshake up with error 0x%x", name, end.Error)
		}
	}
	if oneWay {
		if len(c.learned) == 0 || c.sealed[0] < quicOneWay {
			return info, errors.New("the client's packets were not answered")
		}
		return info, nil
	}
	answer, err := c.serverHello(info)
	switch {
	case err != nil:
		return info, err
	case !slices.Contains(hello.Ciphers, answer.Cipher), answer.Group != 0 && !slices.Contains(hello.Groups, answer.Group):
		return info, errors.New("the server answers with what was not offered")
	case answer.Version != tlswire.Version13:
		return info, errors.New("the server answers with another version of TLS than 1.3")
	case answer.Cipher>>8 != 0x13:
		return info, fmt.Errorf("cipher suite %s is none of QUIC's", info.Cipher)
	case c.sealed[0] == 0 || c.sealed[1] == 0 || c.short[0] == 0: // it may have been given up in Handshake packets
		return info, errors.New("the handshake was not completed")
	}
	return info, nil
}

// clientHello reads the first message of the client.
func (c *quicConn) clientHello() (tlswire.ClientHello, error) {
	m, _, err := tlswire.Next(c.crypto[0].Bytes())
	switch {
	case err != nil:
		return tlswire.ClientHello{}, errors.New("the ClientHello was not captured whole")
	case m.Type != tlswire.HelloClient:
		return tlswire.ClientHello{}, fmt.Errorf("it begins with handshake message %d, not a ClientHello", m.Type)
	}
	return tlswire.ParseClientHello(m.Body)
}

// serverHello reads the hello that counts, the second one if the first asks the
// client to retry, and adds what it says to info.
func (c *quicConn) serverHello(info *TLSInfo) (tlswire.ServerHello, error) {
	stream := c.crypto[1].Bytes()
	for {
		m, rest, err := tlswire.Next(stream)
		switch {
		case err != nil:
			return tlswire.ServerHello{}, errors.New("the client's hello was not answered")
		case m.Type != tlswire.HelloServer:
			return tlswire.ServerHello{}, fmt.Errorf("the server sends handshake message %d, not a ServerHello", m.Type)
		}
		hello, err := tlswire.ParseServerHello(m.Body)
		if err != nil {
			return hello, err
		}
		if hello.Random == tlswire.RetryRandom && !info.Retried {
			info.Retried, stream = true, rest
			continue
		}
		info.Cipher, info.Resumed = tlswire.CipherName(hello.Cipher), hello.PreSharedKey
		if hello.Group != 0 {
			info.Group = tlswire.GroupName(hello.Group)
		}
		if len(rest) > 0 {
			return hello, errors.New("the server's handshake goes on in clear behind its hello")
		}
		return hello, nil
	}
}
