package mtls

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Skew is how far two machines' clocks may be apart. Issuers date leaves back by
// it, and verifiers look that far ahead for a leaf that begins in the future.
const Skew = 20 * time.Second

// Verify returns the identity that a certificate chain, leaf first, proves at a
// point in time: the leaf is an X.509-SVID, it chains to an anchor of its own
// trust domain, and no certificate of the chain is outside its validity. The
// error is a *policy.Refusal. Fails closed.
func Verify(chain []*x509.Certificate, bundles map[id.TrustDomain]*snapshot.Bundle, now time.Time) (id.Identity, error) {
	if len(chain) == 0 {
		return id.Identity{}, untrusted("", "no certificate")
	}
	leaf := chain[0]
	peer, err := id.FromCertificate(leaf)
	if err != nil {
		return id.Identity{}, untrusted(leaf.Subject.String(), err.Error())
	}
	if err := checkLeaf(leaf); err != nil {
		return id.Identity{}, untrusted(peer.String(), err.Error())
	}
	bundle := bundles[peer.TrustDomain()]
	if bundle == nil {
		return id.Identity{}, untrusted(peer.String(), fmt.Sprintf("trust domain %s is not trusted here", peer.TrustDomain().Name()))
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	opts := x509.VerifyOptions{
		Roots:         bundle.Pool(),
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	// A leaf that begins within the skew is judged at its first moment.
	if leaf.NotBefore.After(now) && leaf.NotBefore.Sub(now) <= Skew {
		opts.CurrentTime = leaf.NotBefore
	}
	if _, err := leaf.Verify(opts); err != nil {
		return id.Identity{}, untrusted(peer.String(), describe(err, leaf, now))
	}
	return peer, nil
}

// checkLeaf holds what the X.509-SVID specification, section 5.2, demands of a
// leaf beyond its chain.
func checkLeaf(leaf *x509.Certificate) error {
	switch {
	case leaf.IsCA:
		return errors.New("leaf is a CA certificate")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("leaf may not sign (key usage)")
	case leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("leaf may sign certificates (key usage)")
	}
	return nil
}

// describe says why a chain did not verify in the words of a person who has to
// mend it.
func describe(err error, leaf *x509.Certificate, now time.Time) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case leaf.NotBefore.After(now):
		return fmt.Sprintf("certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case now.After(leaf.NotAfter):
		return fmt.Sprintf("certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &unknown):
		return fmt.Sprintf("certificate (serial %x) chains to no trusted anchor", leaf.SerialNumber.Bytes())
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "a certificate of the issuer chain is outside its validity"
	}
	return err.Error()
}

func untrusted(peer, detail string) *policy.Refusal {
	return &policy.Refusal{Reason: policy.ReasonUntrusted, Peer: peer, Detail: detail}
}
