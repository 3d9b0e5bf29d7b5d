package verify

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// beginsSSL2 reports whether the client begins with a hello in the form of
// SSL 2.0, and reads it. What follows it may be of any version.
func (t *tlsTalk) beginsSSL2() bool {
	stream := firstBytes(t.client.d)
	if len(stream) < 3 || stream[2] != tlswire.HelloClientV2 && stream[0]&0x80 != 0 {
		return false
	}
	if _, ok := tlswire.ParseHeader(stream); ok || !tlswire.BeginsV2(stream) {
		return false
	}
	all, _ := tlswire.RecordsV2(stream)
	hello, err := tlswire.ParseClientHelloV2(all[0].Body)
	if err != nil {
		return false
	}
	t.hello, t.hello2 = hello.Hello(), hello
	t.client.trail = follow(t.client.d, all[0].Offset+all[0].Length)
	return true
}

// firstBytes are those a direction begins with, as far as it was captured.
func firstBytes(d *capture.Direction) []byte {
	if len(d.Chunks) == 0 || d.Began && d.Chunks[0].Offset > 0 {
		return nil
	}
	return d.Chunks[0].Data
}

// judgeSSL2 judges a flow whose client begins as in SSL 2.0: it is what the
// server answers.
func (t *tlsTalk) judgeSSL2() error {
	records, _ := tlswire.RecordsV2(firstBytes(t.server.d))
	if len(t.server.records) > 0 || len(records) == 0 {
		return t.judgeSeen()
	}
	t.found.TLS = offeredInfo(t.hello)
	answer, err := tlswire.ParseServerHelloV2(records[0].Body)
	if err != nil && len(t.server.d.Chunks) > 1 && records[0].Body[0] == tlswire.HelloServerV2 {
		t.server.trail = followV2(t.server.d)
	}
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	t.found.TLS.Version, t.found.TLS.Resumed = tlswire.VersionName(answer.Version), answer.Resumed
	if len(answer.Certificate) > 0 {
		t.found.TLS.ServerCert = describeCertificate(answer.Certificate)
	}
	c, s := t.client, t.server
	c.trail, s.trail = followV2(c.d), followV2(s.d)
	sealedC, sealedS := c.records[1:], s.records[1:]
	kind := uint32(1)
	if !answer.Resumed && len(sealedC) > 0 {
		cipher, ok := tlswire.ParseMasterKeyV2(sealedC[0].Body)
		if !ok {
			return errUnfinished
		}
		kind, sealedC = cipher, sealedC[1:]
		t.found.TLS.Cipher = tlswire.CipherNameV2(kind)
	}
	if len(sealedC) == 0 || len(sealedS) == 0 {
		return errUnfinished
	}
	if answer.Resumed && slices.ContainsFunc(t.hello2.Ciphers, func(c uint32) bool { return c == 0 || c>>16 != 0 && !tlswire.KnownCipherV2(c) }) {
		return errors.New("the cipher of a session that was resumed may be none")
	}
	if !answer.Resumed && !tlswire.KnownCipherV2(kind) {
		return fmt.Errorf("whether cipher %s encrypts is not known here", t.found.TLS.Cipher)
	}
	if err := bothWhole(c, s); err != nil {
		return err
	}
	if t.leaks(sealedC, sealedS, readableInV2) {
		return nil
	}
	if kind == 0 {
		t.found.Verdict, t.found.Protocol, t.found.Evidence = Plaintext, "tls", &Evidence{Text: t.found.TLS.Cipher}
		return nil
	}
	if !looksSealed(sealedC, sampled) || !looksSealed(sealedS, sampled) {
		return errors.New("the records that should be sealed do not look random")
	}
	t.found.Verdict, t.found.Weak = TLS, []string{"SSL 2.0"}
	return nil
}

// readableInV2 is less than in TLS: nearly anything is a record of SSL 2.0.
const readableInV2 = 24

// followV2 reads the records of SSL 2.0 up to the first gap.
func followV2(d *capture.Direction) trail {
	var t trail
	stream := firstBytes(d)
	all, rest := tlswire.RecordsV2(stream)
	for _, r := range all {
		t.records = append(t.records, tlswire.Record{Type: tlswire.TypeApplicationData, Offset: r.Offset, Body: r.Body, Whole: r.Whole, Length: r.Length})
	}
	t.rest, t.at, t.lost = rest, len(stream)-len(rest), len(d.Chunks) > 1
	return t
}
