// Package cli is the sealmesh command.
//
// A command says what it found on standard output and what it is doing on
// standard error. When it fails it prints "error:" with what, where and what is
// allowed, and "hint:" with what to do next.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"
)

// hinted is an error with what to do next.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func hint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// Run runs the command line and returns the exit code: 0 if it did what was
// asked, 1 if what it checks did not hold, 2 if it was used wrongly or failed, 3 if
// too little was seen to say whether it holds.
func Run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	root := command(version, args)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if _, failed := errors.AsType[checkFailed](err); failed {
		return 1
	}
	if _, unsure := errors.AsType[inconclusive](err); unsure {
		return 3
	}
	fmt.Fprintln(stderr, "error:", err)
	if h, ok := errors.AsType[hinted](err); ok {
		fmt.Fprintln(stderr, "hint:", h.hint)
	} else if errors.Is(err, fs.ErrPermission) {
		fmt.Fprintln(stderr, "hint: run it with sudo, or as a user who may")
	} else if strings.HasPrefix(err.Error(), "unknown command") {
		fmt.Fprintln(stderr, "hint: see \"sealmesh --help\" for the commands there are")
	}
	return 2
}

// checkFailed is returned by a command that has already said what did not hold.
type checkFailed struct{ error }

// inconclusive is returned by a command that has already said why it cannot say.
type inconclusive struct{ error }

// command is the command line; args are what was typed, for reports to repeat.
func command(version string, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "sealmesh",
		Short: "Seal every connection between workloads, and prove it from the wire",
		Long: `Sealmesh seals every TCP connection between workloads in mutual TLS, each
workload with its own identity, without touching the programs; and it says from
packets, of any mesh or none, what is encrypted and what is not.

Begin with "sealmesh demo": two nodes, real programs, a capture before and after;
or with "sealmesh verify --read FILE".`,
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("sealmesh {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return hint(err, "see \"%s --help\"", c.CommandPath())
	})
	root.AddCommand(
		demoCommand(),
		verifyCommand(args),
		upCommand(),
		downCommand(),
		statusCommand(),
		joinTokenCommand(),
		identityCommand(),
		trustCommand(),
		edgesCommand(),
		captureCommand(version),
		followCommand(),
	)
	return root
}
