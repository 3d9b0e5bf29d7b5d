package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/test/lab"
)

// build builds the real programs and returns the path of sealmesh.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range []string{"sealmesh", "sealmesh-proxy"} {
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "github.com/sealmesh/sealmesh/cmd/"+program).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return filepath.Join(dir, "sealmesh")
}

func TestEverythingHolds(t *testing.T) {
	lab.NeedRoot(t)
	dir := t.TempDir()
	var told bytes.Buffer
	err := Run(t.Context(), Config{Out: &told, Program: build(t), Dir: dir})
	t.Logf("%s", told.String())
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "up.log"))
		t.Fatalf("%v\n%s", err, log)
	}
	for _, want := range []string{"746573740a", "TLS 1.3", "X25519MLKEM768", "SNI receiver.demo.demo.local", "wrong_identity"} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("%q is not told", want)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	t.Log(left)
	_ = context.Background
	_ = errors.New
}
