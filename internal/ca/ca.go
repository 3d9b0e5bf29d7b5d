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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Lifetimes.
const (
	// MinLifetime is the least a leaf lives; an issuer nearer its end refuses.
	MinLifetime = time.Minute
	// AnchorLifetime is how long a trust anchor made here is valid.
	AnchorLifetime = 10 * 365 * 24 * time.Hour
	// IssuerLifetime is how long an issuer made here is valid.
	IssuerLifetime = 365 * 24 * time.Hour
)

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
// any other error is a failure of the machine.
func Issue(req Request, issuer platform.Issuer, bundle *snapshot.Bundle) (Leaf, error) {
	return Leaf{}, errors.New("ca: not issued")
}

// ParseCSR reads a request and returns the key it proves possession of. Asked
// before a join token is taken, it keeps a faulty request from using one up. Its
// error is a *Refusal.
func ParseCSR(der []byte) (*ecdsa.PublicKey, error) {
	return nil, errors.New("ca: not parsed")
}

// CheckIssuer says why an issuer cannot sign leaves of the bundle's trust domain
// at a point in time, by signing one for nobody. Its error is a *Refusal.
func CheckIssuer(issuer platform.Issuer, bundle *snapshot.Bundle, now time.Time) error {
	return errors.New("ca: not checked")
}

// ControlIdentity is who the control plane is. No workload may bear it.
func ControlIdentity(td id.TrustDomain) id.Identity {
	control, _ := id.New(td, "sealmesh", "control") // zero for the zero trust domain
	return control
}

// SelfIssue makes the control plane's own leaf, with a key made for it, ready
// to serve TLS with. Its error is that of Issue.
func SelfIssue(issuer platform.Issuer, bundle *snapshot.Bundle, lifetime time.Duration, now time.Time) (*tls.Certificate, error) {
	return nil, errors.New("ca: not issued")
}
