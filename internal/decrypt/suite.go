package decrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"
)

// suite is what a cipher suite says of the protection of records.
type suite struct {
	version uint16
	hash    func() hash.Hash
	key     int // length
	aead    func(key []byte) (cipher.AEAD, error)
	// explicit: each record of TLS 1.2 carries 8 bytes of its nonce (GCM).
	explicit bool
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

var (
	aes128 = suite{hash: sha256.New, key: 16, aead: gcm}
	aes256 = suite{hash: sha512.New384, key: 32, aead: gcm}
	chacha = suite{hash: sha256.New, key: 32, aead: chacha20poly1305.New}
)

// suites by their number (RFC 8446, section B.4; RFC 5288, 5289 and 7905).
var suites = map[uint16]suite{
	0x1301: aes128, 0x1302: aes256, 0x1303: chacha,
	0x009c: aes128, 0x009d: aes256, 0x009e: aes128, 0x009f: aes256,
	0xc02b: aes128, 0xc02c: aes256, 0xc02f: aes128, 0xc030: aes256,
	0xcca8: chacha, 0xcca9: chacha, 0xccaa: chacha,
}

// suiteOf is the suite that a handshake agreed on.
func suiteOf(version, number uint16) (suite, error) {
	s, ok := suites[number]
	is13 := number>>8 == 0x13
	if !ok || version != version12 && version != version13 || is13 != (version == version13) {
		return s, fmt.Errorf("%s with %s cannot be decrypted here", tls.VersionName(version), tls.CipherSuiteName(number))
	}
	s.version = version
	s.explicit = version == version12 && number != 0xcca8 && number != 0xcca9 && number != 0xccaa
	return s, nil
}

// epoch is the keys of one direction from one change to the next.
type epoch struct {
	suite
	cipher cipher.AEAD
	iv     []byte
	secret []byte // of TLS 1.3, from which the next follows
	seq    uint64
}

// expand is HKDF-Expand-Label without a context (RFC 8446, section 7.1).
func (s suite) expand(secret []byte, label string, length int) []byte {
	var info cryptobyte.Builder
	info.AddUint16(uint16(length))
	info.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	info.AddUint8(0)
	out, err := hkdf.Expand(s.hash, secret, string(info.BytesOrPanic()), length)
	if err != nil {
		panic(err) // only for lengths that no suite has
	}
	return out
}

// epoch13 is the keys that follow from a traffic secret; nil if there is none, or
// one of another hash.
func (s suite) epoch13(secret []byte) *epoch {
	if len(secret) != s.hash().Size() {
		return nil
	}
	c, err := s.aead(s.expand(secret, "key", s.key))
	if err != nil {
		return nil
	}
	return &epoch{suite: s, cipher: c, iv: s.expand(secret, "iv", c.NonceSize()), secret: secret}
}

// next is the epoch after a KeyUpdate (RFC 8446, section 7.2).
func (e *epoch) next() *epoch {
	return e.epoch13(e.expand(e.secret, "traffic upd", len(e.secret)))
}

// epochs12 are the keys of both sides of TLS 1.2, by Side (RFC 5246, section 6.3).
func (s suite) epochs12(master []byte, client, server [32]byte) (both [2]*epoch, err error) {
	fixed := 12
	if s.explicit {
		fixed = 4
	}
	block := s.prf(master, "key expansion", slices.Concat(server[:], client[:]), 2*(s.key+fixed))
	for side := range both {
		c, err := s.aead(block[side*s.key : (side+1)*s.key])
		if err != nil {
			return both, err
		}
		iv := block[2*s.key+side*fixed:][:fixed]
		both[side] = &epoch{suite: s, cipher: c, iv: iv}
	}
	return both, nil
}

// prf is the pseudo-random function of TLS 1.2 (RFC 5246, section 5).
func (s suite) prf(secret []byte, label string, seed []byte, length int) (out []byte) {
	mac := func(parts ...[]byte) []byte {
		h := hmac.New(s.hash, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	for a := mac(seed); len(out) < length; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:length]
}

var errTag = errors.New("the record does not verify with the key of its place")

// open decrypts a record, whose content type it returns: of TLS 1.3 that inside.
// It counts the record only if it verifies.
func (e *epoch) open(r record) (typ byte, text []byte, err error) {
	if e.version == version12 {
		return e.open12(r)
	}
	nonce := e.nonce()
	text, err = e.cipher.Open(nil, nonce, r.body, r.header)
	if err != nil {
		return 0, nil, errTag
	}
	e.seq++
	end := len(text)
	for end > 0 && text[end-1] == 0 { // padding
		end--
	}
	if end == 0 {
		return 0, nil, errors.New("a record holds nothing but padding")
	}
	return text[end-1], text[:end-1], nil
}

// nonce is the iv, with the record's number laid over its end.
func (e *epoch) nonce() []byte {
	n := slices.Clone(e.iv)
	tail := n[len(n)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^e.seq)
	return n
}

func (e *epoch) open12(r record) (typ byte, text []byte, err error) {
	body := r.body
	var nonce []byte
	switch {
	case !e.explicit:
		nonce = e.nonce()
	case len(body) < 8:
		return 0, nil, errTag
	default:
		nonce, body = slices.Concat(e.iv, body[:8]), body[8:]
	}
	if len(body) < e.cipher.Overhead() {
		return 0, nil, errTag
	}
	extra := binary.BigEndian.AppendUint64(nil, e.seq)
	extra = append(extra, r.header[:3]...)
	extra = binary.BigEndian.AppendUint16(extra, uint16(len(body)-e.cipher.Overhead()))
	text, err = e.cipher.Open(nil, nonce, body, extra)
	if err != nil {
		return 0, nil, errTag
	}
	e.seq++
	return r.header[0], text, nil
}

// protection is the keys of a session, by Side.
type protection struct {
	suite
	early     *epoch
	handshake [2]*epoch // TLS 1.3
	traffic   [2]*epoch // TLS 1.3: the first; TLS 1.2: the only one
}

// newProtection derives the keys that the secrets allow. There must be enough for
// the application data of one side at least.
func newProtection(s suite, secrets map[string][]byte, client, server hello) (p *protection, err error) {
	p = &protection{suite: s}
	if s.version == version12 {
		if secrets[labelMaster] == nil {
			return nil, ErrNoKeys
		}
		p.traffic, err = s.epochs12(secrets[labelMaster], client.random, server.random)
		return p, err
	}
	p.early = s.epoch13(secrets[labelEarly])
	p.handshake = [2]*epoch{s.epoch13(secrets[labelClientHandshake]), s.epoch13(secrets[labelServerHandshake])}
	p.traffic = [2]*epoch{s.epoch13(secrets[labelClientTraffic]), s.epoch13(secrets[labelServerTraffic])}
	if p.traffic == [2]*epoch{} && p.handshake == [2]*epoch{} {
		return nil, ErrNoKeys
	}
	return p, nil
}
