package cli

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmesh/sealmesh/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Config
	c := &cobra.Command{
		Use:   "demo",
		Short: "Seal two real programs on this machine and watch the wire",
		Long: `Seal two real programs on this machine and watch the wire.

Makes two nodes out of network namespaces, runs nc on both, and reads the wire
between them with tcpdump: before sealing, after sealing, and while intruders try
to get in. Everything is removed at the end, and on Ctrl-C; the captures stay.

Exits with 0 if everything that was claimed held, and with 1 if not.`,
		Example: "  sealmesh demo --keep",
		Args:    cobra.NoArgs,
	}
	f := c.Flags()
	f.BoolVar(&o.Keep, "keep", false, "leave the lab running until Ctrl-C, and show the ways in")
	f.StringVar(&o.Dir, "dir", "", "directory for the captures (default: a new temporary one)")
	f.StringVar(&o.Proxy, "proxy", "", "sealmesh-proxy program (default: beside this one, or in PATH)")
	_ = c.MarkFlagDirname("dir")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if os.Geteuid() != 0 {
			return hint(errors.New("the demo makes network namespaces and needs root"), "run it with sudo")
		}
		o.Out = cmd.OutOrStdout()
		o.Color = colorful(o.Out)
		err := demo.Run(cmd.Context(), o)
		if errors.Is(err, demo.ErrNotHeld) {
			return checkFailed{err}
		}
		return err
	}
	return c
}

// colorful reports whether w is a terminal whose user has not asked for plain
// text (https://no-color.org).
func colorful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
