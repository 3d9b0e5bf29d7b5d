package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

var errUnfinished = errors.New("the handshake was not completed")

// Least bodies of sealed records: a MAC or a tag, and a Finished of 12 bytes
// with its header behind the shortest tag there is.
const (
	minSealed12   = 16
	minFinished12 = 28
)

// finished13 is how long the shortest record is that ends a handshake of TLS 1.3:
// an alert, which is what a side sends that breaks it off, is far shorter.
func finished13(suite string) int {
	hash := 32
	if strings.HasSuffix(suite, "SHA384") {
		hash = 48
	}
	return 4 + hash + 1 + tag13(suite)
}

// alert13 is how long an alert is in TLS 1.3, as it is sent everywhere.
func alert13(suite string) int { return 2 + 1 + tag13(suite) }

func tag13(suite string) int {
	if strings.Contains(suite, "CCM_8") {
		return 8
	}
	return 16
}

// turnedAway reports whether all that the server of TLS 1.3 said to the client's
// certificate, or to its having none, was an alert. What a client sends that was not
// asked for one begins with a Finished by itself; the server's own stands right
// before the alert, or is in an earlier packet than what the client sent.
func (t *tlsTalk) turnedAway(client, server []tlswire.Record, suite string) bool {
	n := len(server)
	if t.hello.EarlyData || len(client) == 0 || n < 2 || client[0].Length == finished13(suite) || server[n-1].Length != alert13(suite) {
		return false
	}
	asked, said := packetAt(t.client.d, client[0].Offset), packetAt(t.server.d, server[n-1].Offset)
	closes := func(r tlswire.Record) bool {
		return r.Length == alert13(suite) && packetAt(t.client.d, r.Offset) <= said
	}
	if slices.ContainsFunc(client, closes) {
		return false
	}
	return server[n-2].Length == finished13(suite) || said > asked && packetAt(t.server.d, server[n-2].Offset) < asked
}

// check13 accepts what one side may send in TLS 1.3: its hello in clear, twice
// if it was asked to retry, and sealed records, long enough to complete the
// handshake. It returns those.
func (s *tlsSide) check13(hellos int, suite string) ([]tlswire.Record, error) {
	if s.broken != nil {
		return nil, s.broken
	}
	if len(s.messages) > hellos {
		return nil, errors.New("handshake in clear behind the hello, against TLS 1.3")
	}
	if len(s.messages) < hellos {
		return nil, errUnfinished
	}
	var sealed []tlswire.Record
	length, early := 0, s.opens && hellos > 1 // early data that was refused
	for i, r := range s.records {
		switch {
		case r.Type == tlswire.TypeApplicationData && (r.Length < tlswire.MinSealed13-8 || r.Length > tlswire.MaxBody13):
			return nil, fmt.Errorf("a sealed record of %d bytes, which TLS 1.3 does not have", r.Length)
		case r.Type == tlswire.TypeApplicationData:
			sealed = append(sealed, s.records[i])
			if r.Whole || s.filled() || i+1 < len(s.records) {
				length += r.Length
			}
		case r.Type == tlswire.TypeChangeCipherSpec && r.Whole && (r.Length != 1 || r.Body[0] != 1):
			return nil, errors.New("a change of cipher that TLS 1.3 does not have")
		case r.Type == tlswire.TypeHandshake && len(sealed) > 0 && !early:
			return nil, errors.New("handshake in clear behind sealed records")
		case r.Type == tlswire.TypeHandshake:
			length = 0
		case r.Type == tlswire.TypeHeartbeat, r.Type == tlswire.TypeAlert && r.Length != 2:
			return nil, fmt.Errorf("a record of type %d, which TLS 1.3 does not have", r.Type)
		}
	}
	if length == 0 {
		return nil, errUnfinished
	}
	if length < finished13(suite) {
		return nil, fmt.Errorf("%w: what is sealed is as short as an alert", errUnfinished)
	}
	return sealed, nil
}

// checkLegacy accepts what one side may send in TLS 1.2 and before: handshake in
// clear, a change of cipher, and from then on sealed records, of which the first
// completes the handshake. It returns those.
func (s *tlsSide) checkLegacy() ([]tlswire.Record, error) {
	switch {
	case s.early > 0:
		return nil, errors.New("application data before the handshake was completed")
	case s.broken != nil:
		return nil, s.broken
	case !s.changed && s.heartbeats > 0:
		return nil, fmt.Errorf("%w, and %d heartbeats were sent in clear, as the attack Heartbleed does", errUnfinished, s.heartbeats)
	case !s.changed || len(s.sealed) == 0:
		return nil, errUnfinished
	case s.afterChange > 0:
		return nil, errors.New("a change of cipher in clear behind the first")
	}
	for _, m := range s.messages {
		if !tlswire.KnownMessage(m.Type) {
			return nil, fmt.Errorf("handshake message %d in clear", m.Type)
		}
	}
	first := s.sealed[0]
	if first.Type != tlswire.TypeHandshake || first.Length < minFinished12 || !first.Whole && !s.filled() && len(s.sealed) == 1 {
		return nil, errUnfinished
	}
	for _, r := range s.sealed {
		if r.Length < minSealed12 {
			return nil, fmt.Errorf("a record of %d bytes behind the change of cipher, too short to be sealed", r.Length)
		}
	}
	return s.sealed, nil
}
