// Package pki makes trust domains and certificates for tests, good ones and bad
// ones. The certificates are what the control plane would issue unless a test
// bends them.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Domain is one trust domain with an anchor and an issuer.
type Domain struct {
	Name   id.TrustDomain
	Bundle *snapshot.Bundle
	Issuer ca.Authority
	tb     testing.TB
}

// New makes a trust domain.
func New(tb testing.TB, name string) *Domain {
	tb.Helper()
	td, err := id.ParseTrustDomain(name)
	check(tb, err)
	anchor, err := ca.NewAnchor(td, time.Now())
	check(tb, err)
	issuer, err := ca.NewIssuer(td, anchor, time.Now())
	check(tb, err)
	bundle, err := snapshot.NewBundle(td, []*x509.Certificate{anchor.Cert})
	check(tb, err)
	return &Domain{Name: td, Bundle: bundle, Issuer: issuer, tb: tb}
}

// Open takes the trust domain of a mesh from its directory, issuer's key included:
// its certificates are as good as those of the control plane, unless bent.
func Open(tb testing.TB, directory string) *Domain {
	tb.Helper()
	d, err := dir.Open(directory, dir.Config{Log: slog.New(slog.DiscardHandler)})
	check(tb, err)
	state := d.State()
	bundle, err := state.Bundle(state.TrustDomain())
	check(tb, err)
	return &Domain{Name: state.TrustDomain(), Bundle: bundle, Issuer: ca.Authority{Cert: state.Issuer.Chain[0], Key: state.Issuer.Key}, tb: tb}
}

// Bundles is the bundles of some domains, as a snapshot holds them.
func Bundles(domains ...*Domain) map[id.TrustDomain]*snapshot.Bundle {
	m := map[id.TrustDomain]*snapshot.Bundle{}
	for _, d := range domains {
		m[d.Name] = d.Bundle
	}
	return m
}

// ID is the identity of a service account of the domain.
func (d *Domain) ID(namespace, serviceAccount string) id.Identity {
	d.tb.Helper()
	i, err := id.New(d.Name, namespace, serviceAccount)
	check(d.tb, err)
	return i
}

// Leaf issues a certificate for an identity. Each bend may change the template
// before it is signed.
func (d *Domain) Leaf(who id.Identity, bends ...func(*x509.Certificate)) *tls.Certificate {
	d.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(d.tb, err)
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	check(d.tb, err)
	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-20 * time.Second),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:         []*url.URL{who.URL()},
	}
	for _, bend := range bends {
		bend(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, d.Issuer.Cert, key.Public(), d.Issuer.Key)
	check(d.tb, err)
	leaf, err := x509.ParseCertificate(der)
	check(d.tb, err)
	return &tls.Certificate{Certificate: [][]byte{der, d.Issuer.Cert.Raw}, PrivateKey: key, Leaf: leaf}
}

// Expired ends a certificate a minute ago.
func Expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
}

// NotYet begins a certificate in a minute.
func NotYet(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
