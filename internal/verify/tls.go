package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// One flow that may be TLS:
//
//	1  upgrade.go     what stood in clear before it; the rest is judged as TLS
//	2  tls_side.go    records of each direction, across gaps if their headers line up
//	3  tls.go         both hellos: what was agreed on
//	4  tls_check.go   every record held against that; was the handshake completed
//	5  tls_text.go    nothing readable inside records, and all of it could be random
//	6  tls_worth.go   what the agreement is worth
//
// Without hellos tls_unseen.go decides; SSL 2.0 is read by tls_sslv2.go. What
// begins as TLS and is not shown to be sealed is judged by what is not TLS of it,
// so that a certificate in clear is no evidence.

// judgeTLS recognises TLS, also behind what led to it.
func judgeTLS(f *capture.Flow, knows Knowledge, found *Finding) bool {
	if up := findUpgrade(f); up != nil {
		return judgeUpgrade(f, knows, found, up)
	}
	if judgeTunnel(f, knows, found) {
		return true
	}
	if cut := cutUpgrade(f); cut != "" {
		found.Verdict, found.Reason = Unknown, "what follows "+cut+" was not captured whole"
		return true
	}
	return judgeRecords(f, knows, found, [2]int{})
}

// judgeRecords judges a flow that begins with TLS, if it is TLS at all; so many
// bytes before it were taken off.
func judgeRecords(f *capture.Flow, knows Knowledge, found *Finding, skipped [2]int) bool {
	t := &tlsTalk{found: found, client: newSide(&f.ToServer, fromClient), server: newSide(&f.ToClient, fromServer)}
	t.client.skipped, t.server.skipped = skipped[0], skipped[1]
	if t.server.hello(tlswire.HelloClient) && !t.client.hello(tlswire.HelloClient) {
		t.client, t.server = t.server, t.client // as FTP has it
	}
	began := f.ToServer.Began || f.ToClient.Began
	switch {
	case t.beginsSSL2():
		t.refuse(t.judgeSSL2())
	case !began && !t.client.hello(tlswire.HelloClient) && !t.server.hello(tlswire.HelloServer):
		if t.refuse(t.judgeUnseen()); found.TLS == nil && len(t.client.records)+len(t.server.records) == 0 {
			return false
		}
	case len(t.client.records)+len(t.server.records) == 0:
		for _, s := range []*tlsSide{t.client, t.server} {
			if s.d.Missing > 0 || s.d.Conflict {
				t.refuse(s.whole())
			}
		}
		return false
	case f.ToServer.Packets == 0 || f.ToClient.Packets == 0:
		t.refuse(t.judgeOneWay())
	default:
		t.refuse(t.judgeSeen())
	}
	return t.settle(f, knows)
}

// tlsTalk is a conversation in TLS as far as it was read.
type tlsTalk struct {
	found          *Finding
	client, server *tlsSide
	hello          tlswire.ClientHello
	hello2         tlswire.ClientHelloV2 // if it has the form of SSL 2.0
	answer         tlswire.ServerHello
	retried        bool
}

// refuse notes why the flow is not shown to be sealed.
func (t *tlsTalk) refuse(err error) {
	if err != nil {
		t.found.Reason = err.Error()
	}
}

// settle ends the judgement of a flow that begins with TLS: if it is not sealed,
// the bytes that are not TLS may be plaintext.
func (t *tlsTalk) settle(f *capture.Flow, knows Knowledge) bool {
	if t.found.Verdict != "" {
		if t.found.Midstream && t.found.Verdict.Seals() {
			t.found.Notes = append(t.found.Notes, "the beginning was not captured")
		}
		return true
	}
	if evidence := t.textInRecords(); evidence != nil {
		t.found.Verdict, t.found.Protocol, t.found.Evidence, t.found.Reason = Plaintext, "tls", evidence, ""
		return true
	}
	reason := t.found.Reason
	rest := *f
	rest.ToServer, rest.ToClient = t.client.remainder(), t.server.remainder()
	if t.client.name == fromServer {
		rest.ToServer, rest.ToClient = rest.ToClient, rest.ToServer
	}
	if len(rest.ToServer.Chunks)+len(rest.ToClient.Chunks) > 0 && judgeClear(&rest, knows, t.found) {
		t.found.Reason = ""
		return true
	}
	t.found.Verdict, t.found.Reason = Unknown, reason
	if reason == "" {
		t.found.Reason = errUnfinished.Error()
	}
	return true
}

// remainder is what is no record of a side. Behind a gap that a header fell into
// it cannot be told from a handshake in clear.
func (s *tlsSide) remainder() capture.Direction {
	if s.lost || len(s.rest) == 0 && len(s.records) > 0 {
		return capture.Direction{Packets: s.d.Packets, Began: s.d.Began}
	}
	if len(s.records) == 0 {
		return *s.d
	}
	return s.d.Behind(s.at)
}

// judgeSeen reads both hellos, and holds every record that follows against what
// they agreed on. An error says why the flow is not shown to be sealed.
func (t *tlsTalk) judgeSeen() error {
	if err := t.readHellos(); err != nil {
		return err
	}
	t.describe()
	suite := tlswire.SuiteOf(t.answer.Cipher)
	sealedC, sealedS, err := t.completed(suite)
	if err != nil {
		return err
	}
	if err := bothWhole(t.client, t.server); err != nil {
		return err
	}
	least := sealedRun
	if suite.Known && !suite.Encrypts {
		least = plainRun
	}
	if t.leaks(sealedC, sealedS, least) {
		return nil
	}
	if suite.Encrypts {
		if err := t.shown(sealedC, sealedS); err != nil || t.found.Verdict != "" {
			return err
		}
	}
	worth(t.found, TLS, suite, t.answer.Version)
	t.weaken()
	t.note()
	return nil
}

// shown says why records that a handshake sealed are not shown to be, or nil; or
// finds it.
func (t *tlsTalk) shown(client, server []tlswire.Record) error {
	if !looksSealed(client, sampled) || !looksSealed(server, sampled) {
		return errors.New("the records that should be sealed do not look random")
	}
	is13 := tlswire.Is13(t.answer.Version)
	for _, s := range []*tlsSide{t.client, t.server} {
		if evidence := s.finishedInClear(); evidence != nil && !is13 {
			t.found.Verdict, t.found.Protocol, t.found.Evidence = Plaintext, "tls", evidence
			return nil
		}
	}
	if err := headsSealed(client, !is13, leadBits); err != nil {
		return err
	}
	return headsSealed(server, !is13, leadBits)
}

// leaks looks for readable bytes in sealed records.
func (t *tlsTalk) leaks(client, server []tlswire.Record, least int) bool {
	evidence := legibleIn(t.client.d, client, least, fromClient)
	if evidence == nil {
		evidence = legibleIn(t.server.d, server, least, fromServer)
	}
	if evidence == nil {
		return false
	}
	t.found.Verdict, t.found.Protocol, t.found.Evidence = Plaintext, "tls", evidence
	return true
}

// readHellos reads the hello of each side, the last one of the server.
func (t *tlsTalk) readHellos() error {
	c, s := t.client, t.server
	if t.hello.SSL2 {
		return t.readAnswer(s)
	}
	m, err := c.first()
	switch {
	case err == nil && m.Type != tlswire.HelloClient:
		err = fmt.Errorf("begins with handshake message %d, not a ClientHello", m.Type)
	case err == nil:
		t.hello, err = tlswire.ParseClientHello(m.Body)
	}
	if err != nil {
		if whole := c.whole(); whole != nil && (c.lost || len(c.d.Chunks) == 0) {
			return whole
		}
		return fmt.Errorf("client: %w", err)
	}
	return t.readAnswer(s)
}

// readAnswer reads the server's hello.
func (t *tlsTalk) readAnswer(s *tlsSide) error {
	t.found.TLS = offeredInfo(t.hello)
	m, err := s.first()
	if err != nil {
		s.readLegacy()
		t.found.TLS.Alert = s.warned()
		if failed := s.failed(); failed != "" {
			return fmt.Errorf("the handshake failed: %s", failed)
		}
		if whole := s.whole(); whole != nil && len(s.records) == 0 && len(s.rest) == 0 {
			return whole
		}
		return fmt.Errorf("server: %w", err)
	}
	if t.answer, t.retried, err = lastServerHello(s, m); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if err := offered(t.hello, t.answer); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// lastServerHello reads the hello that counts: the second one if the first asks
// the client to retry.
func lastServerHello(s *tlsSide, first tlswire.Message) (hello tlswire.ServerHello, retried bool, err error) {
	retry := first.Type == tlswire.HelloRetryDraft
	if !retry && first.Type != tlswire.HelloServer {
		return hello, false, fmt.Errorf("begins with handshake message %d, not a ServerHello", first.Type)
	}
	if !retry {
		hello, err = tlswire.ParseServerHello(first.Body)
		if err != nil || hello.Random != tlswire.RetryRandom {
			return hello, false, err
		}
	}
	s.read13()
	if len(s.messages) < 2 {
		return hello, true, fmt.Errorf("%w: the server asked for another hello", errUnfinished)
	}
	if s.messages[1].Type != tlswire.HelloServer {
		return hello, true, fmt.Errorf("goes on with handshake message %d, not a ServerHello", s.messages[1].Type)
	}
	hello, err = tlswire.ParseServerHello(s.messages[1].Body)
	return hello, true, err
}

// offered accepts an answer that a client with this hello would accept.
func offered(hello tlswire.ClientHello, answer tlswire.ServerHello) error {
	is13 := tlswire.Is13(answer.Version)
	switch {
	case !tlswire.KnownVersion(answer.Version):
		return fmt.Errorf("answers with version %s, which is not known here", tlswire.VersionName(answer.Version))
	case !slices.Contains(hello.Ciphers, answer.Cipher):
		return fmt.Errorf("answers with cipher suite %s, which was not offered", tlswire.CipherName(answer.Cipher))
	case is13 && !slices.Contains(hello.Versions, answer.Version):
		return fmt.Errorf("answers with TLS %s, which was not offered", tlswire.VersionName(answer.Version))
	case answer.Version == tlswire.Version13 && tlswire.SuiteOf(answer.Cipher).Known && !tlswire.SuiteOf(answer.Cipher).TLS13:
		return fmt.Errorf("answers with cipher suite %s, which TLS 1.3 does not have", tlswire.CipherName(answer.Cipher))
	case !is13 && tlswire.SuiteOf(answer.Cipher).TLS13:
		return fmt.Errorf("answers with %s, which no version before TLS 1.3 has", tlswire.CipherName(answer.Cipher))
	case answer.Group != 0 && !slices.Contains(hello.Groups, answer.Group):
		return fmt.Errorf("answers with group %s, which was not offered", tlswire.GroupName(answer.Group))
	}
	return nil
}

// completed accepts a handshake that both sides completed, and returns the
// records that are sealed by it.
func (t *tlsTalk) completed(suite tlswire.Suite) (client, server []tlswire.Record, err error) {
	c, s := t.client, t.server
	if failed := c.failed() + s.failed(); failed != "" {
		return nil, nil, fmt.Errorf("the handshake failed: %s", failed)
	}
	c.opens = true
	check := func(s *tlsSide, _ int) ([]tlswire.Record, error) { return s.checkLegacy() }
	hellosC, hellosS := 1, 1
	if t.retried {
		hellosC, hellosS = 2, 2
	}
	if tlswire.Is13(t.answer.Version) {
		check = func(s *tlsSide, hellos int) ([]tlswire.Record, error) { return s.check13(hellos, suite.Name) }
	}
	if client, err = check(c, hellosC); err != nil {
		return nil, nil, orMissing(err, c)
	}
	if server, err = check(s, hellosS); unfinished(err) && t.certificatesFill(client) {
		t.found.Notes = append(t.found.Notes, "the server's part of the handshake fills what was kept of it")
		return client, nil, nil
	}
	if err != nil {
		return nil, nil, orMissing(err, s)
	}
	if tlswire.Is13(t.answer.Version) && t.turnedAway(client, server, suite.Name) {
		return nil, nil, fmt.Errorf("%w: an alert is all that the server said to what the client sent for a certificate", errUnfinished)
	}
	return client, server, nil
}

func unfinished(err error) bool {
	return errors.Is(err, errUnfinished) || errors.Is(err, tlswire.ErrBreaksOff)
}

// certificatesFill reports whether the handshake of the server, before TLS 1.3,
// is longer than what is kept, and the client went on behind it.
func (t *tlsTalk) certificatesFill(client []tlswire.Record) bool {
	s := t.server
	other := func(r tlswire.Record) bool { return r.Type != tlswire.TypeHandshake }
	return !slices.ContainsFunc(s.records, other) && s.filled() && !s.lost && accepted(client, tlswire.Is13(t.answer.Version), 1<<14) == nil
}

// offeredInfo is what a ClientHello says.
func offeredInfo(hello tlswire.ClientHello) *TLSInfo {
	return &TLSInfo{
		SNI:         hello.ServerName,
		ALPNOffered: hello.Protocols,
		Handshake:   "seen",
		ECH:         hello.ECH,
		Random:      hex.EncodeToString(hello.Random[:]),
	}
}

// agreed adds what a ServerHello says.
func agreed(info *TLSInfo, answer tlswire.ServerHello) {
	info.Version = tlswire.VersionName(answer.Version)
	info.Cipher = tlswire.CipherName(answer.Cipher)
	info.ALPN = answer.Protocol
	if answer.Group != 0 {
		info.Group = tlswire.GroupName(answer.Group)
	}
	info.Resumed = tlswire.Is13(answer.Version) && answer.PreSharedKey
}

// describe fills in what both hellos and the messages in clear say.
func (t *tlsTalk) describe() {
	c, s := t.client, t.server
	agreed(t.found.TLS, t.answer)
	t.found.TLS.Retried = t.retried
	if tlswire.Is13(t.answer.Version) {
		c.read13()
		s.read13()
	} else {
		c.readLegacy()
		s.readLegacy()
		describeLegacy(t.found, c.messages, s.messages, t.answer.Cipher)
		_, full := s.message(tlswire.ServerHelloDone)
		t.found.TLS.Resumed = !full && s.changed && s.broken == nil
	}
	if t.found.TLS.Alert = c.warned(); t.found.TLS.Alert == "" || c.failed() == "" && s.failed() != "" {
		if warned := s.warned(); warned != "" {
			t.found.TLS.Alert = warned
		}
	}
}

// describeLegacy fills in what a handshake before TLS 1.3 says in clear.
func describeLegacy(found *Finding, client, server []tlswire.Message, cipher uint16) {
	for _, m := range server {
		switch m.Type {
		case tlswire.CertificateMessage:
			if der, ok := tlswire.Leaf(m.Body); ok && der != nil {
				found.TLS.ServerCert = describeCertificate(der)
			}
		case tlswire.CertificateRequest:
			found.TLS.ClientCertRequested = true
		case tlswire.ServerKeyExchange:
			if kx, ok := tlswire.ParseKeyExchange(m.Body, cipher); ok {
				exchanged(found, kx)
			}
		}
	}
	for _, m := range client {
		if m.Type != tlswire.CertificateMessage {
			continue
		}
		if der, ok := tlswire.Leaf(m.Body); ok && der != nil {
			found.TLS.ClientCert = describeCertificate(der)
		}
	}
}

// weaken adds what the key exchange before TLS 1.3 is worth.
func (t *tlsTalk) weaken() {
	if body, ok := t.server.message(tlswire.ServerKeyExchange); ok && !tlswire.Is13(t.answer.Version) {
		if kx, ok := tlswire.ParseKeyExchange(body, t.answer.Cipher); ok {
			weakPrimes(t.found, kx)
		}
	}
}

// note adds what is worth knowing of a handshake.
func (t *tlsTalk) note() {
	say := func(yes bool, what string) {
		if yes {
			t.found.Notes = append(t.found.Notes, what)
		}
	}
	is13 := tlswire.Is13(t.answer.Version)
	say(t.hello.EarlyData, "early data (0-RTT) was offered: it can be replayed")
	say(t.hello.ECH, "an encrypted hello (ECH) was offered, or what cannot be told from one: the SNI may be a public name")
	say(is13 && t.answer.Group == 0, "no group: the key is as safe as the one that was resumed")
	say(tlswire.IsDraft13(t.answer.Version), "a draft of TLS 1.3")
	say(t.hello.SSL2, "the hello has the form of SSL 2.0")
	if missing := gaps(t.client.d) + gaps(t.server.d); missing > 0 {
		say(true, fmt.Sprintf("%d bytes inside records were not captured", missing))
	}
}
