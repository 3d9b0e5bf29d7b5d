package verify

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/wireguard"
)

const (
	// wgMessages of one session show it without its handshake, in one direction
	// that is all there is one more.
	wgMessages = 3
	// wgBytes of sealed bytes are the least that such messages must show: the
	// rest may have been cut off by the capture.
	wgBytes = wgMessages * wireguard.Tag
	// wgCounter is more messages than any session has: it lives three minutes.
	wgCounter = 1 << 40
)

// judgeWireGuard recognises WireGuard: by a handshake whose two messages fit, by
// one that is addressed to a known key, or by the counters of several messages.
func judgeWireGuard(f *capture.Flow, knows Knowledge, found *Finding) bool {
	if first, _ := firstDatagram(&f.ToServer); len(first) < 4 || first[0] > byte(wireguard.Data) || first[1]|first[2]|first[3] != 0 {
		return false
	}
	w := wgReading{info: &WireGuardInfo{Handshake: "unseen"}, sessions: map[wgSession]*counter{}}
	for side, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		for c := range datagrams(d) {
			messages, err := wireguard.Split(c.Data, len(c.Data)+c.Cut)
			if err != nil {
				if len(w.sealed) > 0 {
					found.Reason = fmt.Sprintf("begins like WireGuard, but packet %d is not: %v", c.Packet(0), err)
				}
				return false
			}
			for _, m := range messages {
				if err := w.read(side, m, knows); err != nil {
					found.Reason = "looks like WireGuard, but " + err.Error()
					return false
				}
			}
		}
	}
	if len(w.sealed) == 0 {
		return false
	}
	if err := w.shown(found.OneWay); err != nil {
		found.Reason = "looks like WireGuard, but " + err.Error()
		return false
	}
	found.Verdict, found.Seal, found.WireGuard = WireGuard, string(WireGuard), w.info
	return true
}

// wgReading is what was read of a flow. Sides are 0, the client, and 1.
type wgReading struct {
	info    *WireGuardInfo
	asked   []wgSession // the initiations: who sent each, and as what index
	answers []wgSession // the responses: who sent each, and to what index
	// sessions are the data messages by who sent them and to what index.
	sessions map[wgSession]*counter
	sealed   [][]byte
}

// wgSession is one end of a session as the other end names it.
type wgSession struct {
	side  int
	index uint32
}

// read takes in one message that a side sent.
func (w *wgReading) read(side int, m wireguard.Message, knows Knowledge) error {
	w.sealed = append(w.sealed, m.Sealed)
	switch m.Type {
	case wireguard.Initiation:
		w.asked = append(w.asked, wgSession{side, m.Sender})
		w.address(side, m, knows)
	case wireguard.Response:
		w.answers = append(w.answers, wgSession{side, m.Receiver})
		w.address(side, m, knows)
	case wireguard.Data:
		w.info.Messages++
		to := wgSession{side, m.Receiver}
		if w.sessions[to] == nil {
			w.sessions[to] = newCounter()
		}
		if m.Counter >= wgCounter {
			return fmt.Errorf("a counter of %d, which no session gets to", m.Counter)
		}
		return w.sessions[to].add(m.Counter, len(m.Sealed))
	}
	return nil
}

// address names the peer that a handshake message of a side was made for.
func (w *wgReading) address(side int, m wireguard.Message, knows Knowledge) {
	for _, name := range slices.Sorted(maps.Keys(knows.WireGuardKeys)) {
		if !m.AddressedTo(knows.WireGuardKeys[name]) {
			continue
		}
		if side == 0 {
			w.info.Server = name
		} else {
			w.info.Client = name
		}
		return
	}
}

// shown says why what was read does not show WireGuard, or nil if it does.
func (w *wgReading) shown(oneWay bool) error {
	if err := refute(w.sealed, wireguard.Tag); err != nil {
		return err
	}
	for _, answer := range w.answers {
		if slices.Contains(w.asked, wgSession{1 - answer.side, answer.index}) {
			w.info.Handshake = "seen"
		}
	}
	enough := wgMessages
	if oneWay {
		enough++
	}
	several := false
	for to, c := range w.sessions {
		other := w.sessions[wgSession{1 - to.side, to.index}]
		switch {
		case w.info.Handshake != "seen" && other != nil:
			return errors.New("both ends are called by the same index")
		case !c.rises():
			return errors.New("the counter of its messages does not rise")
		case len(c.seen) >= enough && c.bytes >= wgBytes:
			several = true
		}
	}
	switch {
	case w.info.Handshake == "seen", several, w.info.Client != "", w.info.Server != "":
		return nil
	case w.info.Messages > 0:
		return fmt.Errorf("%d messages of data without their handshake are too few to tell", w.info.Messages)
	}
	return errors.New("the handshake was not completed")
}
