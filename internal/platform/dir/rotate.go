package dir

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Replacing the trust anchor, in files. Nothing else is remembered: what has been
// done is what they say, so whoever comes next goes on, whatever moment the one
// before was cut off at.
//
//	            TrustBundle   issuer      anchor   anchor-next
//	            old           under old   old
//	prepare     old and new   under old   old      new
//	activate    old and new   under new   old      new
//	retire      new           under new   new
//
// When a step may be taken is for ca.Rotation to say.

// Rotation is what the files say now about the replacement of our trust anchor:
// everything but the proxies. Prepared and Activated are when the files that they
// show in came into place, so never earlier than the truth.
func (d *Dir) Rotation() (r ca.Rotation, err error) {
	err = d.locked(func() error {
		r, err = d.rotation()
		return err
	})
	return r, err
}

func (d *Dir) rotation() (r ca.Rotation, err error) {
	content, err := d.read()
	if err != nil {
		return r, err
	}
	state, _, err := d.load(content, nil)
	if err != nil {
		return r, err
	}
	old, next, err := d.generations()
	if err != nil {
		return r, err
	}
	r = ca.Rotation{Old: old.Cert, New: next.Cert, Issuer: state.Issuer.Chain}
	if r.LeafLifetime, err = leafLifetime(state); err != nil {
		return r, err
	}
	if r.Bundle, err = state.Bundle(d.domain); err != nil {
		return r, err
	}
	name, _, err := d.bundleFile(content)
	if err != nil {
		return r, err
	}
	if r.Prepared, err = putAt(filepath.Join(d.path, name)); err != nil {
		return r, err
	}
	r.Activated, err = putAt(d.ownFile("issuer.crt"))
	return r, err
}

// generations are our trust anchor and the one that is to replace it, which is
// zero if none is.
func (d *Dir) generations() (old, next ca.Authority, err error) {
	old, ok, err := d.anchor()
	if err != nil {
		return old, next, err
	}
	if !ok {
		return old, next, fmt.Errorf("no trust anchor with its key in %s: it is replaced by whoever holds the key", d.own())
	}
	next, _, err = d.readAuthority("anchor-next")
	return old, next, err
}

func leafLifetime(state *platform.State) (time.Duration, error) {
	if state.Mesh.Spec.LeafLifetime == "" {
		return 24 * time.Hour, nil
	}
	return time.ParseDuration(state.Mesh.Spec.LeafLifetime)
}

// putAt is when a file came into place: the change of its name counts, unlike for
// the time of its last modification.
func putAt(path string) (time.Time, error) {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.ModTime(), nil
	}
	return time.Unix(stat.Ctim.Unix()), nil
}

// Rotate takes one step of the rotation. Taking it again does nothing more.
func (d *Dir) Rotate(step ca.Step) error {
	return d.locked(func() error {
		switch step {
		case ca.StepPrepare:
			return d.prepare()
		case ca.StepActivate:
			return d.activate()
		case ca.StepRetire, ca.StepDone: // done in the bundle, but perhaps cut off before the files of ours
			return d.retire()
		}
		return fmt.Errorf("rotate: no step %q: must be %s, %s, %s or %s", step, ca.StepPrepare, ca.StepActivate, ca.StepRetire, ca.StepDone)
	})
}

// prepare makes the new anchor, if there is none, and adds it to the bundle.
func (d *Dir) prepare() error {
	old, next, err := d.generations()
	if err != nil {
		return err
	}
	if next.Cert == nil {
		issuer, ok, err := d.readAuthority("issuer")
		if err != nil || !ok || issuer.Cert.CheckSignatureFrom(old.Cert) != nil {
			return fmt.Errorf("the issuer in %s is not signed by the anchor there: it is replaced by whoever put it there", d.own())
		}
		if next, err = ca.NewAnchor(d.domain, d.cfg.Now()); err != nil {
			return err
		}
		if err := d.writeAuthority("anchor-next", next); err != nil {
			return err
		}
	}
	return d.editBundle(func(anchors []*x509.Certificate) []*x509.Certificate {
		if slices.ContainsFunc(anchors, next.Cert.Equal) {
			return anchors
		}
		return append(slices.Clone(anchors), next.Cert)
	})
}

// activate puts an issuer under the new anchor in force.
func (d *Dir) activate() error {
	_, next, err := d.generations()
	if err != nil {
		return err
	}
	if next.Cert == nil {
		return errors.New("activate: there is no new anchor: prepare first")
	}
	present, ok, err := d.readAuthority("issuer")
	if err == nil && ok && present.Cert.CheckSignatureFrom(next.Cert) == nil {
		return nil
	}
	issuer, err := ca.NewIssuer(d.domain, next, d.cfg.Now())
	if err != nil {
		return err
	}
	return d.writeAuthority("issuer", issuer)
}

// retire takes the old anchor out of the bundle; the new one takes its place.
func (d *Dir) retire() error {
	old, next, err := d.generations()
	if err != nil {
		return err
	}
	if next.Cert == nil {
		return errors.New("retire: there is no new anchor: prepare first")
	}
	err = d.editBundle(func(anchors []*x509.Certificate) []*x509.Certificate {
		return slices.DeleteFunc(slices.Clone(anchors), old.Cert.Equal)
	})
	if err != nil {
		return err
	}
	if err := d.writeAuthority("anchor", next); err != nil {
		return err
	}
	return d.removeAuthority("anchor-next")
}

// recoverOwn ends what whoever held the lock before was cut off at.
func (d *Dir) recoverOwn() error {
	for _, name := range []string{"anchor", "anchor-next", "issuer"} {
		if err := d.settleAuthority(name); err != nil {
			return err
		}
	}
	// Whoever needs a pair that cannot be read says what is wrong with it.
	anchor, anchorThere, anchorErr := d.readAuthority("anchor")
	next, nextThere, nextErr := d.readAuthority("anchor-next")
	if anchorErr == nil && nextErr == nil && (!nextThere || anchorThere && next.Cert.Equal(anchor.Cert)) {
		return d.removeAuthority("anchor-next")
	}
	return nil
}

// editBundle changes the anchors of our TrustBundle in the file that holds it.
// What would come out is parsed before anything is written. Fails closed.
func (d *Dir) editBundle(edit func([]*x509.Certificate) []*x509.Certificate) error {
	content, err := d.read()
	if err != nil {
		return err
	}
	name, text, err := d.bundleFile(content)
	if err != nil {
		return err
	}
	state, err := Parse(content.objects)
	if err != nil {
		return err
	}
	present, err := state.Bundle(d.domain)
	if err != nil {
		return err
	}
	wanted, err := snapshot.NewBundle(d.domain, edit(present.Anchors()))
	if err != nil {
		return err
	}
	if wanted.Version() == present.Version() {
		return nil
	}
	files := maps.Clone(content.objects)
	files[name] = text.with(wanted.PEM())
	if state, err = Parse(files); err != nil {
		return fmt.Errorf("edit %s: %w", name, err)
	}
	if got, err := state.Bundle(d.domain); err != nil || got.Version() != wanted.Version() {
		return fmt.Errorf("edit %s: TrustBundle %s would not come out as meant: write it in a file of its own", name, d.domain.Name())
	}
	path, err := filepath.EvalSymlinks(filepath.Join(d.path, name))
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return replace(path, files[name], info.Mode().Perm())
}

// bundleFile finds the file that holds our TrustBundle.
func (d *Dir) bundleFile(content *content) (name string, text bundleText, err error) {
	for _, name := range slices.Sorted(maps.Keys(content.objects)) {
		if text, ok := findBundle(content.objects[name], d.domain.Name()); ok {
			return name, text, nil
		}
	}
	return "", bundleText{}, fmt.Errorf("TrustBundle %s is not found in any file: write it in a document of its own", d.domain.Name())
}

// removeAuthority removes a certificate, then its key.
func (d *Dir) removeAuthority(name string) error {
	for _, file := range []string{name + ".crt", name + ".key"} {
		if err := os.Remove(d.ownFile(file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncDir(d.own())
}
