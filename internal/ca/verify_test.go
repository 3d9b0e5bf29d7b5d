package ca_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// TestPeersRefuseWhatTheIssuerWouldNotSign makes the certificates an attacker or
// a broken issuer would, each one detail away from the good one, and shows them
// to the verifier that every proxy uses.
func TestPeersRefuseWhatTheIssuerWouldNotSign(t *testing.T) {
	a, stranger := newAuthority(t, "demo.local", now), newAuthority(t, "demo.local", now)
	foreign := newAuthority(t, "other.example", now)
	web := a.identity(t, "web")
	good := func() *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, URIs: []*url.URL{web.URL()},
		}
	}
	tests := map[string]struct {
		edit   func(*x509.Certificate)
		signer authority
		wants  string // "" is accepted
	}{
		"good":                        {},
		"begins within the skew":      {edit: func(c *x509.Certificate) { c.NotBefore = now.Add(mtls.Skew) }},
		"begins beyond the skew":      {edit: func(c *x509.Certificate) { c.NotBefore = now.Add(mtls.Skew + time.Second) }, wants: "not valid before"},
		"expired":                     {edit: func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, wants: "expired"},
		"CA as leaf":                  {edit: func(c *x509.Certificate) { c.IsCA = true }, wants: "CA certificate"},
		"may sign certificates":       {edit: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, wants: "may sign certificates"},
		"may not sign":                {edit: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, wants: "may not sign"},
		"two names":                   {edit: func(c *x509.Certificate) { c.URIs = append(c.URIs, a.identity(t, "db").URL()) }, wants: "exactly one"},
		"no name":                     {edit: func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"web"} }, wants: "exactly one"},
		"name of another shape":       {edit: func(c *x509.Certificate) { c.URIs[0].Path = "/web" }, wants: "must be spiffe://"},
		"own name, stranger's issuer": {signer: stranger, wants: "no trusted anchor"},
		"trust domain not trusted":    {signer: foreign, edit: func(c *x509.Certificate) { c.URIs = []*url.URL{foreign.identity(t, "web").URL()} }, wants: "not trusted here"},
		"foreign name, our issuer":    {edit: func(c *x509.Certificate) { c.URIs = []*url.URL{foreign.identity(t, "web").URL()} }, wants: "not trusted here"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			template, signer := good(), a
			if test.edit != nil {
				test.edit(template)
			}
			if test.signer.bundle != nil {
				signer = test.signer
			}
			der := must(x509.CreateCertificate(rand.Reader, template, signer.issuer.Chain[0], newKey(t, elliptic.P256()).Public(), signer.issuer.Key))(t)
			chain := append(parse(t, [][]byte{der}), signer.issuer.Chain...)
			got, err := mtls.Verify(chain, a.bundles(), now)
			switch {
			case test.wants == "" && (err != nil || got != web):
				t.Errorf("got %s, %v; want %s", got, err, web)
			case test.wants != "" && (err == nil || !strings.Contains(err.Error(), test.wants)):
				t.Errorf("got %s, %v; want refusal that says %q", got, err, test.wants)
			}
		})
	}
}

// TestAnchorOfOneDomainVouchesForNoOther holds two bundles at once: a leaf of
// one domain signed by the other's issuer must not pass.
func TestAnchorOfOneDomainVouchesForNoOther(t *testing.T) {
	a, b := newAuthority(t, "demo.local", now), newAuthority(t, "other.example", now)
	both := map[id.TrustDomain]*snapshot.Bundle{a.td: a.bundle, b.td: b.bundle}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		URIs: []*url.URL{a.identity(t, "web").URL()},
	}
	signedBy := func(signer authority) []*x509.Certificate {
		der := must(x509.CreateCertificate(rand.Reader, template, signer.issuer.Chain[0], newKey(t, elliptic.P256()).Public(), signer.issuer.Key))(t)
		return append(parse(t, [][]byte{der}), signer.issuer.Chain...)
	}
	if _, err := mtls.Verify(signedBy(b), both, now); err == nil {
		t.Error("an issuer of other.example vouched for demo.local")
	}
	if _, err := mtls.Verify(signedBy(a), both, now); err != nil { // the broken twin
		t.Errorf("its own issuer could not: %v", err)
	}
}

func TestExpiredIssuerMakesEveryLeafInvalid(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now, NotAfter: now.Add(2 * ca.IssuerLifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		URIs: []*url.URL{a.identity(t, "web").URL()},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.issuer.Chain[0], newKey(t, elliptic.P256()).Public(), a.issuer.Key))(t)
	chain := append(parse(t, [][]byte{der}), a.issuer.Chain...)
	if _, err := mtls.Verify(chain, a.bundles(), now.Add(ca.IssuerLifetime+time.Minute)); err == nil || !strings.Contains(err.Error(), "issuer chain") {
		t.Errorf("got %v, want a refusal that names the issuer chain", err)
	}
}
