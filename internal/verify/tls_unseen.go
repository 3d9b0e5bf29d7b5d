package verify

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/dissect/clear"
	randomness "github.com/sealmesh/sealmesh/internal/dissect/random"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// How many whole records show TLS without its handshake: in both directions
// together with one in each, or in one direction alone.
const (
	recordsBoth  = 3
	recordsAlone = 4
	// sampledUnseen is how much of each direction is asked to look random.
	sampledUnseen = 2048
	// leastUnseen is a body that seals a byte.
	leastUnseen = 17
	// unseenRun is how many readable bytes deny it.
	unseenRun = 24
	// macOnly is a record that is full, with an SHA-1 MAC and nothing else.
	macOnly = 1<<14 + 20
	// leastLead is how much of a record's end can be asked to look random.
	leastLead = 64
)

// judgeUnseen judges a flow joined after its handshake: nothing but records of
// one version, several of them, and all could be random.
func (t *tlsTalk) judgeUnseen() error {
	c, s := t.client, t.server
	if err := c.unseen(); err != nil {
		return err
	}
	if err := s.unseen(); err != nil {
		return err
	}
	both := len(c.d.Chunks) > 0 && len(s.d.Chunks) > 0
	wholeC, wholeS := c.wholeRecords(), s.wholeRecords()
	least := recordsAlone
	if both {
		least = recordsBoth
	}
	few := len(wholeC)+len(wholeS) < least
	if len(wholeC)+len(wholeS) == 0 || both && (len(wholeC) == 0 || len(wholeS) == 0) {
		return errors.New("no whole record of one direction, to show TLS without its handshake")
	}
	version := slices.Concat(wholeC, wholeS)[0].Version
	for _, r := range slices.Concat(c.records, s.records) {
		if r.Length == macOnly {
			return fmt.Errorf("a record of %d bytes, as without a cipher or with RC4", r.Length)
		}
		if r.Version != version {
			return errors.New("records of several versions")
		}
	}
	t.found.TLS = &TLSInfo{Handshake: "unseen"}
	if t.leaks(c.records, s.records, unseenRun) {
		return nil
	}
	for _, records := range [][]tlswire.Record{wholeC, wholeS} {
		if !looksSealed(records, sampledUnseen) || !unrelated(records) {
			return errors.New("the records do not look random")
		}
	}
	if err := headsSealed(slices.Concat(c.records, s.records), true, leadBitsUnseen); err != nil {
		return err
	}
	if !noncesSealed(c.records) || !noncesSealed(s.records) {
		return errors.New("what begins the records neither counts nor looks random")
	}
	if few {
		return errFewRecords
	}
	t.found.Verdict, t.found.Seal = TLS, string(TLS)
	if version < tlswire.Version12 {
		t.found.TLS.Version = tlswire.VersionName(version)
		t.found.Weak = append(t.found.Weak, tlsName(version))
	}
	t.found.Notes = append(t.found.Notes, "the handshake was not captured: neither version nor cipher suite is known for certain")
	return nil
}

// errFewRecords: nothing speaks against TLS but that there is so little of it.
// Proxies at both ends can vouch for the rest (attest.go).
var errFewRecords = errors.New("too few records to show TLS without its handshake")

// unrelated holds the bodies of records against each other.
func unrelated(records []tlswire.Record) bool {
	var bodies [][]byte
	for _, r := range records {
		if len(r.Body) > nonceBytes {
			bodies = append(bodies, r.Body[nonceBytes:])
		}
	}
	return randomness.Unrelated(bodies)
}

// unseen accepts a side of which every record is sealed.
func (s *tlsSide) unseen() error {
	if len(s.d.Chunks) == 0 && !s.d.Conflict {
		return nil
	}
	if err := s.whole(); err != nil {
		return err
	}
	if len(s.lead) > 0 {
		_, readable := legible(s.lead, unseenRun)
		if len(s.lead) < leastLead || readable > 0 || clear.Prefix(s.lead).Bits >= leadBitsUnseen || !randomness.Plausible(s.lead) || s.records[0].Type != tlswire.TypeApplicationData {
			return fmt.Errorf("%s: joined in the middle of what may be a handshake", s.name)
		}
	}
	for _, r := range s.records {
		switch {
		case r.Version < tlswire.Version10:
			return fmt.Errorf("%s: records of %s without a handshake", s.name, tlswire.VersionName(r.Version))
		case r.Type == tlswire.TypeApplicationData && r.Length >= leastUnseen && r.Length <= tlswire.MaxBody12:
		case r.Type == tlswire.TypeAlert && r.Length >= leastUnseen+1:
		default:
			return fmt.Errorf("%s: a record of type %d and %d bytes without a handshake before it", s.name, r.Type, r.Length)
		}
	}
	return nil
}

// wholeRecords are those of application data that were captured whole.
func (s *tlsSide) wholeRecords() []tlswire.Record {
	var whole []tlswire.Record
	for _, r := range s.records {
		if r.Whole && r.Type == tlswire.TypeApplicationData {
			whole = append(whole, r)
		}
	}
	return whole
}

// judgeOneWay judges a flow of which one direction was captured: its hello, and
// sealed records behind it.
func (t *tlsTalk) judgeOneWay() error {
	if len(t.client.d.Chunks) > 0 {
		return t.judgeClientAlone()
	}
	return t.judgeServerAlone()
}

// judgeServerAlone knows what was agreed on.
func (t *tlsTalk) judgeServerAlone() error {
	s := t.server
	m, err := s.first()
	if err == nil {
		t.answer, t.retried, err = lastServerHello(s, m)
	}
	if err == nil && !tlswire.KnownVersion(t.answer.Version) {
		err = fmt.Errorf("version %s, which is not known here", tlswire.VersionName(t.answer.Version))
	}
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	t.found.TLS = &TLSInfo{Handshake: "seen"}
	t.describe()
	suite := tlswire.SuiteOf(t.answer.Cipher)
	if failed := s.failed(); failed != "" {
		return fmt.Errorf("the handshake failed: %s", failed)
	}
	var sealed []tlswire.Record
	switch {
	case !tlswire.Is13(t.answer.Version):
		sealed, err = s.checkLegacy()
	case t.retried:
		sealed, err = s.check13(2, suite.Name)
	default:
		sealed, err = s.check13(1, suite.Name)
	}
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	const flight = 5 // records of a server's part of the handshake in TLS 1.3
	if err := accepted(sealed, tlswire.Is13(t.answer.Version), flight); err != nil {
		return err
	}
	if err := t.aloneIsSealed(s, sealed, suite.Encrypts); err != nil || t.found.Verdict != "" {
		return err
	}
	worth(t.found, TLS, suite, t.answer.Version)
	t.weaken()
	t.found.Notes = append(t.found.Notes, "only the server was captured")
	return nil
}

// judgeClientAlone does not know what was agreed on: all that was offered must
// be worth a seal.
func (t *tlsTalk) judgeClientAlone() error {
	c := t.client
	m, err := c.first()
	if err == nil && m.Type != tlswire.HelloClient {
		err = fmt.Errorf("begins with handshake message %d, not a ClientHello", m.Type)
	}
	if err == nil {
		t.hello, err = tlswire.ParseClientHello(m.Body)
	}
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	t.found.TLS = offeredInfo(t.hello)
	if err := allSeal(t.hello.Ciphers); err != nil {
		return err
	}
	c.read13()
	if failed := c.failed(); failed != "" {
		t.found.TLS.Alert = failed
		return fmt.Errorf("the handshake failed: %s", failed)
	}
	is13 := true
	sealed, err := c.check13(max(1, len(c.messages)), "")
	for _, m := range c.messages {
		if m.Type != tlswire.HelloClient {
			err = errUnfinished
		}
	}
	if err != nil || len(c.messages) > 2 {
		c.readLegacy()
		sealed, err = c.checkLegacy()
		is13 = false
	}
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	const flight = 3 // records of a client's part of the handshake in TLS 1.3
	if err := accepted(sealed, is13, flight); err != nil {
		return err
	}
	if err := t.aloneIsSealed(c, sealed, true); err != nil || t.found.Verdict != "" {
		return err
	}
	t.found.Verdict, t.found.Seal = TLS, string(TLS)
	t.found.Notes = append(t.found.Notes, "only the client was captured: neither version nor cipher suite is known")
	return nil
}

// accepted accepts what one direction alone tells of the other's consent: that it
// went on behind its own part of the handshake, with more than alerts.
func accepted(sealed []tlswire.Record, is13 bool, flight int) error {
	const longestAlert = 24 // of TLS 1.3, without padding
	data := 0
	for _, r := range sealed {
		if r.Type == tlswire.TypeApplicationData && r.Whole && (!is13 || r.Length > longestAlert) {
			data++
		}
	}
	if is13 && data <= flight || data == 0 {
		return errors.New("one direction alone was captured, and too little to show that the other completed the handshake")
	}
	return nil
}

// allSeal accepts an offer of which every suite encrypts and proves an identity.
func allSeal(ciphers []uint16) error {
	for _, c := range ciphers {
		const emptyRenegotiation, fallback = 0x00FF, 0x5600 // which signal
		if c == emptyRenegotiation || c == fallback {
			continue
		}
		if s := tlswire.SuiteOf(c); !s.Encrypts || s.Anonymous || s.Broken != "" {
			return fmt.Errorf("the client offered %s too, and the answer was not captured", s.Name)
		}
	}
	return nil
}

// aloneIsSealed accepts the records of the one direction that was captured.
func (t *tlsTalk) aloneIsSealed(s *tlsSide, sealed []tlswire.Record, encrypts bool) error {
	if err := s.whole(); err != nil {
		return err
	}
	least := sealedRun
	if !encrypts {
		least = plainRun
	}
	if evidence := legibleIn(s.d, sealed, least, s.name); evidence != nil {
		t.found.Verdict, t.found.Protocol, t.found.Evidence = Plaintext, "tls", evidence
		return nil
	}
	if encrypts && !looksSealed(sealed, sampledUnseen) {
		return errors.New("the records that should be sealed do not look random")
	}
	if !encrypts {
		return nil
	}
	return headsSealed(sealed, true, leadBits)
}
