// Captures keeps what real programs say to each other, labelled, and measures
// the judge of package verify by it.
//
//	scenes (scenes_*.go)        two workloads of a lab, what runs in them, and what
//	    │                       each flow in truth is
//	    ▼  record.go
//	testdata/<scene>.pcap       the goldens
//	    │
//	    ├─▶ judge.go            each flow's finding against its label
//	    ▼  variants*.go
//	the same, damaged           cut, halved, shuffled, wrapped, lost: pure functions
//	    │                       over packets, with a fixed seed
//	    ▼  matrix.go
//	confusion matrix            of truths by verdicts; a flow in clear that is called
//	                            sealed, or the reverse, fails the run
//
// Usage: go run ./test/captures record [SCENE…], or oracle, which has tshark label
// the corpus that lies beside the repository, or matrix.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// testdata is where the goldens are, from the root of the repository.
const testdata = "test/captures/testdata"

// run is the command line.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: captures record [SCENE...] | oracle | matrix")
	}
	if play, ok := roles[args[0]]; ok {
		return play(ctx, args[1:], out)
	}
	switch args[0] {
	case "record":
		return record(ctx, args[1:], testdata, out)
	case "oracle":
		return askOracle(ctx, corpusDir, filepath.Join(testdata, corpusLabels))
	case "matrix":
		return matrix(out)
	}
	return fmt.Errorf("%q: must be record, oracle or matrix", args[0])
}

// proofPage quotes the matrix, between two lines.
const (
	proofPage  = "docs/proof.md"
	quoteBegin = "<!-- make matrix -->\n"
	quoteEnd   = "<!-- end -->\n"
)

// quote puts the matrix into a page.
func quote(path, matrix string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(page), quoteBegin)
	_, after, ok2 := strings.Cut(rest, quoteEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: the lines %q and %q are missing", path, quoteBegin, quoteEnd)
	}
	return os.WriteFile(path, []byte(before+quoteBegin+"\n```\n"+matrix+"```\n\n"+quoteEnd+after), 0o644)
}

// matrix prints the confusion matrix and keeps it in the documents. It fails if any
// verdict is false.
func matrix(out io.Writer) error {
	goldens, err := loadGoldens(testdata)
	if err != nil {
		return err
	}
	m := measure(goldens, theJudge)
	files, told, err := loadCorpus(corpusDir, filepath.Join(testdata, corpusLabels))
	if err != nil {
		return err
	}
	if files != nil {
		m.corpora = measureCorpus(files, told, theJudge)
	}
	var page bytes.Buffer
	m.print(&page)
	if _, err := out.Write(page.Bytes()); err != nil {
		return err
	}
	if files == nil {
		fmt.Fprintf(out, "the corpus of other people's captures is not here: %s\n", corpusDir)
	} else if err := quote(proofPage, page.String()); err != nil {
		return err
	}
	broken := m.broken()
	for _, b := range broken {
		fmt.Fprintln(out, b)
	}
	if len(broken) > 0 {
		return fmt.Errorf("%d false verdicts", len(broken))
	}
	return nil
}
