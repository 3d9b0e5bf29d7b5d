package main

import (
	"bufio"
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Each recording is the output of `go test -json`; beside it stands what a
// person is told of it.
func TestARecordedRunIsToldAsItsGoldenSays(t *testing.T) {
	recordings, err := filepath.Glob("testdata/*.jsonl")
	if err != nil || len(recordings) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, recording := range recordings {
		t.Run(filepath.Base(recording), func(t *testing.T) {
			got, _ := tell(t, recording)
			golden := strings.TrimSuffix(recording, ".jsonl") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestARunPassesOnlyIfATestRanAndNoneFailed(t *testing.T) {
	for recording, want := range map[string]bool{
		"passed": true, "failed": false, "no-tests": false, "skipped": false, "cut-short": false,
	} {
		if _, passed := tell(t, filepath.Join("testdata", recording+".jsonl")); passed != want {
			t.Errorf("%s: passed is %v, want %v", recording, passed, want)
		}
	}
}

// tell folds a recording and returns the story and its verdict.
func tell(t *testing.T, recording string) (story string, passed bool) {
	t.Helper()
	b, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s := newSummary(newPrinter(&out, false))
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		s.line(lines.Bytes())
	}
	passed = s.finish(1500 * time.Millisecond)
	return out.String(), passed
}
