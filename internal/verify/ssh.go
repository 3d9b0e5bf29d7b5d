package verify

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/dissect/ssh"
)

// sshSealed is how many bytes behind its keys each side must have sent.
const sshSealed = 16

// judgeSSH recognises SSH by the banners of both sides, or of the only one that
// was captured. They are in clear, and so is how keys are agreed on: that much is
// not plaintext, whatever becomes of the connection.
func judgeSSH(f *capture.Flow, _ Knowledge, found *Finding) bool {
	var r sshReading
	for i, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		if err := r.sides[i].read(d); err != nil && (!found.OneWay || d.Packets > 0) {
			return false
		}
	}
	if said := f.ToServer.Start(); len(said) > 0 && !bytes.HasPrefix(said, []byte("SSH-")) {
		return false // a server may say something before its banner, a client may not
	}
	client, server := &r.sides[0], &r.sides[1]
	if client.banner.Protocol == "" && server.banner.Protocol == "" {
		return false
	}
	found.SSH = &SSHInfo{Client: client.banner.Software, Server: server.banner.Software}
	found.Protocol = "ssh"
	for i := range r.sides {
		if v := r.sides[i].banner.Protocol; v != "" && v != "2.0" && v != "1.99" {
			found.Verdict, found.Reason = Unknown, "SSH "+v+", which is not read here"
			found.Weak = []string{"SSH " + v}
			return true
		}
	}
	if err := r.judge(found); err != nil {
		if errors.Is(err, errSSHText) {
			found.SSH, found.Protocol = nil, ""
			return false
		}
		found.Verdict, found.Seal, found.Reason = Unknown, "", "ssh, but "+err.Error()
	}
	return true
}

// errSSHText means that the banners are followed by something else altogether.
var errSSHText = errors.New("what follows the banner is readable")

// sshReading is what was read of both sides.
type sshReading struct {
	sides [2]sshSide
	// ciphers and macs agreed on, from the client to the server, and back.
	ciphers, macs [2]string
}

type sshSide struct {
	banner ssh.Banner
	all    []ssh.Message
	offer  ssh.Offer
	sealed []byte
	failed error // why it cannot be followed up to its keys
	chunk  capture.Chunk
}

// read takes one side apart; an error means that it is not SSH.
func (s *sshSide) read(d *capture.Direction) (err error) {
	stream := d.Start()
	if s.banner, stream, err = ssh.ParseBanner(stream); err != nil {
		return err
	}
	s.chunk = d.Chunks[0]
	var keyed bool
	s.all, s.sealed, keyed, s.failed = ssh.Messages(stream)
	switch {
	case s.failed != nil:
		if n := readableRunIn(stream); n == len(stream) || n >= sealedRun && len(s.all) == 0 {
			s.failed = errSSHText
		}
	case d.Conflict:
		s.failed = errors.New("bytes were sent again with another content")
	case !keyed:
		s.failed = errors.New("the keys were not agreed on, as far as was captured")
	default:
		s.failed = s.readOffer()
	}
	return nil
}

func (s *sshSide) readOffer() (err error) {
	at := slices.IndexFunc(s.all, func(m ssh.Message) bool { return m[0] == ssh.KexInit })
	if at < 0 {
		return errors.New("keys that nothing was agreed on for")
	}
	s.offer, err = ssh.ParseOffer(s.all[at])
	return err
}

// judge fills a finding, or says why the connection is not shown to be sealed.
func (r *sshReading) judge(found *Finding) error {
	if found.OneWay {
		return errors.New("only one side was captured, so what was agreed on is not known")
	}
	for i, name := range []string{"client", "server"} {
		if err := r.sides[i].failed; err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := r.agree(found.SSH); err != nil {
		return err
	}
	if slices.Contains(r.ciphers[:], ssh.None) {
		found.Verdict, found.Evidence = Plaintext, r.clear()
		return nil
	}
	for i := range r.ciphers {
		if err := r.sides[i].shown(r.ciphers[i], r.macs[i]); err != nil {
			return err
		}
	}
	found.Verdict, found.Seal = SSH, string(SSH)
	r.weaken(found)
	return nil
}

// agree finds what both sides can do.
func (r *sshReading) agree(info *SSHInfo) error {
	client, server := r.sides[0].offer, r.sides[1].offer
	var ok, ok1, ok2 bool
	info.Kex, ok = ssh.Agree(client.Kex, server.Kex)
	r.ciphers[0], ok1 = ssh.Agree(client.Ciphers[0], server.Ciphers[0])
	r.ciphers[1], ok2 = ssh.Agree(client.Ciphers[1], server.Ciphers[1])
	if !ok || !ok1 || !ok2 {
		return errors.New("the two sides have no algorithm in common")
	}
	for i := range r.macs { // an AEAD needs none
		r.macs[i], _ = ssh.Agree(client.MACs[i], server.MACs[i])
	}
	info.Cipher = r.ciphers[0]
	if r.ciphers[1] != r.ciphers[0] {
		info.Cipher += " / " + r.ciphers[1]
	}
	return nil
}

// shown says why what a side sent behind its keys is not shown to be sealed.
func (s *sshSide) shown(cipher, mac string) error {
	if _, ok := ssh.Encrypts(cipher); !ok {
		return fmt.Errorf("whether cipher %s encrypts is not known here", cipher)
	}
	if len(s.sealed) < sshSealed {
		return errors.New("the handshake was not completed")
	}
	bodies, err := ssh.Bodies(s.sealed, cipher, mac)
	if err != nil {
		return err
	}
	return refute(bodies, 0)
}

// weaken says what is out of date.
func (r *sshReading) weaken(found *Finding) {
	weak := func(what string) {
		if !slices.Contains(found.Weak, what) {
			found.Weak = append(found.Weak, what)
		}
	}
	if found.SSH.Kex == "diffie-hellman-group1-sha1" {
		weak("a group of 1024 bits")
	}
	for i, cipher := range r.ciphers {
		weakness, _ := ssh.Encrypts(cipher)
		if weakness != "" {
			weak(cipher + ": " + weakness)
		}
		if weakness == ssh.Broken {
			found.Seal = ""
		}
		if r.macs[i] == ssh.None && !ssh.AEAD(cipher) {
			weak("no MAC")
			found.Seal = ""
		}
	}
}

// clear quotes what was sent in clear behind the keys, or names the cipher.
func (r *sshReading) clear() *Evidence {
	for i, from := range []string{fromClient, fromServer} {
		s := &r.sides[i]
		if r.ciphers[i] != ssh.None || len(s.sealed) == 0 {
			continue
		}
		at := bytes.LastIndex(s.chunk.Data, s.sealed)
		raw := s.sealed[:min(len(s.sealed), evidenceBytes)]
		return newEvidence(raw, s.chunk.Packet(max(at, 0)), from)
	}
	return &Evidence{Text: ssh.None}
}
