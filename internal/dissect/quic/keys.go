package quic

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
)

// constants of a version: RFC 9001, sections 5.2 and 5.8; RFC 9369, section 3.3;
// the same sections of the drafts.
type constants struct {
	salt                 []byte // of Initial keys
	retryKey, retryNonce []byte
	label                string // before " key", " iv" and " hp"
}

var (
	constants1 = constants{
		salt:       unhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
		retryKey:   unhex("be0c690b9f66575a1d766b54e368c84e"),
		retryNonce: unhex("461599d35d632bf2239825bb"),
		label:      "quic",
	}
	constants2 = constants{
		salt:       unhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
		retryKey:   unhex("8fb4b01b56ac48e260fbcbcead7ccc92"),
		retryNonce: unhex("d86969bc2d7c6d9990efb04a"),
		label:      "quicv2",
	}
	constants2Draft = constants{
		salt:       unhex("a707c203a59b47184a1d62ca570406ea7ae3e5d3"),
		retryKey:   unhex("ba858dc7b43de5dbf87617ff4ab253db"),
		retryNonce: unhex("141b99c239b03e785d6a2e9f"),
		label:      "quicv2",
	}
	constants29 = constants{
		salt:       unhex("afbfec289993d24c9e9786f19c6111e04390a899"),
		retryKey:   unhex("ccce187ed09a09d05728155a6cb96be1"),
		retryNonce: unhex("e54930f97f2136f0530a8c1c"),
		label:      "quic",
	}
)

// draft33 is the first of the drafts with the constants of version 1.
const draft33 Version = 0xff000021

// constants of a version that is known.
func (v Version) constants() *constants {
	switch {
	case v == V2:
		return &constants2
	case v == draft2:
		return &constants2Draft
	case v >= firstDraft && v < draft33:
		return &constants29
	}
	return &constants1
}

func unhex(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return b
}

// Keys open the Initial packets of one side.
type Keys struct {
	aead   cipher.AEAD
	header cipher.Block
	iv     []byte
}

// InitialKeys are those of a version that is known and of the connection ID that
// the client's first Initial is sent to, or its first one after a Retry.
func InitialKeys(v Version, dest []byte) (client, server *Keys, err error) {
	c := v.constants()
	initial, err := hkdf.Extract(sha256.New, dest, c.salt)
	if err != nil {
		return nil, nil, err
	}
	if client, err = newKeys(initial, "client in", c.label); err != nil {
		return nil, nil, err
	}
	server, err = newKeys(initial, "server in", c.label)
	return client, server, err
}

func newKeys(initial []byte, side, label string) (*Keys, error) {
	secret, err := expand(initial, side, sha256.Size)
	if err != nil {
		return nil, err
	}
	key, err1 := expand(secret, label+" key", 16)
	iv, err2 := expand(secret, label+" iv", 12)
	hp, err3 := expand(secret, label+" hp", 16)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	header, err := aes.NewCipher(hp)
	return &Keys{aead: aead, header: header, iv: iv}, err
}

// expand is HKDF-Expand-Label (RFC 8446, section 7.1) without a context.
func expand(secret []byte, label string, length int) ([]byte, error) {
	label = "tls13 " + label
	var info strings.Builder
	info.Write([]byte{byte(length >> 8), byte(length), byte(len(label))})
	info.WriteString(label)
	info.WriteByte(0)
	return hkdf.Expand(sha256.New, secret, info.String(), length)
}

var errOpen = errors.New("the packet does not open with these keys")

// Open returns the number and the payload of an Initial packet; expected is the
// number after the highest one seen of the same side. What opens was made by
// somebody who has the keys.
func (k *Keys) Open(p Packet, expected uint64) (number uint64, payload []byte, err error) {
	if p.Cut || len(p.Sealed) < MinSealed {
		return 0, nil, errOpen
	}
	var mask [aes.BlockSize]byte
	k.header.Encrypt(mask[:], p.Sealed[sampleAt:sampleAt+sample])
	clear := len(p.whole) - len(p.Sealed)
	first := p.whole[0] ^ mask[0]&0x0f
	size := int(first&3) + 1
	header := bytes.Clone(p.whole[:clear+size])
	header[0] = first
	truncated := uint64(0)
	for i := range size {
		header[clear+i] ^= mask[1+i]
		truncated = truncated<<8 | uint64(header[clear+i])
	}
	number = decode(truncated, size, expected)
	nonce := bytes.Clone(k.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(number >> (56 - 8*i))
	}
	payload, err = k.aead.Open(nil, nonce, p.Sealed[size:], header)
	if err != nil {
		return 0, nil, errOpen
	}
	return number, payload, nil
}

// decode is the number closest to what is expected that ends in the bytes sent
// (RFC 9000, appendix A.3).
func decode(truncated uint64, size int, expected uint64) uint64 {
	window := uint64(1) << (8 * size)
	candidate := expected&^(window-1) | truncated
	switch {
	case candidate+window/2 <= expected && candidate < 1<<62-window:
		return candidate + window
	case candidate > expected+window/2 && candidate >= window:
		return candidate - window
	}
	return candidate
}

// Answers reports whether a Retry packet answers an Initial that was sent to a
// connection ID: only who saw that can make its tag (RFC 9001, section 5.8).
func (p Packet) Answers(dest []byte) bool {
	if p.Kind != Retry || len(dest) > maxID {
		return false
	}
	c := p.Version.constants()
	block, err := aes.NewCipher(c.retryKey)
	if err != nil {
		return false // a key of 16 bytes is not refused
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return false
	}
	pseudo := append([]byte{byte(len(dest))}, dest...)
	pseudo = append(pseudo, p.whole[:len(p.whole)-tag]...)
	_, err = aead.Open(nil, c.retryNonce, p.Sealed, pseudo)
	return err == nil
}
