package snapshot

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/sealmesh/sealmesh/internal/id"
)

// Bundle is the set of trust anchors of one trust domain. It is immutable.
type Bundle struct {
	domain  id.TrustDomain
	anchors []*x509.Certificate
	pool    *x509.CertPool
	version string
}

// ParseBundle reads anchors in PEM: at least one CERTIFICATE block, each a
// CA certificate, and nothing else.
func ParseBundle(domain id.TrustDomain, anchorsPEM []byte) (*Bundle, error) {
	var anchors []*x509.Certificate
	for rest := anchorsPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("trust bundle %s: PEM block %d is %q, must be CERTIFICATE", domain.Name(), len(anchors)+1, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("trust bundle %s: anchor %d: %v", domain.Name(), len(anchors)+1, err)
		}
		anchors = append(anchors, cert)
	}
	return NewBundle(domain, anchors)
}

// NewBundle makes the bundle of a trust domain from its anchors.
func NewBundle(domain id.TrustDomain, anchors []*x509.Certificate) (*Bundle, error) {
	if len(anchors) == 0 {
		return nil, fmt.Errorf("trust bundle %s: holds no anchor", domain.Name())
	}
	b := &Bundle{domain: domain, pool: x509.NewCertPool()}
	sums := make([]string, 0, len(anchors))
	for i, cert := range anchors {
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return nil, fmt.Errorf("trust bundle %s: anchor %d (%s) is not a CA certificate", domain.Name(), i+1, cert.Subject)
		}
		sum := sha256.Sum256(cert.Raw)
		if s := string(sum[:]); !slices.Contains(sums, s) {
			sums = append(sums, s)
			b.anchors = append(b.anchors, cert)
			b.pool.AddCert(cert)
		}
	}
	slices.Sort(sums)
	h := sha256.New()
	for _, s := range sums {
		h.Write([]byte(s))
	}
	b.version = hex.EncodeToString(h.Sum(nil)[:8])
	return b, nil
}

// Domain is the trust domain the anchors vouch for.
func (b *Bundle) Domain() id.TrustDomain { return b.domain }

// Anchors are the certificates of the bundle, which the caller must not change.
func (b *Bundle) Anchors() []*x509.Certificate { return b.anchors }

// Pool holds the anchors as roots for verification. The caller must not change it.
func (b *Bundle) Pool() *x509.CertPool { return b.pool }

// Version is the same for bundles with the same anchors, in any order: the
// first 8 bytes, in hex, of a SHA-256 over the anchors' sorted digests.
func (b *Bundle) Version() string { return b.version }

// PEM is the bundle as ParseBundle reads it.
func (b *Bundle) PEM() []byte {
	var out []byte
	for _, a := range b.anchors {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Raw})...)
	}
	return out
}
