package cli

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/decrypt"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// turn is what one side says until the other does, or what is to be noted of it.
type turn struct {
	from   decrypt.Side
	packet int // 0 if unknown
	offset int // of data in its direction
	data   []byte
	own    bool   // data is in memory of its own
	hidden int    // bytes that are not shown, instead of data
	note   string // instead of data
}

// story is a flow as it is told: what is known of it, then what was said.
type story struct {
	head  []string
	turns []turn
	ends  []turn // where directions could not be read on
}

// tell makes the story of a flow, decrypted if the keys are there. What is
// encrypted is shown as it was on the wire in raw form only.
func tell(f *followed, keys *decrypt.Keys, raw bool) story {
	found := verify.Judge(f.Flow, verify.Knowledge{})
	s := story{head: []string{fmt.Sprintf("flow %d  %s → %s  %s", f.number, found.Src, found.Dst, f.Proto)}}
	session, err := decrypt.Decrypt(f.Flow, keys)
	switch {
	case err == nil:
		s.decrypted(session)
	case errors.Is(err, decrypt.ErrNotTLS):
		shown := 0
		if !found.Verdict.Seals() || raw {
			shown = math.MaxInt
		}
		s.onTheWire(f, [2]int{shown, shown})
		s.head = append(s.head, strings.TrimSpace("as it was on the wire: "+string(found.Verdict)+" "+found.Protocol))
	default:
		s.notDecrypted(f, session, err, keys.Sessions() > 0, raw)
	}
	if f.cut {
		s.head = append(s.head, "the capture ends in the middle of a packet")
	}
	s.incomplete(f)
	s.turns = joined(s.turns)
	return s
}

// notDecrypted tells what was said before TLS began, or everything in raw form.
func (s *story) notDecrypted(f *followed, session *decrypt.Session, err error, keys, raw bool) {
	if errors.Is(err, decrypt.ErrNoKeys) && !keys {
		err = errors.New("neither the capture nor --keys has session secrets")
	}
	s.head = append(s.head, "TLS, not decrypted: "+err.Error())
	shown := [2]int{math.MaxInt, math.MaxInt}
	if !raw {
		shown = [2]int{}
		for _, p := range session.Data {
			shown[p.From] = max(shown[p.From], p.Offset+len(p.Data))
		}
	}
	s.onTheWire(f, shown)
}

// decrypted tells what was said inside TLS.
func (s *story) decrypted(session *decrypt.Session) {
	what := fmt.Sprintf("%s %s, decrypted with its session secrets", tls.VersionName(session.Version), tls.CipherSuiteName(session.Cipher))
	if session.Protocol != "" {
		what += ", protocol " + neutral(session.Protocol)
	}
	s.head = append(s.head, what)
	for side, p := range session.Peers {
		if p.ID == "" {
			continue
		}
		how := "as its certificate says"
		if p.Proven {
			how = "proven by its signature in this handshake"
		}
		s.head = append(s.head, fmt.Sprintf("%s %s, %s", decrypt.Side(side), neutral(p.ID), how))
	}
	if session.Skipped > 0 {
		s.head = append(s.head, fmt.Sprintf("%d records before the first that the keys open are not shown", session.Skipped))
	}
	var lanes [2]decrypt.Frames
	for _, piece := range session.Data {
		t := turn{from: piece.From, packet: piece.Packet, offset: piece.Offset, data: piece.Data}
		if session.Protocol != decrypt.LaneProtocol || piece.Clear {
			s.turns = append(s.turns, t)
			continue
		}
		s.unwrap(&lanes[piece.From], t)
	}
	for side, stop := range session.Stops {
		if stop != nil {
			s.ends = append(s.ends, turn{from: decrypt.Side(side), packet: stop.Packet, note: "cannot be read on " + stop.String()})
		}
	}
}

// unwrap tells what applications said in the frames of a lane.
func (s *story) unwrap(lane *decrypt.Frames, t turn) {
	frames, err := lane.Add(t.data)
	for _, f := range frames {
		part := turn{from: t.from, packet: t.packet, offset: t.offset, data: f.Data}
		switch f.Kind {
		case decrypt.Data:
		case decrypt.Open:
			part.note = fmt.Sprintf("stream %d opens to %s", f.Stream, f.Destination)
		case decrypt.Fin:
			part.note = fmt.Sprintf("stream %d: end", f.Stream)
		case decrypt.Reset:
			part.note = fmt.Sprintf("stream %d: reset, %s", f.Stream, f.Code)
		case decrypt.Drain:
			part.note = "asks for no further stream"
		}
		s.turns = append(s.turns, part)
	}
	if err != nil {
		s.turns = append(s.turns, turn{from: t.from, packet: t.packet, note: err.Error()})
	}
}

// onTheWire tells the bytes as they were captured up to an offset in each
// direction, and of those behind it only how many they are.
func (s *story) onTheWire(f *followed, shown [2]int) {
	for side, d := range [...]*capture.Direction{&f.ToServer, &f.ToClient} {
		end := 0
		for _, c := range d.Chunks {
			at := c.Offset
			for packet, data := range c.Pieces() {
				if at > end && (f.Proto == capture.TCP || end > 0) {
					s.turns = append(s.turns, turn{from: decrypt.Side(side), packet: packet, note: missing(at - end)})
				}
				open := min(max(shown[side]-at, 0), len(data))
				if open > 0 {
					s.turns = append(s.turns, turn{from: decrypt.Side(side), packet: packet, offset: at, data: data[:open]})
				}
				if open < len(data) {
					s.turns = append(s.turns, turn{from: decrypt.Side(side), packet: packet, offset: at + open, hidden: len(data) - open})
				}
				at += len(data)
				end = at
			}
			if c.Cut > 0 {
				s.turns = append(s.turns, turn{from: decrypt.Side(side), packet: c.Packet(len(c.Data) - 1), note: missing(c.Cut)})
				end += c.Cut
			}
		}
	}
	slices.SortStableFunc(s.turns, func(a, b turn) int { return cmp.Compare(a.packet, b.packet) })
}

func missing(n int) string { return fmt.Sprintf("%d bytes are not in the capture", n) }

// incomplete tells what of a direction was not read, or is not there.
func (s *story) incomplete(f *followed) {
	for side, d := range [...]*capture.Direction{&f.ToServer, &f.ToClient} {
		kept, end := 0, 0
		for _, c := range d.Chunks {
			kept += len(c.Data)
			end = c.Offset + len(c.Data) + c.Cut
		}
		if kept >= f.limit && d.Bytes > int64(kept) {
			s.ends = append(s.ends, turn{from: decrypt.Side(side), note: fmt.Sprintf("cut after %d bytes of about %d: --limit shows more", end, d.Bytes)})
		}
		if d.Missing > 0 && f.Proto == capture.TCP {
			s.ends = append(s.ends, turn{from: decrypt.Side(side), note: "in all, " + missing(int(d.Missing))})
		}
		if d.Conflict {
			s.ends = append(s.ends, turn{from: decrypt.Side(side), note: "bytes were sent twice with another content: the first are shown"})
		}
		if d.Packets == 0 {
			s.ends = append(s.ends, turn{from: decrypt.Side(side), note: "not a packet of this direction is in the capture"})
		}
	}
}

// joined puts together what one side says without the other between. Bytes that
// are not shown are counted together.
func joined(turns []turn) []turn {
	var all []turn
	for _, t := range turns {
		if n := len(all); n > 0 && t.note == "" && all[n-1].note == "" && all[n-1].from == t.from && (t.hidden > 0) == (all[n-1].hidden > 0) {
			last := &all[n-1]
			last.hidden += t.hidden
			if !last.own {
				last.data, last.own = slices.Clip(last.data), true // what follows in memory is another's
			}
			last.data = append(last.data, t.data...)
			continue
		}
		all = append(all, t)
	}
	return all
}
