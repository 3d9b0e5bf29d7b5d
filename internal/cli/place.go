package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/feed"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// runtimeRoot holds what a running mesh needs to be found by, one directory each.
const runtimeRoot = "/run/sealmesh"

// place is where the mesh of one directory runs on this machine. It lies outside
// the directory, since proxies run as a user who may not enter that.
type place struct {
	dir     string // the mesh directory, absolute
	runtime string
}

// flagDir adds -f to a command.
func flagDir(c *cobra.Command) *string {
	dir := c.Flags().StringP("file", "f", "mesh", "`DIR` with the mesh's objects")
	_ = c.MarkFlagDirname("file")
	return dir
}

func newPlace(dir string) (place, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return place{}, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		abs = real
	}
	sum := sha256.Sum256([]byte(abs))
	return place{dir: abs, runtime: filepath.Join(runtimeRoot, hex.EncodeToString(sum[:6]))}, nil
}

func (p place) socket() string     { return filepath.Join(p.runtime, "control.sock") }
func (p place) anchors() string    { return filepath.Join(p.runtime, "anchors.pem") }
func (p place) domain() string     { return filepath.Join(p.runtime, "trust-domain") }
func (p place) namespaces() string { return filepath.Join(p.runtime, "namespaces") }
func (p place) status() string     { return filepath.Join(p.runtime, "status.json") }
func (p place) lock() string       { return filepath.Join(p.runtime, "lock") }

// writeBundle leaves the trust anchors where proxies and commands find them.
func (p place) writeBundle(b *snapshot.Bundle) error {
	if err := writeFile(p.domain(), []byte(b.Domain().Name())); err != nil {
		return err
	}
	return writeFile(p.anchors(), b.PEM())
}

// writeFile replaces a file at once, so that nobody reads half of it.
func writeFile(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (p place) bundle() (*snapshot.Bundle, error) {
	name, err := os.ReadFile(p.domain())
	if err != nil {
		return nil, err
	}
	td, err := id.ParseTrustDomain(string(name))
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(p.anchors())
	if err != nil {
		return nil, err
	}
	return snapshot.ParseBundle(td, pem)
}

// withAdmin calls the control plane of the mesh of a directory.
func withAdmin(dir string, call func(controlv1connect.AdminServiceClient) error) error {
	p, err := newPlace(dir)
	if err != nil {
		return err
	}
	bundle, err := p.bundle()
	if err != nil {
		return notRunning(p, dir, err)
	}
	err = p.runs()
	if errors.Is(err, os.ErrPermission) {
		return hint(fmt.Errorf("control plane of %s: %w", p.dir, err), "ask as the user who runs \"sealmesh up\", or as root")
	}
	if err != nil {
		return notRunning(p, dir, err)
	}
	admin, hangUp := feed.Admin(p.socket(), bundle)
	defer hangUp()
	return call(admin)
}

// runs is nil if a process runs the mesh: it holds the lock.
func (p place) runs() error {
	lock, err := os.Open(p.lock())
	if err != nil {
		return err
	}
	defer lock.Close()
	err = unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	return errors.Join(fs.ErrNotExist, err)
}

// notRunning says that a mesh does not run; dir is how the user named it.
// The error is shown if it says more than that.
func notRunning(p place, dir string, err error) error {
	failed := fmt.Errorf("mesh %s is not running on this machine", p.dir)
	if !errors.Is(err, fs.ErrNotExist) {
		failed = fmt.Errorf("%w: %w", failed, err)
	}
	return hint(failed, "start it with \"sealmesh up -f %s\", or name another directory with -f", dir)
}
