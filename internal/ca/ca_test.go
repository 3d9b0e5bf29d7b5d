package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// authority is a trust domain with its anchor, issuer and bundle.
type authority struct {
	td     id.TrustDomain
	anchor ca.Authority
	issuer platform.Issuer
	bundle *snapshot.Bundle
}

func newAuthority(t testing.TB, domain string, at time.Time) authority {
	t.Helper()
	td := must(id.ParseTrustDomain(domain))(t)
	anchor := must(ca.NewAnchor(td, at))(t)
	issuer := must(ca.NewIssuer(td, anchor, at))(t)
	return authority{
		td: td, anchor: anchor,
		issuer: platform.Issuer{Chain: []*x509.Certificate{issuer.Cert}, Key: issuer.Key},
		bundle: must(snapshot.NewBundle(td, []*x509.Certificate{anchor.Cert}))(t),
	}
}

func (a authority) bundles() map[id.TrustDomain]*snapshot.Bundle {
	return map[id.TrustDomain]*snapshot.Bundle{a.td: a.bundle}
}

func (a authority) identity(t testing.TB, sa string) id.Identity {
	t.Helper()
	return must(id.New(a.td, "shop", sa))(t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	return must(ecdsa.GenerateKey(curve, rand.Reader))(t)
}

func newCSR(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	return must(x509.CreateCertificateRequest(rand.Reader, &template, key))(t)
}

func request(t testing.TB, a authority, at time.Time) ca.Request {
	t.Helper()
	return ca.Request{
		Identity: a.identity(t, "web"), CSR: newCSR(t, newKey(t, elliptic.P256()), x509.CertificateRequest{}),
		Lifetime: 24 * time.Hour, Now: at,
	}
}

func wantRefusal(t *testing.T, err error, code ca.Code) {
	t.Helper()
	var refusal *ca.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("got %v, want a refusal %s", err, code)
	}
	if refusal.Code != code {
		t.Fatalf("got %v, want code %s", err, code)
	}
	if refusal.Message == "" {
		t.Fatalf("refusal %s does not explain itself", code)
	}
}

func TestLeafIsWhatThePeersAccept(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	req := request(t, a, now)
	leaf := must(ca.Issue(req, a.issuer, a.bundle))(t)

	chain := parse(t, leaf.Chain)
	if got := must(mtls.Verify(chain, a.bundles(), now))(t); got != req.Identity {
		t.Errorf("leaf proves %s, want %s", got, req.Identity)
	}
	c := leaf.Leaf
	if want := now.Add(-mtls.Skew); !c.NotBefore.Equal(want) {
		t.Errorf("NotBefore %s, want %s", c.NotBefore, want)
	}
	if want := now.Add(24 * time.Hour); !c.NotAfter.Equal(want) {
		t.Errorf("NotAfter %s, want %s", c.NotAfter, want)
	}
	if c.IsCA || c.KeyUsage != x509.KeyUsageDigitalSignature || len(c.ExtKeyUsage) != 2 {
		t.Errorf("IsCA %v, KeyUsage %b, ExtKeyUsage %v", c.IsCA, c.KeyUsage, c.ExtKeyUsage)
	}
	if len(chain) != 2 || !chain[1].Equal(a.issuer.Chain[0]) {
		t.Errorf("chain has %d certificates, want leaf and issuer", len(chain))
	}
}

func TestNamesInTheRequestAreIgnored(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	req := request(t, a, now)
	req.CSR = newCSR(t, newKey(t, elliptic.P256()), x509.CertificateRequest{
		Subject:     pkix.Name{CommonName: "admin"},
		DNSNames:    []string{"control.sealmesh"},
		IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		URIs:        []*url.URL{ca.ControlIdentity(a.td).URL()},
	})
	c := must(ca.Issue(req, a.issuer, a.bundle))(t).Leaf
	if len(c.URIs) != 1 || c.URIs[0].String() != req.Identity.String() {
		t.Errorf("URIs %v, want only %s", c.URIs, req.Identity)
	}
	if len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) != 0 || c.Subject.CommonName != "" {
		t.Errorf("names of the request got in: %v %v %v %q", c.DNSNames, c.IPAddresses, c.EmailAddresses, c.Subject)
	}
}

func TestSerialsAreRandom128Bit(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	seen, bits := map[string]bool{}, 0
	for range 50 {
		serial := must(ca.Issue(request(t, a, now), a.issuer, a.bundle))(t).Leaf.SerialNumber
		if seen[serial.String()] {
			t.Fatalf("serial %x twice", serial)
		}
		seen[serial.String()], bits = true, max(bits, serial.BitLen())
	}
	if bits < 120 || bits > 128 {
		t.Errorf("longest of 50 serials has %d bits, want 128 or nearly", bits)
	}
}

func TestLeafNeverOutlivesAnyIssuerAboveIt(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	end := a.issuer.Chain[0].NotAfter
	late := end.Add(-10 * time.Hour)
	leaf := must(ca.Issue(request(t, a, late), a.issuer, a.bundle))(t)
	if !leaf.Leaf.NotAfter.Equal(end) {
		t.Errorf("leaf ends %s, issuer %s", leaf.Leaf.NotAfter, end)
	}
}

func TestRefusals(t *testing.T) {
	a, other := newAuthority(t, "demo.local", now), newAuthority(t, "demo.local", now)
	foreign := newAuthority(t, "other.example", now)
	issuerEnd := a.issuer.Chain[0].NotAfter
	leaf := must(ca.Issue(request(t, a, now), a.issuer, a.bundle))(t).Leaf

	tampered := func(r *ca.Request) { r.CSR[len(r.CSR)-1] ^= 1 }
	key := func(k crypto.Signer) func(*ca.Request) {
		return func(r *ca.Request) { r.CSR = newCSR(t, k, x509.CertificateRequest{}) }
	}
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	tests := map[string]struct {
		code   ca.Code
		edit   func(*ca.Request)
		issuer platform.Issuer
		bundle *snapshot.Bundle
	}{
		"no request":               {code: ca.CodeBadCSR, edit: func(r *ca.Request) { r.CSR = nil }},
		"garbage":                  {code: ca.CodeBadCSR, edit: func(r *ca.Request) { r.CSR = []byte("hello") }},
		"trailing byte":            {code: ca.CodeBadCSR, edit: func(r *ca.Request) { r.CSR = append(r.CSR, 0) }},
		"huge":                     {code: ca.CodeBadCSR, edit: func(r *ca.Request) { r.CSR = make([]byte, 1<<20) }},
		"signature of another key": {code: ca.CodeBadCSR, edit: tampered},
		"P-384":                    {code: ca.CodeBadKey, edit: key(newKey(t, elliptic.P384()))},
		"RSA":                      {code: ca.CodeBadKey, edit: key(must(rsa.GenerateKey(rand.Reader, 2048))(t))},
		"Ed25519":                  {code: ca.CodeBadKey, edit: key(ed)},
		"lifetime too short":       {code: ca.CodeBadLifetime, edit: func(r *ca.Request) { r.Lifetime = time.Second }},
		"identity elsewhere":       {code: ca.CodeWrongTrustDomain, edit: func(r *ca.Request) { r.Identity = foreign.identity(t, "web") }},
		"no identity":              {code: ca.CodeWrongTrustDomain, edit: func(r *ca.Request) { r.Identity = id.Identity{} }},
		"issuer ended":             {code: ca.CodeIssuerExpired, edit: func(r *ca.Request) { r.Now = issuerEnd.Add(time.Second) }},
		"issuer ends in a moment":  {code: ca.CodeIssuerExpired, edit: func(r *ca.Request) { r.Now = issuerEnd.Add(-59 * time.Second) }},
		"issuer not valid yet":     {code: ca.CodeIssuerExpired, edit: func(r *ca.Request) { r.Now = now.Add(-time.Hour) }},
		"issuer of another anchor": {code: ca.CodeIssuerUntrusted, issuer: other.issuer},
		"issuer of another domain": {code: ca.CodeIssuerUntrusted, issuer: foreign.issuer},
		"no issuer":                {code: ca.CodeIssuerUntrusted, issuer: platform.Issuer{Key: a.issuer.Key}},
		"key of another issuer":    {code: ca.CodeIssuerUntrusted, issuer: platform.Issuer{Chain: a.issuer.Chain, Key: other.issuer.Key}},
		"leaf as issuer":           {code: ca.CodeIssuerUntrusted, issuer: platform.Issuer{Chain: []*x509.Certificate{leaf}, Key: a.issuer.Key}},
		"issuer below an issuer":   {code: ca.CodeIssuerUntrusted, issuer: below(t, a)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			req := request(t, a, now)
			if test.edit != nil {
				test.edit(&req)
			}
			issuer := a.issuer
			if test.issuer.Key != nil {
				issuer = test.issuer
			}
			_, err := ca.Issue(req, issuer, a.bundle)
			wantRefusal(t, err, test.code)
		})
	}
	t.Run("no bundle", func(t *testing.T) {
		_, err := ca.Issue(request(t, a, now), a.issuer, nil)
		wantRefusal(t, err, ca.CodeIssuerUntrusted)
		wantRefusal(t, ca.CheckIssuer(a.issuer, nil, now), ca.CodeIssuerUntrusted)
	})
}

// below is an issuer that the issuer signed, which its path length forbids.
func below(t *testing.T, a authority) platform.Issuer {
	t.Helper()
	second := must(ca.NewIssuer(a.td, ca.Authority{Cert: a.issuer.Chain[0], Key: a.issuer.Key}, now))(t)
	return platform.Issuer{Chain: []*x509.Certificate{second.Cert, a.issuer.Chain[0]}, Key: second.Key}
}

func TestIssuerThatIsItselfTheAnchorSendsTheLeafAlone(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	self := platform.Issuer{Chain: []*x509.Certificate{a.anchor.Cert}, Key: a.anchor.Key}
	leaf := must(ca.Issue(request(t, a, now), self, a.bundle))(t)
	if len(leaf.Chain) != 1 {
		t.Errorf("chain has %d certificates, want the leaf alone: peers have the anchor", len(leaf.Chain))
	}
}

func TestIssuerOfAnotherMakerWithoutSPIFFENameSigns(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	der := must(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "made elsewhere"}, NotBefore: now, NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.anchor.Cert, key.Public(), a.anchor.Key))(t)
	issuer := platform.Issuer{Chain: parse(t, [][]byte{der}), Key: key}
	leaf := must(ca.Issue(request(t, a, now), issuer, a.bundle))(t)
	if want := now.Add(time.Hour); !leaf.Leaf.NotAfter.Equal(want) {
		t.Errorf("leaf ends %s, want %s as its issuer", leaf.Leaf.NotAfter, want)
	}
}

func TestControlPlaneServesWithItsOwnLeaf(t *testing.T) {
	a := newAuthority(t, "demo.local", now)
	own := must(ca.SelfIssue(a.issuer, a.bundle, time.Hour, now))(t)
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	clock := func() time.Time { return now }
	go tls.Server(server, mtls.Config{Leaf: own, Bundles: a.bundles(), PeerCert: mtls.PeerCertOptional, Protocols: []string{"h2"}, Now: clock}.TLS()).Handshake()
	conn := tls.Client(client, mtls.Config{
		Bundles: a.bundles(), Authorize: mtls.Expect(ca.ControlIdentity(a.td)), Protocols: []string{"h2"}, Now: clock,
	}.TLS())
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
}

func parse(t testing.TB, ders [][]byte) (chain []*x509.Certificate) {
	t.Helper()
	for _, der := range ders {
		chain = append(chain, must(x509.ParseCertificate(der))(t))
	}
	return chain
}

func FuzzParseCSR(f *testing.F) {
	f.Add(newCSR(f, newKey(f, elliptic.P256()), x509.CertificateRequest{}))
	f.Add(newCSR(f, newKey(f, elliptic.P384()), x509.CertificateRequest{DNSNames: []string{"x"}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := ca.ParseCSR(der)
		var refusal *ca.Refusal
		switch {
		case err == nil && key.Curve != elliptic.P256():
			t.Fatal("accepted a key that is not P-256")
		case err != nil && !errors.As(err, &refusal):
			t.Fatalf("%v is not a refusal", err)
		}
	})
}
