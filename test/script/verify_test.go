package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"
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

// A file that breaks off takes nothing from the next one, and the other way round.
func TestFilesAreJudgedTogether(t *testing.T) {
	cut, sealed, leaky := captured(t, "tls", "cut"), captured(t, "tls"), captured(t, "http")
	for _, c := range []struct {
		files []string
		want  int
	}{{[]string{sealed, cut}, 3}, {[]string{cut, sealed}, 3}, {[]string{cut, leaky}, 1}, {[]string{leaky, sealed}, 1}} {
		code, out := sealmesh(t.Context(), t, append([]string{"verify", "--read"}, c.files...)...)
		if code != c.want || slices.Contains(c.files, cut) != strings.Contains(out, cut+" ends in the middle of a packet") {
			t.Errorf("%v: exit code %d:\n%s", c.files, code, out)
		}
		if !strings.Contains(out, " 2 flows,") {
			t.Errorf("%v: not all was read:\n%s", c.files, out)
		}
	}
}

// A capture that lost packets shows nothing about what it lost.
func TestDropsOfTheCaptureAreDoubts(t *testing.T) {
	for drops, want := range map[uint64]int{0: 0, 7: 3} {
		path := filepath.Join(t.TempDir(), "lab.pcapng")
		if err := withDrops(captured(t, "tls"), path, drops); err != nil {
			t.Fatal(err)
		}
		code, out := sealmesh(t.Context(), t, "verify", "--read", path)
		if code != want || !strings.Contains(out, fmt.Sprintf(" %d dropped,", drops)) {
			t.Errorf("%d drops: exit code %d:\n%s", drops, code, out)
		}
	}
}

// withDrops writes a pcap file as a pcapng file of a capture that lost packets.
func withDrops(from, to string, drops uint64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := pcapgo.NewReader(in)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	w, err := pcapgo.NewNgWriter(out, r.LinkType())
	if err != nil {
		return err
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := w.WritePacket(info, data); err != nil {
			return err
		}
	}
	err = w.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{PacketsReceived: 100, PacketsDropped: drops})
	return errors.Join(err, w.Flush())
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
	if code != 0 || !strings.Contains(out, "mutual TLS 1.3") || !strings.Contains(out, "attested   spiffe://demo.local/ns/shop/sa/curl → spiffe://demo.local/ns/shop/sa/web\n") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
