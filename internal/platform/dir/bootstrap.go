package dir

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"sigs.k8s.io/yaml"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// bootstrap makes what is missing of anchor, issuer and trust bundle, and
// touches nothing that is there. Whatever moment it is cut off at, it ends its
// work the next time.
func (d *Dir) bootstrap() error {
	return d.locked(func() error {
		state, err := d.parse() // anew: another process may have been faster
		if err != nil {
			return err
		}
		bundle, _ := state.Bundle(d.domain) // nil when there is none
		if !d.hasIssuer() {
			if err := d.makeIssuer(bundle); err != nil {
				return err
			}
		}
		if bundle == nil {
			return d.writeBundle()
		}
		return nil
	})
}

// hasIssuer reports whether an issuer lies there, fit or not.
func (d *Dir) hasIssuer() bool {
	_, certErr := os.Stat(d.ownFile("issuer.crt"))
	_, keyErr := os.Stat(d.ownFile("issuer.key"))
	return certErr == nil && keyErr == nil
}

// makeIssuer makes an issuer under our anchor, and the anchor too if nobody
// trusts another yet.
func (d *Dir) makeIssuer(bundle *snapshot.Bundle) error {
	anchor, ok, err := d.anchor()
	switch {
	case err != nil:
		return err
	case ok && bundle != nil && !slices.ContainsFunc(bundle.Anchors(), anchor.Cert.Equal):
		return fmt.Errorf("no issuer in %s, and the anchor there is not one of TrustBundle %s: put issuer.crt and issuer.key of the bundle's anchor there", d.own(), d.domain.Name())
	case !ok && bundle != nil:
		return fmt.Errorf("no issuer in %s, and the key of TrustBundle %s is elsewhere: put issuer.crt and issuer.key there, or remove the bundle to have a new anchor made", d.own(), d.domain.Name())
	case !ok:
		if anchor, err = ca.NewAnchor(d.domain, d.cfg.Now()); err != nil {
			return err
		}
		if err := d.writeAuthority("anchor", anchor); err != nil {
			return err
		}
	}
	issuer, err := ca.NewIssuer(d.domain, anchor, d.cfg.Now())
	if err != nil {
		return err
	}
	return d.writeAuthority("issuer", issuer)
}

// writeBundle writes the TrustBundle of our own anchor.
func (d *Dir) writeBundle() error {
	name := "trustbundle-" + d.domain.Name() + ".yaml"
	anchor, ok, err := d.anchor()
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("there is no TrustBundle %s: write one with the anchor of the issuer in %s", d.domain.Name(), d.own())
	}
	text, err := yaml.Marshal(mesh.TrustBundle{
		Header: mesh.Header{APIVersion: mesh.GroupVersion, Kind: mesh.KindTrustBundle, Metadata: mesh.Metadata{Name: d.domain.Name()}},
		Spec:   mesh.TrustBundleSpec{Anchors: string(certPEM(anchor.Cert))},
	})
	if err != nil {
		return fmt.Errorf("write %s: %v", name, err)
	}
	return writeNew(filepath.Join(d.path, name), text, 0o644)
}

// anchor reads the trust anchor made here; ok is false if there is none.
func (d *Dir) anchor() (a ca.Authority, ok bool, err error) {
	a, ok, err = d.readAuthority("anchor")
	if ok && !slices.ContainsFunc(a.Cert.URIs, func(u *url.URL) bool { return u.String() == d.domain.IDString() }) {
		return a, false, fmt.Errorf("anchor in %s is not of trust domain %s: the trust domain of a mesh cannot change", d.own(), d.domain.Name())
	}
	return a, ok, err
}

// renewIssuer replaces an issuer of ours after two thirds of its life. One that
// anybody else put there is theirs to renew.
func (d *Dir) renewIssuer() error {
	old, now := d.State().Issuer, d.cfg.Now()
	if len(old.Chain) != 1 || now.Before(ca.IssuerRenewAt(old.Chain[0])) {
		return nil
	}
	return d.locked(func() error {
		anchor, ok, err := d.anchor()
		if err != nil || !ok || old.Chain[0].CheckSignatureFrom(anchor.Cert) != nil {
			return err
		}
		if !old.Chain[0].NotAfter.Before(anchor.Cert.NotAfter) {
			return nil // the anchor itself ends: time to rotate
		}
		lying, ok, err := d.readAuthority("issuer")
		if err != nil || !ok || !lying.Cert.Equal(old.Chain[0]) {
			return err // another one is on its way in
		}
		issuer, err := ca.NewIssuer(d.domain, anchor, now)
		if err != nil {
			return err
		}
		return d.writeAuthority("issuer", issuer)
	})
}

// locked runs f while no other process makes files of ours.
func (d *Dir) locked(f func() error) error {
	if err := os.MkdirAll(d.own(), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(d.ownFile("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
		if err == nil {
			if err := d.recoverOwn(); err != nil {
				return err
			}
			return f()
		}
		if !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock %s: %v", lock.Name(), err)
		}
	}
}

// writeAuthority replaces a certificate and its key together: both are written
// beside the old ones, and what was begun by that is ended by settleAuthority, be
// it by whoever holds the lock next. The key is put first: a reader in between
// sees a pair that does not match and keeps the one it has.
func (d *Dir) writeAuthority(name string, a ca.Authority) error {
	der, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		return fmt.Errorf("write key of %s: %v", name, err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := replace(d.ownFile(name+".key.new"), key, 0o600); err != nil {
		return err
	}
	if err := replace(d.ownFile(name+".crt.new"), certPEM(a.Cert), 0o600); err != nil {
		return err
	}
	return d.settleAuthority(name)
}

// settleAuthority puts a new pair in place, once both of it are there.
func (d *Dir) settleAuthority(name string) error {
	if _, err := os.Stat(d.ownFile(name + ".crt.new")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err := os.Rename(d.ownFile(name+".key.new"), d.ownFile(name+".key"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is there already
		return err
	}
	if err := os.Rename(d.ownFile(name+".crt.new"), d.ownFile(name+".crt")); err != nil {
		return err
	}
	return syncDir(d.own())
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
