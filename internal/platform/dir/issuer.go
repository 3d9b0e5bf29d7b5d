package dir

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// own is the directory of our own files.
func (d *Dir) own() string { return filepath.Join(d.path, ".sealmesh") }

func (d *Dir) ownFile(name string) string { return filepath.Join(d.own(), name) }

// issuerFiles is the issuer as it lies on disk.
type issuerFiles struct {
	cert, key []byte
	err       error // why they could not be read
}

func (f issuerFiles) problem() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (d *Dir) readIssuer() (f issuerFiles) {
	f.cert, f.err = readFile(d.ownFile("issuer.crt"))
	if f.err == nil {
		f.key, f.err = readSecret(d.ownFile("issuer.key"))
	}
	return f
}

// readSecret reads a file that nobody but its owner may read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode is %#o, must be 0600: it holds a secret", path, perm)
	}
	return readFile(path)
}

// issuer reads the issuer and proves that it can sign. Fails closed.
func (d *Dir) issuer(c *content, bundle *snapshot.Bundle) (platform.Issuer, error) {
	if c.issuer.err != nil {
		return platform.Issuer{}, fmt.Errorf("issuer: %v", c.issuer.err)
	}
	chain, err := parseChain(c.issuer.cert)
	if err != nil {
		return platform.Issuer{}, fmt.Errorf("%s: %v", d.ownFile("issuer.crt"), err)
	}
	key, err := parseKey(c.issuer.key)
	if err != nil {
		return platform.Issuer{}, fmt.Errorf("%s: %v", d.ownFile("issuer.key"), err)
	}
	issuer := platform.Issuer{Chain: chain, Key: key}
	if err := ca.CheckIssuer(issuer, bundle, d.cfg.Now()); err != nil {
		if refusal, ok := errors.AsType[*ca.Refusal](err); ok { // whom it was tried for is no news
			return platform.Issuer{}, fmt.Errorf("%s: %w", d.ownFile("issuer.crt"), &ca.Refusal{Code: refusal.Code, Message: refusal.Message})
		}
		return platform.Issuer{}, fmt.Errorf("%s: %v", d.ownFile("issuer.crt"), err)
	}
	return issuer, nil
}

// parseChain reads certificates in PEM, the issuer's first.
func parseChain(text []byte) (chain []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %d is %q, must be CERTIFICATE", len(chain)+1, block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %v", len(chain)+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, errors.New("holds no certificate in PEM")
	}
	return chain, nil
}

// parseKey reads a private key in PEM, in any of the three forms in use.
func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("holds no key in PEM")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("PEM block is %q, must be PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("key cannot be read: %v", err) // crypto/x509 quotes no key material
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key is %T, must be one that signs", key)
	}
	return signer, nil
}

// readAuthority reads a certificate and its key of ours; ok is false when either
// is not there.
func (d *Dir) readAuthority(name string) (a ca.Authority, ok bool, err error) {
	certText, err := readFile(d.ownFile(name + ".crt"))
	if err == nil {
		var keyText []byte
		if keyText, err = readSecret(d.ownFile(name + ".key")); err == nil {
			a, err = parseAuthority(certText, keyText)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ca.Authority{}, false, nil
	case err != nil:
		return ca.Authority{}, false, fmt.Errorf("%s of %s: %v", name, d.own(), err)
	}
	return a, true, nil
}

func parseAuthority(certText, keyText []byte) (ca.Authority, error) {
	chain, err := parseChain(certText)
	if err != nil {
		return ca.Authority{}, err
	}
	key, err := parseKey(keyText)
	if err != nil {
		return ca.Authority{}, err
	}
	return ca.Authority{Cert: chain[0], Key: key}, nil
}
