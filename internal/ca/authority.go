package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Lifetimes of what is made here.
const (
	AnchorLifetime = 10 * 365 * 24 * time.Hour
	IssuerLifetime = 365 * 24 * time.Hour
)

// Authority is a certificate that signs others, with its key.
type Authority struct {
	Cert *x509.Certificate
	Key  crypto.Signer
}

// NewAnchor makes a trust anchor: self-signed, allowed one issuer below it.
func NewAnchor(td id.TrustDomain, now time.Time) (Authority, error) {
	return newAuthority(td, "anchor", x509.Certificate{
		NotBefore: now.Add(-mtls.Skew), NotAfter: now.Add(AnchorLifetime), MaxPathLen: 1,
	}, nil)
}

// NewIssuer makes an issuer signed by an anchor: allowed to sign leaves and
// nothing else, and never to outlive the anchor.
func NewIssuer(td id.TrustDomain, anchor Authority, now time.Time) (Authority, error) {
	end := now.Add(IssuerLifetime)
	if anchor.Cert.NotAfter.Before(end) {
		end = anchor.Cert.NotAfter
	}
	return newAuthority(td, "issuer", x509.Certificate{
		NotBefore: now.Add(-mtls.Skew), NotAfter: end, MaxPathLen: 0, MaxPathLenZero: true,
	}, &anchor)
}

// IssuerRenewAt is when an issuer ought to be replaced: after two thirds of its
// life, which leaves its successor months to be put right.
func IssuerRenewAt(issuer *x509.Certificate) time.Time {
	return issuer.NotBefore.Add(issuer.NotAfter.Sub(issuer.NotBefore) / 3 * 2)
}

// newAuthority makes a key and a certificate for it, signed by the parent or,
// without one, by itself. The serial's beginning is in the name so that a person
// can tell two generations apart.
func newAuthority(td id.TrustDomain, role string, template x509.Certificate, parent *Authority) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, fmt.Errorf("make key of %s: %v", role, err)
	}
	template.SerialNumber = serial()
	template.Subject = pkix.Name{
		Organization: []string{"Sealmesh"},
		CommonName:   fmt.Sprintf("%s %s %.8s", td.Name(), role, fmt.Sprintf("%032x", template.SerialNumber)),
	}
	template.URIs = []*url.URL{{Scheme: "spiffe", Host: td.Name()}}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if parent == nil {
		parent = &Authority{Cert: &template, Key: key}
	}
	cert, err := sign(&template, key.Public(), *parent)
	if err != nil {
		return Authority{}, fmt.Errorf("sign %s of %s: %v", role, td.Name(), err)
	}
	return Authority{Cert: cert, Key: key}, nil
}

// sign makes a certificate, with a random serial if the template has none.
func sign(template *x509.Certificate, key crypto.PublicKey, by Authority) (*x509.Certificate, error) {
	if template.SerialNumber == nil {
		template.SerialNumber = serial()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Cert, key, by.Key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// serial is 128 random bits.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails, crypto/rand ends the program instead
	return new(big.Int).SetBytes(b[:])
}

// CheckIssuer says why an issuer cannot sign leaves of the bundle's trust domain
// at a point in time: it signs one for the control plane and throws it away. Its
// error is that of Issue.
func CheckIssuer(issuer platform.Issuer, bundle *snapshot.Bundle, now time.Time) error {
	_, err := SelfIssue(issuer, bundle, MinLifetime, now)
	return err
}

// checkFit holds what can be said of an issuer before it signs; what only its
// signature shows (chain, path length, name constraints) is for the verifier.
func checkFit(issuer platform.Issuer, bundle *snapshot.Bundle, subject id.Identity) error {
	if len(issuer.Chain) == 0 || issuer.Key == nil {
		return refuse(CodeIssuerUntrusted, subject.String(), "there is no issuer")
	}
	if bundle == nil {
		return refuse(CodeIssuerUntrusted, subject.String(), "there is no trust bundle")
	}
	cert, td := issuer.Chain[0], bundle.Domain()
	if subject.IsZero() || subject.TrustDomain() != td {
		return refuse(CodeWrongTrustDomain, subject.String(), "identity must be of trust domain %s", td.Name())
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return refuse(CodeIssuerUntrusted, subject.String(), "issuer %s is not a CA certificate that may sign others", cert.Subject)
	}
	if pub, ok := issuer.Key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return refuse(CodeIssuerUntrusted, subject.String(), "key is not that of issuer %s", cert.Subject)
	}
	if weak, ok := cert.PublicKey.(*rsa.PublicKey); ok && weak.N.BitLen() < 2048 {
		return refuse(CodeIssuerUntrusted, subject.String(), "key of issuer %s is %s, must be at least RSA 2048", cert.Subject, keyName(weak))
	}
	for _, uri := range cert.URIs {
		if uri.Scheme == "spiffe" && (uri.Host != td.Name() || uri.Path != "") {
			return refuse(CodeIssuerUntrusted, subject.String(), "issuer %s is of %s, must be of spiffe://%s", cert.Subject, uri, td.Name())
		}
	}
	if !slices.ContainsFunc(bundle.Anchors(), func(anchor *x509.Certificate) bool { return signedUnder(issuer.Chain, anchor) }) {
		return refuse(CodeIssuerUntrusted, subject.String(), "issuer %s chains to no anchor of trust bundle %s", cert.Subject, td.Name())
	}
	return nil
}

// keyName is a public key's kind as people call it.
func keyName(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return fmt.Sprintf("%T", key)
}
