package script

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/cli"
	"github.com/sealmesh/sealmesh/internal/report"
)

// sealmesh runs a command line and returns its exit code and what it printed.
func sealmesh(ctx context.Context, t *testing.T, args ...string) (code int, stdout string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Run(ctx, "v0.0.0-test", args, &out, &errs)
	if errs.Len() > 0 {
		t.Logf("standard error: %s", errs.String())
	}
	return code, out.String()
}

// captured makes a capture of scenes and returns its path.
func captured(t *testing.T, scenes ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lab.pcap")
	if err := capture(path, scenes); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestTheSameFileGivesTheSameBytes(t *testing.T) {
	path := captured(t, "tls", "http", "noise", "silent", "tls", "http")
	for _, f := range report.Formats {
		_, first := sealmesh(t.Context(), t, "verify", "--read", path, "-o", string(f))
		for range 20 {
			if _, again := sealmesh(t.Context(), t, "verify", "--read", path, "-o", string(f)); again != first {
				t.Fatalf("%s differs from run to run:\n%s\n%s", f, first, again)
			}
		}
	}
}

// Whoever interrupts a capture gets the verdict so far: plaintext stays plaintext,
// and anything else is not called sealed.
func TestWhatIsInterruptedIsJudgedSoFar(t *testing.T) {
	for scene, want := range map[string]int{"tls": 3, "http": 1} {
		t.Run(scene, func(t *testing.T) {
			// More than a pipe holds: once it is written, some of it was read.
			b, err := os.ReadFile(captured(t, slices.Repeat([]string{scene}, 250)...))
			if err != nil {
				t.Fatal(err)
			}
			b = append(b, bytes.Repeat(b[24:], 1+(1<<18)/len(b))...)
			path := filepath.Join(t.TempDir(), "pipe")
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			pipe, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer pipe.Close()
			ctx, interrupt := context.WithCancel(t.Context())
			go func() {
				defer interrupt()
				if _, err := pipe.Write(b); err != nil {
					t.Error(err)
				}
			}()
			code, out := sealmesh(ctx, t, "verify", "--read", path)
			if code != want || !strings.Contains(out, "interrupted before the end of the capture") {
				t.Errorf("exit code %d:\n%s", code, out)
			}
		})
	}
}

// What the proxies of both ends say makes mutual TLS of what is seen as TLS.
func TestWhatProxiesAttestIsJoined(t *testing.T) {
	path := captured(t, "tls")
	_, out := sealmesh(t.Context(), t, "verify", "--read", path, "-o", "json")
	var seen struct {
		Flows []struct {
			Src, Dst string
			TLS      struct{ Random string }
		}
	}
	if err := json.Unmarshal([]byte(out), &seen); err != nil || len(seen.Flows) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	f := seen.Flows[0]
	args := []string{"verify", "--read", path}
	for direction, ids := range map[string][2]string{"outbound": {"curl", "web"}, "inbound": {"web", "curl"}} {
		answer := fmt.Sprintf(`{"lanes":[{"direction":%q,"client":%q,"server":%q,"local":"spiffe://demo.local/ns/shop/sa/%s","peer":"spiffe://demo.local/ns/shop/sa/%s","client_hello_random":%q}]}`,
			direction, f.Src, f.Dst, ids[0], ids[1], f.TLS.Random)
		saved := filepath.Join(t.TempDir(), "connections.json")
		if err := os.WriteFile(saved, []byte(answer), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--attest", saved)
	}
	code, out := sealmesh(t.Context(), t, args...)
	if code != 0 || !strings.Contains(out, "mutual TLS 1.3") || !strings.Contains(out, "attested  spiffe://demo.local/ns/shop/sa/curl → spiffe://demo.local/ns/shop/sa/web\n") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
