// Package script runs the command line as a person would, by scripts in testdata
// (testscript). Nothing here needs root.
package script

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealmesh/sealmesh/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sealmesh": func() { os.Exit(cli.Run(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
