package verify

import (
	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/clear"
	chance "github.com/sealmesh/sealmesh/internal/dissect/random"
)

// One flow that may be in clear:
//
//	1  what belongs to a handshake that seals is left out    plaintext.go
//	2  a form whose content may be sealed ends it here       dissect/clear
//	3  the messages of a known protocol                      dissect/clear
//	4  a text, in ASCII, UTF-8 or UTF-16                      plaintext.go
//	5  a pattern: the same byte again and again, or counting plaintext.go
//
// What is left is unknown, and the reason says what it may be.

// talkParts is how many runs or datagrams of a direction are looked at.
const talkParts = 1024

// judgeClear names what is in clear, with the bytes that show it.
func judgeClear(f *capture.Flow, _ Knowledge, found *Finding) bool {
	t := newClearTalk(f)
	if reason := clear.Sealing(&t.Talk); reason != "" {
		if found.Reason == "" {
			found.Reason = reason
		}
		return false
	}
	m, ok := clear.Recognize(&t.Talk)
	if ok && m.Protocol == "stun" && t.left != "" { // it only finds the way
		found.Reason = "beside a part of " + t.left + " there is STUN in clear"
		return false
	}
	if ok {
		found.Verdict, found.Protocol = Plaintext, m.Protocol
		found.Evidence = t.quote(m.FromServer, m.Part, m.Offset, m.Length)
		return true
	}
	if e := t.pattern(); t.icmp && e != nil {
		found.Verdict, found.Protocol, found.Evidence = Plaintext, "icmp-echo", e
		return true
	}
	if e := t.text(); e != nil {
		found.Verdict, found.Protocol, found.Evidence = Plaintext, clear.NameText(&t.Talk), e
		return true
	}
	// What another recognizer has a reason for may be a handshake, and padded.
	if e := t.pattern(); e != nil && (found.Reason == "" || t.wholly()) {
		found.Verdict, found.Protocol, found.Evidence = Plaintext, "pattern", e
		return true
	}
	if hint := t.hint(); found.Reason == "" || hint != "" && t.wholly() && found.TLS == nil {
		found.Reason = hint
	}
	return false
}

// wholly reports a stream whose beginnings were seen, and no handshake.
func (t *clearTalk) wholly() bool {
	return !t.Datagrams && t.left == "" && (t.Client.Start || len(t.chunks[0]) == 0) && (t.Server.Start || len(t.chunks[1]) == 0)
}

// clearTalk is a flow without what belongs to handshakes.
type clearTalk struct {
	clear.Talk
	chunks [2][]capture.Chunk // by side, as in Talk, without what was left out
	whole  [2]bool            // by side: all that was sent is there, nothing was left out
	icmp   bool
	left   string // what was left out, "" if nothing
}

func newClearTalk(f *capture.Flow) *clearTalk {
	t := &clearTalk{icmp: f.Proto == capture.ICMP || f.Proto == capture.ICMPv6}
	t.Datagrams = f.Proto != capture.TCP
	t.ClientPort, t.ServerPort = f.Client.Port(), f.Server.Port()
	for i, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		side := []*clear.Side{&t.Client, &t.Server}[i]
		side.Start = d.Began && len(d.Chunks) > 0 && d.Chunks[0].Offset == 0
		t.whole[i] = d.Missing == 0 && (t.Datagrams || side.Start)
		for j, c := range d.Chunks {
			if j == talkParts {
				t.whole[i] = false
				break
			}
			t.add(i, side, c, j == 0 && side.Start)
		}
	}
	return t
}

// add takes one chunk, or what of it belongs to no handshake.
func (t *clearTalk) add(i int, side *clear.Side, c capture.Chunk, start bool) {
	if !t.Datagrams {
		c = behindTunnel(c)
	}
	rest, name := unsealed(c.Data, start, t.Datagrams)
	if name != "" {
		t.left, t.whole[i] = name, t.whole[i] && start && len(rest) > 0
	}
	if len(rest) == 0 {
		if start {
			side.Start = false
		}
		return
	}
	c.Data = c.Data[:len(rest)]
	t.chunks[i] = append(t.chunks[i], c)
	side.Parts = append(side.Parts, clear.Part{Data: rest, Cut: c.Cut > 0})
}

func (t *clearTalk) quote(server bool, part, at, length int) *Evidence {
	i, from := 0, fromClient
	if server {
		i, from = 1, fromServer
	}
	return evidence(t.chunks[i][part], at, length, from)
}

// hint says what bytes that are neither clear nor known to be sealed may be.
func (t *clearTalk) hint() string {
	var all []byte
	for _, chunks := range t.chunks {
		for i, c := range chunks {
			if i == 0 {
				if name := clear.Compressed(c.Data); name != "" {
					return name + " data: compressed, and as far as its header tells not encrypted"
				}
			}
			all = append(all, c.Data...)
		}
	}
	switch {
	case len(all) == 0 && t.left != "":
		return "nothing but a part of " + t.left + " was seen"
	case len(all) >= 64 && !chance.Plausible(all):
		return "of no protocol that is known here, and not random: most likely not encrypted"
	case len(all) > 0 && len(all) < 16:
		return "too few bytes to tell"
	}
	return ""
}
