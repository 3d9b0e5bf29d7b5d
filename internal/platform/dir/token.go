package dir

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/platform"
)

// sweepAfter is how long an expired token is kept, so that its holder is told
// that it expired rather than that there is none.
const sweepAfter = 24 * time.Hour

// tokenFile is a join token on disk. Its hash is the file's name.
type tokenFile struct {
	Namespace string    `json:"namespace"`
	Workload  string    `json:"workload"`
	Expires   time.Time `json:"expires"`
}

func (d *Dir) tokens() string { return d.ownFile("tokens") }

func (d *Dir) tokenPath(hash [32]byte) string {
	return filepath.Join(d.tokens(), hex.EncodeToString(hash[:])+".json")
}

// AddToken implements platform.Platform.
func (d *Dir) AddToken(_ context.Context, t platform.Token) error {
	if err := os.MkdirAll(d.tokens(), 0o700); err != nil {
		return fmt.Errorf("keep join token: %v", err)
	}
	text, err := json.Marshal(tokenFile{Namespace: t.Namespace, Workload: t.Workload, Expires: t.Expires.UTC()})
	if err != nil {
		return fmt.Errorf("keep join token: %v", err)
	}
	if err := writeNew(d.tokenPath(t.Hash), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep join token: %v", err)
	}
	return nil
}

// TakeToken implements platform.Platform. Removing the file is what takes the
// token: the kernel lets one caller do it, in this process or another.
func (d *Dir) TakeToken(_ context.Context, hash [32]byte) (platform.Token, error) {
	path := d.tokenPath(hash)
	file, err := readToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		return platform.Token{}, platform.ErrNoToken
	}
	if err != nil {
		return platform.Token{}, fmt.Errorf("take join token: %v", err)
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return platform.Token{}, platform.ErrNoToken // another was faster
	}
	if err == nil {
		err = syncDir(d.tokens()) // or a power cut would let it be used again
	}
	if err != nil {
		return platform.Token{}, fmt.Errorf("take join token: %v", err)
	}
	return platform.Token{Hash: hash, Namespace: file.Namespace, Workload: file.Workload, Expires: file.Expires}, nil
}

func readToken(path string) (tokenFile, error) {
	var file tokenFile
	text, err := readFile(path)
	if err != nil {
		return file, err
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return file, fmt.Errorf("%s: %v", path, err)
	}
	return file, nil
}

// sweepTokens removes tokens that expired long ago. What it cannot read it
// leaves for TakeToken to report.
func (d *Dir) sweepTokens() error {
	entries, err := os.ReadDir(d.tokens())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		path := filepath.Join(d.tokens(), entry.Name())
		if !strings.HasSuffix(path, ".json") {
			continue
		}
		file, readErr := readToken(path)
		if readErr == nil && d.cfg.Now().After(file.Expires.Add(sweepAfter)) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}
