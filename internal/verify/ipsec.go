package verify

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/ipsec"
)

const (
	// espPort is where ESP is carried in UDP (RFC 3948).
	espPort = 4500
	// espPackets of one session show it; one less does in both directions.
	espPackets = 3
	// espFew packets are too few for one of them to look in clear by chance.
	espFew = 8
	// espBytes are the least that must be seen of what should be sealed, and
	// ikeBytes of encrypted messages of IKE.
	espBytes = 64
	ikeBytes = 32
)

// judgeIPsec recognises ESP, as an IP protocol or in UDP, and IKE, by their form:
// no port is enough. ESP whose payload is in clear is plaintext.
func judgeIPsec(f *capture.Flow, _ Knowledge, found *Finding) bool {
	r := ipsecReading{ports: f.Proto == capture.ESP || f.Client.Port() == espPort || f.Server.Port() == espPort, sessions: map[espSession]*counter{}, nonces: map[espSession][]nonce{}}
	for side, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		for c := range datagrams(d) {
			if err := r.read(f.Proto, side, c); err != nil {
				if found.Reason == "" && (r.esp+r.ike > 0 || f.Proto == capture.ESP) {
					found.Reason = fmt.Sprintf("looks like IPsec, but packet %d: %v", c.Packet(0), err)
				}
				return false
			}
		}
	}
	if r.esp+r.ike == 0 {
		return false
	}
	if r.plain() {
		found.Verdict, found.Protocol, found.Evidence = Plaintext, "esp", r.evidence
		return true
	}
	if err := r.shown(found.OneWay); err != nil {
		if found.Reason == "" {
			found.Reason = "looks like IPsec, but " + err.Error()
		}
		return false
	}
	found.Verdict, found.Seal, found.Protocol = IPsec, string(IPsec), "esp"
	if r.esp == 0 {
		found.Protocol = "ike"
	}
	return true
}

// ipsecReading is what was read of a flow. Sides are 0, who sent its first packet,
// and 1.
type ipsecReading struct {
	ports    bool // ESP may be here
	esp, ike int
	sessions map[espSession]*counter
	nonces   map[espSession][]nonce
	sealed   [][]byte
	// keyed are the encrypted messages of IKE of a side; initiator is the first
	// name that they all have.
	keyed     [2]int
	keyedSeen int // bytes of them
	initiator [8]byte

	certain, maybe int // ESP packets whose payload is in clear, or may be
	evidence       *Evidence
	// trailers are what all packets end in if nothing encrypts.
	trailers ipsec.Trailers
	first    *Evidence // of what such packets carry
}

// espSession is what the packets of one direction share.
type espSession struct {
	side int
	spi  uint32
}

// read takes in one datagram that a side sent.
func (r *ipsecReading) read(proto capture.Proto, side int, c capture.Chunk) error {
	length := len(c.Data) + c.Cut
	if proto == capture.ESP {
		return r.readESP(side, c, length)
	}
	if r.ports {
		if ipsec.IsKeepalive(c.Data) {
			return nil
		}
		if message, ok := bytes.CutPrefix(c.Data, ipsec.NonESP); ok {
			return r.readIKE(side, message, length-len(ipsec.NonESP))
		}
	}
	err := r.readIKE(side, c.Data, length)
	if err != nil && r.ports {
		return r.readESP(side, c, length)
	}
	return err
}

func (r *ipsecReading) readIKE(side int, message []byte, length int) error {
	m, err := ipsec.ParseIKE(message, length)
	if err != nil {
		return err
	}
	r.ike++
	if m.Sealed == nil {
		return nil
	}
	if r.keyed == [2]int{} {
		r.initiator = m.Initiator
	}
	if m.Initiator == r.initiator {
		r.keyed[side]++
		r.keyedSeen += len(m.Sealed)
	}
	r.sealed = append(r.sealed, m.Sealed)
	return nil
}

func (r *ipsecReading) readESP(side int, c capture.Chunk, length int) error {
	p, err := ipsec.ParseESP(c.Data, length)
	if err != nil {
		return err
	}
	r.esp++
	if inner, ok := p.Clear(); ok {
		r.maybe++
		if r.evidence == nil || inner.Certain && r.certain == 0 {
			r.evidence = newEvidence(inner.Bytes[:min(len(inner.Bytes), evidenceBytes)], c.Packet(0), [...]string{fromClient, fromServer}[side])
		}
		if inner.Certain {
			r.certain++
		}
	}
	if r.trailers = p.Trailers().Common(r.trailers); r.esp == 1 {
		r.trailers = p.Trailers()
		r.first = newEvidence(p.Body()[:min(len(p.Body()), evidenceBytes)], c.Packet(0), [...]string{fromClient, fromServer}[side])
	}
	to := espSession{side, p.SPI}
	r.nonces[to] = append(r.nonces[to], nonce{uint64(p.Sequence), p.Nonce()})
	if r.sessions[to] == nil {
		r.sessions[to] = newCounter()
	}
	r.sealed = append(r.sealed, p.Sealed)
	return r.sessions[to].add(uint64(p.Sequence), len(p.Sealed))
}

// plain reports whether the payload of ESP is in clear: for certain, among many
// packets more than once, or as
// it seems in all packets, if there are several: of each, or because all end in
// the same next header behind a padding that fits.
func (r *ipsecReading) plain() bool {
	if r.evidence == nil && r.esp >= espPackets && r.trailers.Any() {
		r.evidence = r.first
	}
	return r.certain > 1 || r.certain > 0 && r.esp <= espFew || r.esp >= espPackets && (r.maybe == r.esp || r.trailers.Any())
}

// shown says why what was read is not shown to be sealed, or nil if it is.
func (r *ipsecReading) shown(oneWay bool) error {
	if err := refute(r.sealed, 0); err != nil {
		return err
	}
	if r.certain > 0 || r.maybe > 0 && r.maybe == r.esp {
		return errors.New("its payload may be in clear")
	}
	several, bytes := false, 0
	var sides [2]bool // with more than one packet of a session
	for to, c := range r.sessions {
		if !c.rises() {
			return errors.New("its sequence numbers do not rise")
		}
		if !drawnOrCounted(r.nonces[to]) {
			return errors.New("what begins its packets neither counts nor looks random")
		}
		several = several || len(c.seen) >= espPackets
		sides[to.side] = sides[to.side] || len(c.seen) > 1
		bytes += c.bytes
	}
	keyed := r.keyed[0] > 0 && r.keyed[1] > 0 || oneWay && r.keyed[0]+r.keyed[1] >= espPackets
	switch {
	case keyed && r.keyedSeen >= ikeBytes:
		return nil
	case keyed && r.esp == 0:
		return errors.New("too little of its encrypted messages was captured")
	case r.esp == 0:
		return errors.New("IKE came to no encrypted message in both directions, as far as was captured")
	case bytes < espBytes, !several && (!sides[0] || !sides[1]):
		return fmt.Errorf("%d packets are too few to tell", r.esp)
	}
	return nil
}
