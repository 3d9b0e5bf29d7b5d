package tls

import (
	"fmt"
	"strings"
)

// Suite is what a cipher suite is worth.
type Suite struct {
	// Name in the IANA's registry, or the number in hex.
	Name string
	// Known: the registry has it.
	Known bool
	// Encrypts: it hides what is sent, however badly.
	Encrypts bool
	// Anonymous: neither end proves who it is.
	Anonymous bool
	// Broken: keys of 56 bits and fewer, which anyone can search.
	Broken string
	// Weak: a cipher that should no longer be used.
	Weak string
	// TLS13: of TLS 1.3, where the suite names no key exchange.
	TLS13 bool
}

// CipherName is the IANA name of a cipher suite, or its number in hex.
func CipherName(c uint16) string {
	if name, ok := suiteNames[c]; ok {
		return name
	}
	return fmt.Sprintf("0x%04X", c)
}

// SuiteOf is what is known of a cipher suite. Of one that is not in the registry
// nothing is: it is not said to encrypt.
func SuiteOf(c uint16) Suite {
	name, ok := suiteNames[c]
	if !ok {
		return Suite{Name: CipherName(c)}
	}
	s := Suite{Name: name, Known: true, Encrypts: !PlainSuite(name)}
	s.TLS13 = !strings.Contains(name, "_WITH_")
	s.Anonymous = strings.Contains(name, "_anon_") || c == 0
	has := func(part string) bool { return strings.Contains(name, part) }
	switch {
	case !s.Encrypts:
	case has("_EXPORT1024_"):
		s.Broken = "a 56-bit key for export"
	case has("_EXPORT_"):
		s.Broken = "a 40-bit key for export"
	case has("_DES_CBC_40_"), has("_RC4_40_"), has("_RC2_CBC_40_"), has("_DES40_"):
		s.Broken = "a 40-bit key"
	case has("_WITH_DES_CBC_"):
		s.Broken = "single DES"
	case has("_3DES_"):
		s.Weak = "3DES"
	case has("_RC4_"):
		s.Weak = "RC4"
	}
	return s
}

// PlainSuite reports whether a cipher suite of this name protects integrity at
// most, and hides nothing.
func PlainSuite(name string) bool {
	return strings.Contains(name, "_WITH_NULL_") || name == "TLS_SHA256_SHA256" || name == "TLS_SHA384_SHA384"
}

// exchange is how a suite of TLS 1.2 and before agrees on a key.
type exchange struct {
	curve, prime bool // ServerKeyExchange names a curve, or brings a prime
	hint         bool // which a hint for a shared key precedes
}

func (s Suite) exchange() exchange {
	kind, _, ok := strings.Cut(strings.TrimPrefix(s.Name, "TLS_"), "_WITH_")
	if !ok {
		return exchange{}
	}
	return exchange{
		curve: strings.HasPrefix(kind, "ECDHE_") || kind == "ECDH_anon",
		prime: strings.HasPrefix(kind, "DHE_") || strings.HasPrefix(kind, "DH_anon"),
		hint:  kind == "ECDHE_PSK" || kind == "DHE_PSK",
	}
}

// Kinds of ciphers of SSL 2.0.
var suiteNamesV2 = map[uint32]string{
	0x000000: "SSL_CK_NULL_WITH_MD5",
	0x010080: "SSL_CK_RC4_128_WITH_MD5",
	0x020080: "SSL_CK_RC4_128_EXPORT40_WITH_MD5",
	0x030080: "SSL_CK_RC2_128_CBC_WITH_MD5",
	0x040080: "SSL_CK_RC2_128_CBC_EXPORT40_WITH_MD5",
	0x050080: "SSL_CK_IDEA_128_CBC_WITH_MD5",
	0x060040: "SSL_CK_DES_64_CBC_WITH_MD5",
	0x0700C0: "SSL_CK_DES_192_EDE3_CBC_WITH_MD5",
	0x080080: "SSL_CK_RC4_64_WITH_MD5",
}

// KnownCipherV2 reports whether a kind of cipher of SSL 2.0 is one that is known here.
func KnownCipherV2(c uint32) bool { return suiteNamesV2[c] != "" }

// CipherNameV2 is the name of a kind of cipher of SSL 2.0, or its number in hex.
func CipherNameV2(c uint32) string {
	if name, ok := suiteNamesV2[c]; ok {
		return name
	}
	return fmt.Sprintf("0x%06X", c)
}
