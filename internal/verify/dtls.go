package verify

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/dtls"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// One flow of datagrams that may be DTLS:
//
//	1  every datagram is taken apart; what is none is put aside
//	2  messages of the handshake are put together from their fragments
//	3  both hellos say what was agreed on, as in TLS; a client may be asked for a
//	   cookie, or to retry, first
//	4  both sides must go on with records of a later epoch
//	5  nothing readable inside, and all of it could be random
//
// Without hellos records of later epochs must be several, and in order.

// dtlsSide is what one end sent.
type dtlsSide struct {
	name    string
	d       *capture.Direction
	joiner  dtls.Joiner
	clear   []dtls.Record // of epoch 0
	sealed  []dtls.Record // of later epochs
	other   []capture.Chunk
	stun    int
	changed bool
	alerts  []tlswire.Alert
	early   []capture.Chunk // application data of epoch 0, in clear
}

// judgeDTLS recognises DTLS.
func judgeDTLS(f *capture.Flow, knows Knowledge, found *Finding) bool {
	c := &dtlsSide{name: fromClient, d: &f.ToServer}
	s := &dtlsSide{name: fromServer, d: &f.ToClient}
	if !c.looks() && !s.looks() {
		return false
	}
	// A connection id is in the records toward the side that asked for it.
	c.read(0)
	s.read(0)
	idC, idS := c.connectionID(), s.connectionID()
	if len(c.messages())+len(s.messages()) == 0 {
		idS, idC = c.guessID(), s.guessID()
	}
	if idC > 0 || idS > 0 {
		c.read(idS)
		s.read(idC)
	}
	if len(c.clear)+len(c.sealed)+len(s.clear)+len(s.sealed) == 0 {
		return false
	}
	t := &dtlsTalk{found: found, client: c, server: s, guessed: idC > 0 || idS > 0}
	if s.opens() && !c.opens() {
		t.client, t.server = s, c
	}
	err := t.judge()
	if found.Verdict != "" {
		return true
	}
	return t.settle(f, knows, err)
}

// looks reports whether the first datagrams of a direction may be DTLS: a few,
// for others may have found the way for it.
func (s *dtlsSide) looks() bool {
	for _, c := range s.d.Chunks {
		if !isSTUN(c.Data) {
			return dtls.Looks(c.Data)
		}
	}
	return false
}

// isSTUN knows a message of RFC 8489 by its cookie.
func isSTUN(b []byte) bool {
	return len(b) >= 20 && b[0] < 4 && string(b[4:8]) == "\x21\x12\xA4\x42"
}

// read takes the datagrams of a direction apart.
func (s *dtlsSide) read(cid int) {
	*s = dtlsSide{name: s.name, d: s.d}
	for c := range datagrams(s.d) {
		records, err := dtls.Records(c.Data, cid, c.Cut)
		switch {
		case isSTUN(c.Data):
			s.stun++
		case err != nil:
			s.other = append(s.other, c)
		default:
			for _, r := range records {
				s.take(r, c)
			}
		}
	}
}

// take keeps one record of a datagram.
func (s *dtlsSide) take(r dtls.Record, of capture.Chunk) {
	if r.Sealed() {
		s.sealed = append(s.sealed, r)
		return
	}
	s.clear = append(s.clear, r)
	switch r.Type {
	case dtls.TypeHandshake:
		fragments, _ := dtls.Fragments(r.Body)
		for _, f := range fragments {
			s.joiner.Add(f)
		}
	case dtls.TypeChangeCipherSpec:
		s.changed = true
	case dtls.TypeAlert:
		if a, ok := tlswire.ParseAlert(r.Body); ok {
			s.alerts = append(s.alerts, a)
		}
	case dtls.TypeApplicationData, dtls.TypeHeartbeat:
		of.Offset, of.Data, of.Cut = of.Offset+r.Offset, r.Body, r.Length-len(r.Body)
		s.early = append(s.early, of)
	}
}

// messages of the handshake in clear.
func (s *dtlsSide) messages() []tlswire.Message {
	var all []tlswire.Message
	for _, m := range s.joiner.Messages() {
		all = append(all, tlswire.Message{Type: m.Type, Body: m.Body})
	}
	return all
}

// longestID is how long connection ids are looked for.
const longestID = 64

// guessID is the length of connection ids by which every datagram of a direction
// is taken apart to its end, or 0. Each says its own length in 16 bits.
func (s *dtlsSide) guessID() int {
	if len(s.d.Chunks) < 2 {
		return 0
	}
	for cid := range longestID {
		fits := func(c capture.Chunk) bool {
			records, err := dtls.Records(c.Data, cid, c.Cut)
			return err == nil && records[0].Explicit && records[0].Sealed() && bytes.Equal(identity(c, cid), identity(s.d.Chunks[0], cid))
		}
		if !slices.ContainsFunc(s.d.Chunks, func(c capture.Chunk) bool { return !fits(c) }) {
			return cid
		}
	}
	return 0
}

// identity is where a connection id stands in a datagram.
func identity(c capture.Chunk, cid int) []byte {
	at := 1
	if len(c.Data) > 0 && c.Data[0] == dtls.TypeConnectionID {
		at = 11
	}
	return c.Data[min(at, len(c.Data)):min(at+cid, len(c.Data))]
}

// opens reports whether a side sent a ClientHello.
func (s *dtlsSide) opens() bool {
	return slices.ContainsFunc(s.messages(), func(m tlswire.Message) bool { return m.Type == tlswire.HelloClient })
}

// connectionID is the length of the id that a side asked for in its last hello.
func (s *dtlsSide) connectionID() int {
	length := 0
	for _, m := range s.messages() {
		var id []byte
		switch m.Type {
		case tlswire.HelloClient:
			h, _ := tlswire.ParseClientHelloDTLS(m.Body)
			id = h.ConnectionID
		case tlswire.HelloServer:
			h, _ := tlswire.ParseServerHello(m.Body)
			id = h.ConnectionID
		}
		length = max(length, len(id))
	}
	return length
}

// dtlsTalk is a conversation in DTLS as far as it was read.
type dtlsTalk struct {
	found          *Finding
	client, server *dtlsSide
	hello          tlswire.ClientHello
	answer         tlswire.ServerHello
	// guessed: records carry connection ids that no hello explains.
	guessed bool
}

// settle ends the judgement of a flow that is not shown to be sealed: what is no
// DTLS may be plaintext, unless it is keyed by it.
func (t *dtlsTalk) settle(f *capture.Flow, knows Knowledge, err error) bool {
	if len(t.client.clear)+len(t.server.clear) == 0 && !t.guessed {
		t.found.TLS = nil
		return false // it may only look like DTLS
	}
	rest := *f
	rest.ToServer.Chunks, rest.ToClient.Chunks = t.client.foreign(), t.server.foreign()
	if t.client.name == fromServer {
		rest.ToServer.Chunks, rest.ToClient.Chunks = rest.ToClient.Chunks, rest.ToServer.Chunks
	}
	if len(rest.ToServer.Chunks)+len(rest.ToClient.Chunks) > 0 && !t.answer.SRTP && judgeClear(&rest, knows, t.found) {
		t.found.Reason = ""
		return true
	}
	t.found.Verdict, t.found.Reason = Unknown, errUnfinished.Error()
	if err != nil {
		t.found.Reason = err.Error()
	}
	return true
}

// foreign is what no key seals: application data of epoch 0, and the datagrams that
// do not even begin as DTLS; of the others the length of the connection id may only
// not be known.
func (s *dtlsSide) foreign() []capture.Chunk {
	all := slices.Clone(s.early)
	for _, c := range s.other {
		if !dtls.Looks(c.Data) {
			all = append(all, c)
		}
	}
	return all
}

// judge says why the flow is not shown to be sealed, unless it finds a verdict.
func (t *dtlsTalk) judge() error {
	c, s := t.client, t.server
	if len(c.messages())+len(s.messages()) == 0 && len(c.clear)+len(s.clear) == 0 {
		return t.judgeUnseen()
	}
	if err := t.readHellos(); err != nil {
		return err
	}
	suite := tlswire.SuiteOf(t.answer.Cipher)
	if err := t.completed(suite); err != nil {
		return err
	}
	least := sealedRun
	if suite.Known && !suite.Encrypts {
		least = plainRun
	}
	if t.leaks(least) {
		return nil
	}
	if err := errors.Join(t.pure(), t.random(suite, sampled)); err != nil {
		return err
	}
	worth(t.found, DTLS, suite, t.answer.Version)
	t.note()
	return nil
}

// readHellos reads the last hello of each side.
func (t *dtlsTalk) readHellos() error {
	c, s := t.client, t.server
	if c.joiner.Conflict || s.joiner.Conflict {
		return errors.New("a message of the handshake was sent again with another content")
	}
	var err error
	for _, m := range c.messages() {
		if m.Type == tlswire.HelloClient {
			if t.hello, err = tlswire.ParseClientHelloDTLS(m.Body); err != nil {
				return fmt.Errorf("client: %w", err)
			}
			t.found.TLS = offeredInfo(t.hello)
		}
	}
	if t.found.TLS == nil {
		return errors.New("no hello of the client was captured whole")
	}
	hellos := 0
	for _, m := range s.messages() {
		switch m.Type {
		case tlswire.HelloVerifyRequest:
			t.found.TLS.Retried = false
		case tlswire.HelloServer:
			hellos++
			if t.answer, err = tlswire.ParseServerHello(m.Body); err != nil {
				return fmt.Errorf("server: %w", err)
			}
			if t.answer.Random == tlswire.RetryRandom {
				t.found.TLS.Retried = true
				hellos--
			}
		}
	}
	if failed := c.failed() + s.failed(); failed != "" {
		t.found.TLS.Alert = failed
		return fmt.Errorf("the handshake failed: %s", failed)
	}
	if hellos == 0 {
		return errors.New("no hello of the server was captured whole")
	}
	if err := offered(t.hello, t.answer); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	agreed(t.found.TLS, t.answer)
	if !tlswire.Is13(t.answer.Version) {
		describeLegacy(t.found, c.messages(), s.messages(), t.answer.Cipher)
		full := func(m tlswire.Message) bool { return m.Type == tlswire.ServerHelloDone }
		t.found.TLS.Resumed = !slices.ContainsFunc(s.messages(), full) && s.changed
	}
	return nil
}

// failed is the alert that ended the handshake, or empty.
func (s *dtlsSide) failed() string {
	for _, a := range s.alerts {
		if a.Fatal && a.Description != tlswire.AlertCloseNotify {
			return s.name + ": " + tlswire.AlertName(a.Description)
		}
	}
	return ""
}

// completed accepts a handshake that both sides completed.
func (t *dtlsTalk) completed(suite tlswire.Suite) error {
	for _, s := range []*dtlsSide{t.client, t.server} {
		if len(s.early) > 0 {
			return fmt.Errorf("%s: application data before the handshake was completed", s.name)
		}
		length := 0
		for _, r := range s.sealed {
			length += r.Length
		}
		switch {
		case len(s.sealed) == 0:
			return fmt.Errorf("%s: %w", s.name, errUnfinished)
		case tlswire.Is13(t.answer.Version) && length < finished13(suite.Name):
			return fmt.Errorf("%s: %w: what is sealed is as short as an alert", s.name, errUnfinished)
		case !tlswire.Is13(t.answer.Version) && (!s.changed || !slices.ContainsFunc(s.sealed, isFinished)):
			return fmt.Errorf("%s: %w", s.name, errUnfinished)
		}
	}
	return nil
}

// isFinished reports whether a sealed record before DTLS 1.3 may end a handshake.
func isFinished(r dtls.Record) bool {
	return (r.Type == dtls.TypeHandshake || r.Type == dtls.TypeConnectionID) && r.Length >= minFinished12+12-4
}

// pure accepts a flow of nothing but DTLS.
func (t *dtlsTalk) pure() error {
	switch {
	case len(t.client.other)+len(t.server.other) > 0 && t.answer.SRTP:
		return errors.New("beside DTLS there is what may be SRTP, which cannot be shown")
	case len(t.client.other)+len(t.server.other) > 0:
		return fmt.Errorf("beside DTLS there are %d datagrams that are not", len(t.client.other)+len(t.server.other))
	case t.client.stun+t.server.stun > 0:
		return fmt.Errorf("beside DTLS there are %d messages of STUN in clear", t.client.stun+t.server.stun)
	}
	return nil
}

// leaks looks for readable bytes in sealed records.
func (t *dtlsTalk) leaks(least int) bool {
	for _, s := range []*dtlsSide{t.client, t.server} {
		for _, r := range s.sealed {
			at, length := legible(r.Body, least)
			if least == plainRun {
				at, length = legiblePrefix(r.Body)
			}
			if length > 0 {
				raw := r.Body[at : at+length]
				t.found.Verdict, t.found.Protocol = Plaintext, "dtls"
				t.found.Evidence = newEvidence(raw[:min(len(raw), evidenceBytes)], s.packetOf(r), s.name)
				return true
			}
		}
	}
	return false
}

// packetOf is the number of the packet that brought a record.
func (s *dtlsSide) packetOf(r dtls.Record) int {
	for _, c := range s.d.Chunks {
		if r.Offset+len(r.Body) <= len(c.Data) && len(r.Body) > 0 && &c.Data[r.Offset] == &r.Body[0] {
			return c.Packet(r.Offset)
		}
	}
	return 0
}

// random accepts sealed records that could be random.
func (t *dtlsTalk) random(suite tlswire.Suite, most int) error {
	if suite.Known && !suite.Encrypts {
		return nil
	}
	for _, s := range []*dtlsSide{t.client, t.server} {
		if !looksSealed(asTLS(s.sealed), most) {
			return errors.New("the records that should be sealed do not look random")
		}
	}
	return nil
}

// asTLS is records as TLS has them, as far as their content goes.
func asTLS(records []dtls.Record) []tlswire.Record {
	all := make([]tlswire.Record, 0, len(records))
	for _, r := range records {
		all = append(all, tlswire.Record{Type: tlswire.TypeApplicationData, Body: r.Body, Length: r.Length, Whole: r.Whole()})
	}
	return all
}

// note adds what is worth knowing.
func (t *dtlsTalk) note() {
	if t.hello.EarlyData {
		t.found.Notes = append(t.found.Notes, "early data (0-RTT) was offered: it can be replayed")
	}
	if len(t.hello.ConnectionID)+len(t.answer.ConnectionID) > 0 {
		t.found.Notes = append(t.found.Notes, "records carry connection ids")
	}
}
