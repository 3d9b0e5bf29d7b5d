package ssh

import (
	"encoding/binary"
	"errors"
	"strings"
)

// None is the cipher and the MAC that do nothing.
const None = "none"

// ciphers that encrypt, with what speaks against them (the IANA's registry of SSH
// parameters, and OpenSSH's own).
var ciphers = map[string]string{
	"chacha20-poly1305@openssh.com": "",
	"chacha20-poly1305":             "",
	"aes128-gcm@openssh.com":        "",
	"aes256-gcm@openssh.com":        "",
	"AEAD_AES_128_GCM":              "",
	"AEAD_AES_256_GCM":              "",
	"aes128-gcm":                    "",
	"aes256-gcm":                    "",
	"aes128-ctr":                    "",
	"aes192-ctr":                    "",
	"aes256-ctr":                    "",
	"aes128-cbc":                    "",
	"aes192-cbc":                    "",
	"aes256-cbc":                    "",
	"rijndael-cbc@lysator.liu.se":   "",
	"camellia128-ctr":               "",
	"camellia256-ctr":               "",
	"camellia128-cbc":               "",
	"camellia256-cbc":               "",
	"serpent128-ctr":                "",
	"serpent256-ctr":                "",
	"serpent128-cbc":                "",
	"serpent256-cbc":                "",
	"twofish-cbc":                   "",
	"twofish128-ctr":                "",
	"twofish256-ctr":                "",
	"twofish128-cbc":                "",
	"twofish256-cbc":                "",
	"seed-cbc@ssh.com":              "",
	"blowfish-cbc":                  "blocks of 64 bits",
	"blowfish-ctr":                  "blocks of 64 bits",
	"cast128-cbc":                   "blocks of 64 bits",
	"cast128-ctr":                   "blocks of 64 bits",
	"idea-cbc":                      "blocks of 64 bits",
	"idea-ctr":                      "blocks of 64 bits",
	"3des-cbc":                      "blocks of 64 bits",
	"3des-ctr":                      "blocks of 64 bits",
	"arcfour":                       "RC4",
	"arcfour128":                    "RC4",
	"arcfour256":                    "RC4",
	"des-cbc":                       Broken,
	"des-cbc@ssh.com":               Broken,
}

// Broken is what speaks against a key that can be searched for.
const Broken = "a key of 56 bits"

// Encrypts reports whether a cipher is known to encrypt, and what speaks against
// it, if anything.
func Encrypts(cipher string) (weakness string, ok bool) {
	weakness, ok = ciphers[cipher]
	return weakness, ok
}

// AEAD reports whether a cipher authenticates by itself.
func AEAD(cipher string) bool { return strings.HasPrefix(cipher, "chacha20") || gcm(cipher) }

func gcm(cipher string) bool {
	return strings.Contains(cipher, "gcm") || strings.HasPrefix(cipher, "AEAD_")
}

// clearLengths reports whether the length of each packet is in clear, and how many
// bytes of authentication follow those that it counts.
func clearLengths(cipher, mac string) (tag int, ok bool) {
	switch {
	case gcm(cipher):
		return 16, true
	case AEAD(cipher):
		return 0, false
	}
	tag, ok = map[string]int{
		"hmac-md5-etm@openssh.com":      16,
		"hmac-md5-96-etm@openssh.com":   12,
		"hmac-sha1-etm@openssh.com":     20,
		"hmac-sha1-96-etm@openssh.com":  12,
		"hmac-sha2-256-etm@openssh.com": 32,
		"hmac-sha2-512-etm@openssh.com": 64,
		"umac-64-etm@openssh.com":       8,
		"umac-128-etm@openssh.com":      16,
	}[mac]
	return tag, ok
}

// Bodies are the sealed parts of what a side sends behind NEWKEYS: all of it, or,
// where the length of each packet is in clear, what stands between the lengths.
// The last one may be cut off.
func Bodies(sealed []byte, cipher, mac string) ([][]byte, error) {
	tag, clear := clearLengths(cipher, mac)
	if !clear {
		return [][]byte{sealed}, nil
	}
	var all [][]byte
	for len(sealed) >= 4 {
		length := binary.BigEndian.Uint32(sealed)
		if length < minPacket+1 || length > MaxPacket {
			return all, errors.New("what follows the keys is no sequence of SSH packets")
		}
		sealed = sealed[4:]
		n := min(int(length)+tag, len(sealed))
		all = append(all, sealed[:n])
		sealed = sealed[n:]
	}
	return all, nil
}
