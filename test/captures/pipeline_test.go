package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/report"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// Bounds of the pipeline: tight, so that small files reach them too.
var pipelineLimits = capture.Limits{Flows: 16, Bytes: 256 << 10}

// errNoCapture: the file is of no format that is read.
var errNoCapture = errors.New("no capture file")

// verifyFile takes a file through all that "sealmesh verify -o json" does.
func verifyFile(content []byte) ([]byte, *verify.Report, error) {
	src, err := capture.OpenSource(bytes.NewReader(content), "")
	if err != nil {
		return nil, nil, errNoCapture
	}
	session := verify.NewSession(verify.Config{MaxFlows: 64})
	table := capture.NewTable(pipelineLimits, session.Add)
	cut := ""
	if err := table.Read(src); err != nil {
		cut = "the file breaks off"
	}
	judged := session.Report(verify.Seen{Counts: table.Close(), Cut: cut})
	var b bytes.Buffer
	err = report.Write(&b, report.JSON, report.Of(judged, report.Meta{}), report.Style{})
	return b.Bytes(), judged, err
}

// FuzzVerifyPipeline: whatever a file holds, nothing panics, what comes out is one
// object of JSON, of a bounded size, and the same at each run.
func FuzzVerifyPipeline(f *testing.F) {
	const largest = 24 << 10 // of a seed: the fuzzer slows down with them
	files, err := filepath.Glob("testdata/*.pcap")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(content) <= largest {
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		out, judged, err := verifyFile(content)
		if errors.Is(err, errNoCapture) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			Result verify.Result `json:"result"`
			Flows  []struct {
				Verdict verify.Verdict `json:"verdict"`
			} `json:"flows"`
		}
		if err := json.Unmarshal(out, &parsed); err != nil {
			t.Fatalf("%v in %q", err, out)
		}
		if parsed.Result != judged.Result || len(parsed.Flows)+judged.Coverage.Unlisted != judged.Coverage.Flows {
			t.Errorf("%s with %d flows written of %s with %d", parsed.Result, len(parsed.Flows), judged.Result, judged.Coverage.Flows)
		}
		for _, found := range parsed.Flows {
			if parsed.Result == verify.Sealed && (found.Verdict == verify.Plaintext || found.Verdict == verify.Unknown) {
				t.Errorf("sealed, with a flow that is %s", found.Verdict)
			}
		}
		const fixed, each = 4 << 10, 16 << 10 // bytes of a report, and of a flow in it
		if len(out) > fixed+each*len(parsed.Flows)+8*len(content) {
			t.Errorf("%d bytes say what %d held", len(out), len(content))
		}
		if again, _, _ := verifyFile(content); !bytes.Equal(again, out) {
			t.Errorf("another run says\n%s, not\n%s", again, out)
		}
	})
}
