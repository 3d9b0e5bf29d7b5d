package decrypt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha512" // hash of signatures
	"crypto/x509"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
)

// peers reads who both ends are. Of TLS 1.3 each end's signature over the
// handshake is checked with the key of its leaf.
func peers(s suite, sides [2]*side) (both [2]Peer) {
	for from := range both {
		messages := sides[from].messages
		at := slices.IndexFunc(messages, func(m message) bool { return m.typ == certificate })
		if at < 0 {
			continue
		}
		chain := readChain(messages[at].body, s.version)
		if len(chain) == 0 {
			continue
		}
		both[from] = Peer{ID: spiffeID(chain[0]), Chain: chain}
		if s.version == version13 && at+1 < len(messages) && messages[at+1].typ == certificateVerify {
			both[from].Proven = proves(chain[0], Side(from), transcript(s, sides, Side(from)), messages[at+1].body)
		}
	}
	return both
}

// readChain reads a Certificate message; nil if any part of it is malformed.
func readChain(body []byte, version uint16) (chain []*x509.Certificate) {
	s := cryptobyte.String(body)
	var list, context, der, extensions cryptobyte.String
	if version == version13 && !s.ReadUint8LengthPrefixed(&context) {
		return nil
	}
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil
	}
	for !list.Empty() {
		if !list.ReadUint24LengthPrefixed(&der) || version == version13 && !list.ReadUint16LengthPrefixed(&extensions) {
			return nil
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		chain = append(chain, c)
	}
	return chain
}

// spiffeID is the one URI name of a leaf, if it is a SPIFFE ID.
func spiffeID(leaf *x509.Certificate) string {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" {
		return ""
	}
	return leaf.URIs[0].String()
}

// transcript is the hash of all messages up to the Certificate of an end (RFC
// 8446, section 4.4.1).
func transcript(s suite, sides [2]*side, of Side) []byte {
	client, server := sides[Client].messages, sides[Server].messages
	h := s.hash()
	write := func(messages []message, until byte) (rest []message) {
		for i, m := range messages {
			h.Write(m.raw)
			if m.typ == until {
				return messages[i+1:]
			}
		}
		return nil
	}
	if len(client) > 1 && client[1].typ == helloClient && len(server) > 0 {
		// After a retry the first hello is represented by its hash.
		first := s.hash()
		first.Write(client[0].raw)
		sum := first.Sum(nil)
		h.Write(append([]byte{254, 0, 0, byte(len(sum))}, sum...))
		h.Write(server[0].raw)
		client, server = client[1:], server[1:]
	}
	client = write(client, helloClient)
	if of == Server {
		write(server, certificate)
		return h.Sum(nil)
	}
	write(server, finished)
	write(client, certificate)
	return h.Sum(nil)
}

// proves checks a CertificateVerify message. Fails closed: what is not known here
// does not prove.
func proves(leaf *x509.Certificate, by Side, transcript, body []byte) bool {
	s := cryptobyte.String(body)
	var scheme uint16
	var signature cryptobyte.String
	if !s.ReadUint16(&scheme) || !s.ReadUint16LengthPrefixed(&signature) || !s.Empty() {
		return false
	}
	signed := []byte(strings.Repeat(" ", 64) + "TLS 1.3, " + by.String() + " CertificateVerify\x00")
	signed = append(signed, transcript...)
	hash, known := map[uint16]crypto.Hash{
		0x0403: crypto.SHA256, 0x0503: crypto.SHA384, 0x0603: crypto.SHA512, // ECDSA
		0x0804: crypto.SHA256, 0x0805: crypto.SHA384, 0x0806: crypto.SHA512, // RSA-PSS
		0x0807: 0, // Ed25519
	}[scheme]
	if !known {
		return false
	}
	digest := signed
	if hash != 0 {
		h := hash.New()
		h.Write(signed)
		digest = h.Sum(nil)
	}
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return scheme&0xff == 3 && ecdsa.VerifyASN1(key, digest, signature)
	case *rsa.PublicKey:
		return scheme>>8 == 8 && hash != 0 && rsa.VerifyPSS(key, hash, digest, signature, nil) == nil
	case ed25519.PublicKey:
		return scheme == 0x0807 && ed25519.Verify(key, digest, signature)
	}
	return false
}
