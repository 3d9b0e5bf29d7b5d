// Package script runs the command line as a person would, by scripts in testdata
// (testscript). Nothing here needs root.
package script

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealmesh/sealmesh/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sealmesh":     func() { os.Exit(cli.Run(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdout, os.Stderr)) },
		"make-capture": makeCapture,
		"exit-of":      exitOf,
	})
}

// exitOf is the command "exit-of PROGRAM ARG...": it prints the exit code, which
// scripts cannot tell otherwise from another that is not 0.
func exitOf() {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
	fmt.Println(cmd.ProcessState.ExitCode())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
