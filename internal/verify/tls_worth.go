package verify

import (
	"fmt"

	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// worth fills in what a completed handshake is worth, of TLS and DTLS alike:
//
//	hides nothing                       plaintext
//	proves nobody's identity, or is
//	of a suite that is not known        unknown
//	SSL 2.0, keys of 56 bits and less   the verdict, without a seal
//	out of date                         the verdict and the seal, and what is weak
func worth(found *Finding, as Verdict, suite tlswire.Suite, version uint16) {
	switch {
	case !suite.Known:
		found.Verdict, found.Reason = Unknown, "whether cipher suite "+suite.Name+" encrypts is not known here"
		return
	case !suite.Encrypts:
		found.Verdict, found.Protocol = Plaintext, string(as)
		if found.Evidence == nil {
			found.Evidence = &Evidence{Text: suite.Name}
		}
		return
	case suite.Anonymous:
		found.Verdict, found.Reason = Unknown, "cipher suite "+suite.Name+" proves the identity of neither end"
		return
	}
	found.Verdict, found.Seal = as, string(as)
	switch version {
	case tlswire.VersionSSL3, tlswire.Version10, tlswire.Version11:
		found.Weak = append(found.Weak, tlsName(version))
	case tlswire.VersionDTLS10, tlswire.VersionDTLSOld:
		found.Weak = append(found.Weak, "DTLS 1.0")
	}
	if suite.Broken != "" {
		found.Seal = ""
		found.Weak = append(found.Weak, suite.Broken)
	}
	if suite.Weak != "" {
		found.Weak = append(found.Weak, suite.Weak)
	}
}

// tlsName is a version as a person writes it.
func tlsName(version uint16) string {
	if version <= tlswire.VersionSSL3 {
		return tlswire.VersionName(version)
	}
	return "TLS " + tlswire.VersionName(version)
}

// Sizes of Diffie-Hellman primes below which a key exchange is broken, or weak.
const (
	brokenPrime = 768
	weakPrime   = 2048
)

// exchanged fills in the group of a key exchange before TLS 1.3.
func exchanged(found *Finding, kx tlswire.KeyExchange) {
	switch {
	case kx.Group != 0:
		found.TLS.Group = tlswire.GroupName(kx.Group)
	case kx.Standard:
		found.TLS.Group = fmt.Sprintf("ffdhe%d", kx.PrimeBits)
	case kx.PrimeBits > 0:
		found.TLS.Group = fmt.Sprintf("dh%d", kx.PrimeBits)
	}
}

// weakPrimes says what a finite field is worth, once the flow has a seal.
func weakPrimes(found *Finding, kx tlswire.KeyExchange) {
	if kx.PrimeBits == 0 || kx.PrimeBits >= weakPrime || !found.Verdict.Seals() {
		return
	}
	found.Weak = append(found.Weak, fmt.Sprintf("Diffie-Hellman of %d bits", kx.PrimeBits))
	if kx.PrimeBits < brokenPrime {
		found.Seal = ""
	}
}
