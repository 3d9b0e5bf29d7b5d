package dir

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/platform"
)

func TestTokenIsTakenOnce(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	secret, token := attest.NewToken("shop", "web", time.Hour, m.clock.now())
	if err := d.AddToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if err := d.AddToken(t.Context(), token); err == nil {
		t.Error("the same token was kept twice")
	}
	m.holdsNo(secret)
	got, err := m.open().TakeToken(t.Context(), token.Hash) // by another process, as it were
	if err != nil || got != token {
		t.Errorf("got %v, %v; want %v", got, err, token)
	}
	if _, err := d.TakeToken(t.Context(), token.Hash); !errors.Is(err, platform.ErrNoToken) {
		t.Errorf("second time: %v, want ErrNoToken", err)
	}
}

// holdsNo looks for a secret in every file, and for files others can read.
func (m meshDir) holdsNo(secret string) {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.path, ".sealmesh/tokens/*"))
	if err != nil || len(files) == 0 {
		m.t.Fatalf("no tokens: %v", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			m.t.Fatal(err)
		}
		if strings.Contains(string(text)+f, secret) {
			m.t.Errorf("%s holds the secret", f)
		}
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			m.t.Errorf("%s: %v, %v; want 0600", f, info.Mode(), err)
		}
	}
}

func TestOfManyTakersOneWins(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	for range 20 {
		_, token := attest.NewToken("shop", "web", time.Hour, m.clock.now())
		if err := d.AddToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		results := make([]error, 16)
		for i := range results {
			group.Go(func() { _, results[i] = d.TakeToken(t.Context(), token.Hash) })
		}
		group.Wait()
		won := 0
		for _, err := range results {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, platform.ErrNoToken):
				t.Error(err)
			}
		}
		if won != 1 {
			t.Fatalf("%d of 16 took the token, want 1", won)
		}
	}
}

// TestOfManyProcessesOneWins starts this test binary several times over; each
// takes the same tokens once told to go.
func TestOfManyProcessesOneWins(t *testing.T) {
	const env = "SEALMESH_TEST_TAKE"
	if take := os.Getenv(env); take != "" {
		takeAll(t, strings.Fields(take))
		return
	}
	m := newMeshDir(t)
	d := m.open()
	const tokens, processes = 50, 4
	args := []string{m.path}
	for range tokens {
		_, token := attest.NewToken("shop", "web", time.Hour, m.clock.now())
		if err := d.AddToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		args = append(args, hex.EncodeToString(token.Hash[:]))
	}
	won := 0
	var mu sync.Mutex
	var group sync.WaitGroup
	for range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOfManyProcessesOneWins$")
		cmd.Env = append(os.Environ(), env+"="+strings.Join(args, " "))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if lines.Text() == "took one" {
					mu.Lock()
					won++
					mu.Unlock()
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won != tokens {
		t.Errorf("%d tokens were taken %d times", tokens, won)
	}
}

// takeAll is one of the processes: it takes what it can get.
func takeAll(t *testing.T, args []string) {
	d, err := Open(args[0], Config{Now: newMeshDir(t).clock.now})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range args[1:] {
		hash, err := hex.DecodeString(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = d.TakeToken(t.Context(), [32]byte(hash))
		switch {
		case err == nil:
			fmt.Println("took one")
		case !errors.Is(err, platform.ErrNoToken):
			t.Error(err)
		}
	}
}

func TestTokensAreSweptLongAfterTheyExpired(t *testing.T) {
	m := newMeshDir(t)
	d := m.open()
	_, token := attest.NewToken("shop", "web", time.Hour, m.clock.now())
	if err := d.AddToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	m.write(".sealmesh/tokens/"+strings.Repeat("0", 64)+".json", "{")
	m.watched(d)
	kept := func() int {
		files, err := filepath.Glob(filepath.Join(m.path, ".sealmesh/tokens/*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	m.clock.add(2 * time.Hour)
	d.maintain()
	if kept() != 2 {
		t.Fatal("a token that expired lately was removed: its holder would not learn why")
	}
	m.clock.add(sweepAfter)
	m.until("swept, all but what cannot be read", func() bool { return kept() == 1 })
	_, err := d.TakeToken(t.Context(), [32]byte{})
	if err == nil || errors.Is(err, platform.ErrNoToken) || !strings.Contains(err.Error(), strings.Repeat("0", 64)) {
		t.Errorf("got %v, want an error that names the file", err)
	}
}
