package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Names in the peers' certificates.
const (
	clientName = "client.bench"
	serverName = "server.bench"
)

// writePKI makes an authority and the certificates of both ends, ECDSA P-256
// throughout, and writes ca.pem, client.pem and server.pem (certificate and key
// in one file) to dir.
func writePKI(dir string) error {
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority.bench"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := writeCertificate(filepath.Join(dir, "ca.pem"), authority, authority, nil)
	if err != nil {
		return err
	}
	for serial, name := range []string{clientName, serverName} {
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial) + 2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			KeyUsage:    x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}
		file := map[string]string{clientName: "client.pem", serverName: "server.pem"}[name]
		if _, err := writeCertificate(filepath.Join(dir, file), leaf, authority, key); err != nil {
			return err
		}
	}
	return nil
}

// writeCertificate signs template with the parent's key, or with its own if that
// is nil, and writes it to file. A leaf's key goes into the same file.
func writeCertificate(file string, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", file, err)
	}
	if parentKey == nil {
		parentKey = key
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, fmt.Errorf("%s: %v", file, err)
	}
	content := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if !template.IsCA {
		encoded, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("%s: %v", file, err)
		}
		content = append(content, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})...)
	}
	return key, os.WriteFile(file, content, 0o600)
}
