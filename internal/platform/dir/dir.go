// Package dir is the platform on plain Linux: a directory of YAML objects,
// watched for changes.
package dir

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sealmesh/sealmesh/internal/platform"
)

// Config says how a directory is read.
type Config struct {
	// TrustDomain the Mesh must have; empty takes what it says at Open.
	TrustDomain string
	// Log is told of edits that do not validate.
	Log *slog.Logger
	// Resync is how often the directory is read though nothing was heard; 10s if
	// zero.
	Resync time.Duration
	// Settle is how long files must stay as they are to be believed; 100ms if zero.
	Settle time.Duration
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Dir is a directory of objects.
type Dir struct {
	path string
	cfg  Config
}

var _ platform.Platform = (*Dir)(nil)

// Open reads the directory, and on first use makes its trust anchor and issuer.
// It starts nothing.
func Open(path string, cfg Config) (*Dir, error) {
	return nil, errors.New("dir: not opened")
}

// State is the last good state.
func (d *Dir) State() *platform.State { return nil }

// Watch implements platform.Platform.
func (d *Dir) Watch(ctx context.Context, apply func(*platform.State)) error {
	return errors.New("dir: not watched")
}

// AddToken implements platform.Platform.
func (d *Dir) AddToken(ctx context.Context, t platform.Token) error {
	return errors.New("dir: not added")
}

// TakeToken implements platform.Platform.
func (d *Dir) TakeToken(ctx context.Context, hash [32]byte) (platform.Token, error) {
	return platform.Token{}, platform.ErrNoToken
}
