// Package ca signs the leaf certificates of workloads, and makes the trust
// anchors and issuers that stand above them:
//
//	trust anchor   ECDSA P-256, 10 years   in every proxy's trust bundle
//	     │ signs
//	issuer         ECDSA P-256, 1 year     its key never leaves the control plane
//	     │ signs
//	leaf           ECDSA P-256, 24 hours   its key never leaves the proxy
//
// Issue is the only way to a leaf. It believes nothing a request says except
// that its sender holds a key; who the sender is has been settled before (package
// attest). What was signed is verified with the verifier of the peers (package
// mtls) before it is given away. Apart from randomness everything here is pure:
// the clock is an argument.
package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// MinLifetime is the least a leaf lives; an issuer nearer its end refuses.
const MinLifetime = time.Minute

// Request asks for a leaf.
type Request struct {
	// Identity is who the leaf is for, as attested; names in the CSR are ignored.
	Identity id.Identity
	// CSR is PKCS #10 in DER, signed by an ECDSA P-256 key.
	CSR []byte
	// Lifetime is how long the leaf shall be valid from Now; less if the issuer
	// ends before.
	Lifetime time.Duration
	// Now is the clock.
	Now time.Time
}

// Leaf is what was issued.
type Leaf struct {
	// Chain is DER, the leaf first, then the issuer's certificates up to but
	// without the anchor.
	Chain [][]byte
	// Leaf is Chain[0].
	Leaf *x509.Certificate
}

// Issue signs a leaf for the key of the request. Its refusals are *Refusal;
// any other error is a failure of the machine. Fails closed.
func Issue(req Request, issuer platform.Issuer, bundle *snapshot.Bundle) (Leaf, error) {
	key, err := ParseCSR(req.CSR)
	if err != nil {
		return Leaf{}, err
	}
	if err := checkFit(issuer, bundle, req.Identity); err != nil {
		return Leaf{}, err
	}
	notAfter, err := validUntil(req, issuer)
	if err != nil {
		return Leaf{}, err
	}
	leaf, err := sign(&x509.Certificate{
		NotBefore:             req.Now.Add(-mtls.Skew),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{req.Identity.URL()},
	}, key, Authority{Cert: issuer.Chain[0], Key: issuer.Key})
	if err != nil {
		return Leaf{}, fmt.Errorf("sign leaf of %s: %v", req.Identity, err)
	}
	return proven(leaf, req, issuer, bundle)
}

// maxCSR bounds a request; one for P-256 without attributes is about 200 bytes.
const maxCSR = 16 << 10

// ParseCSR reads a request and returns the key it proves possession of. Asked
// before a join token is taken, it keeps a faulty request from using one up. Its
// error is a *Refusal.
func ParseCSR(der []byte) (*ecdsa.PublicKey, error) {
	if len(der) > maxCSR {
		return nil, refuse(CodeBadCSR, "", "request is %d bytes, must be at most %d", len(der), maxCSR)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, refuse(CodeBadCSR, "", "request is not PKCS #10 in DER: %v", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, refuse(CodeBadKey, "", "key is %s, must be ECDSA P-256", keyName(csr.PublicKey))
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse(CodeBadCSR, "", "request is not signed by its own key: %v", err)
	}
	return key, nil
}

// validUntil is the end of the leaf asked for: never later than that of any
// certificate above it.
func validUntil(req Request, issuer platform.Issuer) (time.Time, error) {
	if req.Lifetime < MinLifetime {
		return time.Time{}, refuse(CodeBadLifetime, req.Identity.String(), "lifetime is %s, must be at least %s", req.Lifetime, MinLifetime)
	}
	end := req.Now.Add(req.Lifetime)
	for _, c := range issuer.Chain {
		if req.Now.Before(c.NotBefore) {
			return time.Time{}, refuse(CodeIssuerExpired, req.Identity.String(),
				"issuer %s is not valid before %s", c.Subject, stamp(c.NotBefore))
		}
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	if end.Sub(req.Now) < MinLifetime {
		return time.Time{}, refuse(CodeIssuerExpired, req.Identity.String(),
			"issuer %s ends at %s, which leaves less than %s", issuer.Chain[0].Subject, stamp(end), MinLifetime)
	}
	return end, nil
}

// proven is the leaf with its chain, after it convinced the verifier that peers
// use.
func proven(leaf *x509.Certificate, req Request, issuer platform.Issuer, bundle *snapshot.Bundle) (Leaf, error) {
	certs := []*x509.Certificate{leaf}
	for _, c := range issuer.Chain {
		if !slices.ContainsFunc(bundle.Anchors(), c.Equal) { // peers have those
			certs = append(certs, c)
		}
	}
	trusted := map[id.TrustDomain]*snapshot.Bundle{bundle.Domain(): bundle}
	got, err := mtls.Verify(certs, trusted, req.Now)
	if err != nil {
		return Leaf{}, refuse(CodeIssuerUntrusted, req.Identity.String(), "peers would not accept what issuer %s signs: %v", issuer.Chain[0].Subject, err)
	}
	if got != req.Identity {
		return Leaf{}, fmt.Errorf("signed leaf of %s says %s", req.Identity, got)
	}
	out := Leaf{Leaf: leaf}
	for _, c := range certs {
		out.Chain = append(out.Chain, c.Raw)
	}
	return out, nil
}

// ControlIdentity is who the control plane is. No workload may bear it.
func ControlIdentity(td id.TrustDomain) id.Identity {
	control, _ := id.New(td, "sealmesh", "control") // zero for the zero trust domain
	return control
}

// SelfIssue makes the control plane's own leaf, with a key made for it, ready
// to serve TLS with. Its error is that of Issue.
func SelfIssue(issuer platform.Issuer, bundle *snapshot.Bundle, lifetime time.Duration, now time.Time) (*tls.Certificate, error) {
	if bundle == nil {
		return nil, refuse(CodeIssuerUntrusted, "", "there is no trust bundle")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the control plane: %v", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make request of the control plane: %v", err)
	}
	leaf, err := Issue(Request{Identity: ControlIdentity(bundle.Domain()), CSR: csr, Lifetime: lifetime, Now: now}, issuer, bundle)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: leaf.Chain, PrivateKey: key, Leaf: leaf.Leaf}, nil
}
