// Package clear knows protocols that do not encrypt, by the form of their
// messages and never by a port alone.
//
//	talk ──► a recognizer per protocol ──► message by message, both directions ──► match
//	clear.go  table.go                     message.go
//
// A recognizer reads one message and counts how many bits of it the protocol
// fixes: a magic number, a length that must meet the end, a field that has few
// values. Bytes drawn at random pass a message of n such bits once in 2^n. A
// protocol is named when what was read of both directions together adds up to
// Enough bits, and nothing from the beginning of either direction contradicts
// it. A port only decides between two that both fit.
//
// What can be sealed inside a form that is known (SRTP in RTP, privacy in SNMPv3,
// SMB 3, RPC with GSS) is told apart in sealing.go: it is never matched.
package clear

// Enough bits make a match. With the protocols of the table, random bytes are
// given a name less than once in 10^10 streams.
const Enough = 40

// portBits let the usual port decide between two that fit.
const portBits = 1 << 20

// breakable bits allow a direction to go on in another form: behind that much
// the beginning is what it looked like, and compression or the like was agreed on.
const breakable = 64

// lateBits are the least that a run behind a gap must have to count: it may begin
// anywhere in a stream of another form.
const lateBits = 20

// readAhead is how many messages of a direction are read at most.
const readAhead = 12

// Side is what was seen of one direction.
type Side struct {
	// Parts are runs of a stream without a gap, or datagrams.
	Parts []Part
	// Start: the first part begins where the stream began.
	Start bool
}

// Part is one run of a stream or one datagram.
type Part struct {
	Data []byte
	// Cut: a datagram goes on behind Data.
	Cut bool
}

// Talk is what was seen of one flow.
type Talk struct {
	Client, Server Side
	Datagrams      bool
	// Ports of both ends, 0 where there are none.
	ClientPort, ServerPort uint16
}

// Match is a protocol and the bytes that tell.
type Match struct {
	Protocol string
	// FromServer, Part, Offset and Length say where they are.
	FromServer           bool
	Part, Offset, Length int
	// Bits that were found as the protocol fixes them: the chance of a match with
	// random bytes is 2^-Bits.
	Bits int
}

// Recognize names the protocol of a talk.
func Recognize(t *Talk) (Match, bool) {
	var best Match
	bestRank := 0
	for i := range table {
		p := &table[i]
		form := p.stream
		if t.Datagrams {
			form = p.datagram
		}
		if form == nil {
			continue
		}
		m, ok := p.match(t, form)
		rank := m.Bits
		if p.hasPort(t) {
			rank += portBits
		}
		if ok && rank > bestRank {
			best, bestRank = m, rank
		}
	}
	switch {
	case best.Protocol == "http2" && isGRPC(t):
		best.Protocol = "grpc"
	case best.Protocol == "http" && isWebSocket(t):
		best.Protocol = "websocket"
	case best.Protocol == "" && t.Datagrams && isRTP(t):
		best = Match{Protocol: "rtp", FromServer: len(t.Client.Parts) == 0, Length: 12, Bits: Enough}
	}
	return best, best.Protocol != ""
}

// protocol is one row of the table. Either form may be nil.
type protocol struct {
	name             string
	stream, datagram form
	ports            []uint16
}

// form reads one message.
type form func(*message)

func (p *protocol) hasPort(t *Talk) bool {
	for _, port := range p.ports {
		if port == t.ServerPort || port == t.ClientPort {
			return true
		}
	}
	return false
}

// match reads both directions and adds up.
func (p *protocol) match(t *Talk, read form) (Match, bool) {
	found := Match{Protocol: p.name}
	said := &shared{}
	for i, side := range []*Side{&t.Client, &t.Server} {
		role := role(i)
		bits, part, length, ok := side.read(t.Datagrams, role, said, read)
		if !ok {
			return Match{}, false
		}
		if found.Bits == 0 && bits > 0 {
			found.FromServer, found.Part, found.Length = role == server, part, length
		}
		found.Bits += bits
	}
	return found, found.Bits >= Enough
}

// read adds up the bits of a direction; not ok means that it contradicts. part
// and length are of the first message that counts.
func (s *Side) read(datagrams bool, r role, said *shared, read form) (bits, part, length int, ok bool) {
	for i := range s.Parts {
		if i == readAhead {
			break
		}
		var n, first int
		var whole bool
		if datagrams {
			n, first, whole = one(&s.Parts[i], r, said, read)
		} else {
			n, first, whole = chain(s.Parts[i].Data, r, s.Start && i == 0, said, read)
		}
		switch {
		case whole || n >= breakable:
		case datagrams || s.Start && i == 0:
			return 0, 0, 0, false
		default:
			n = 0
		}
		if !datagrams && i > 0 && n < lateBits {
			n = 0 // many such runs would add up to anything
		}
		if bits == 0 && n > 0 {
			part, length = i, first
		}
		bits += n
	}
	return bits, part, length, true
}

// one reads a datagram, which must be one message.
func one(p *Part, r role, said *shared, read form) (bits, length int, whole bool) {
	m := message{b: p.Data, open: p.Cut, role: r, first: true, said: said}
	read(&m)
	m.end()
	if m.bad {
		return 0, 0, false
	}
	return m.bits, len(p.Data), true
}

// chain reads the messages of a stream one after another: the length of each
// leads to the next.
func chain(b []byte, r role, start bool, said *shared, read form) (bits, length int, whole bool) {
	for i, at := 0, 0; i < readAhead && at < len(b); i++ {
		m := message{b: b[at:], open: true, role: r, first: start && i == 0, said: said}
		read(&m)
		if m.bad || m.at == 0 {
			return bits, length, false
		}
		bits += m.bits
		if i == 0 {
			length = min(m.at, len(b))
		}
		if m.over {
			break
		}
		at += m.at
	}
	return bits, length, true
}
