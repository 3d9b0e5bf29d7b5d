package lane

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"weak"
)

// certificates are those of the peers of all lanes there are, each once: a server
// parses its client's chain anew in every handshake, 5 KB for each lane.
var certificates = interned{byDigest: map[[sha256.Size]byte]weak.Pointer[x509.Certificate]{}}

// interned finds a certificate by its digest for as long as somebody uses it.
type interned struct {
	mu       sync.Mutex
	byDigest map[[sha256.Size]byte]weak.Pointer[x509.Certificate]
	sweepAt  int // size at which entries of certificates that are gone are dropped
}

// share replaces the certificates of a chain by those that others use already.
func (in *interned) share(chain []*x509.Certificate) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, cert := range chain {
		digest := sha256.Sum256(cert.Raw)
		if known := in.byDigest[digest].Value(); known != nil {
			chain[i] = known
			continue
		}
		in.byDigest[digest] = weak.Make(cert)
	}
	if len(in.byDigest) <= in.sweepAt {
		return
	}
	for digest, cert := range in.byDigest {
		if cert.Value() == nil {
			delete(in.byDigest, digest)
		}
	}
	const least = 64
	in.sweepAt = 2*len(in.byDigest) + least
}
