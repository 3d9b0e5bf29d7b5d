package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"time"
)

// describeCertificate is what tells a certificate from another. One that cannot
// be read has a fingerprint all the same.
func describeCertificate(der []byte) *Certificate {
	sum := sha256.Sum256(der)
	c := &Certificate{SHA256: hex.EncodeToString(sum[:])}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return c
	}
	c.Subject, c.Issuer = cert.Subject.String(), cert.Issuer.String()
	c.NotAfter = cert.NotAfter.UTC().Format(time.RFC3339)
	c.Names = append(c.Names, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	for _, uri := range cert.URIs {
		c.Names = append(c.Names, uri.String())
	}
	return c
}
