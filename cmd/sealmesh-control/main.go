// Command sealmesh-control is the control plane on its own: it issues
// certificates and streams snapshots from a directory of objects. `sealmesh up`
// runs the same in its own process.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags as they were written.
type options struct {
	dir, socket, listen, metrics string
	socketGroup                  int
	logLevel, logFormat          string
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "sealmesh-control",
		Short: "Issue certificates and stream snapshots from a directory of objects",
		Long: `Issue certificates and stream snapshots from a directory of objects.

Proxies on this machine use the unix socket, proxies on others --listen. The
command line asks over the unix socket too, as root or as the user this runs as.`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), cmd.ErrOrStderr(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "directory of objects in YAML")
	f.StringVar(&o.socket, "socket", "", "path of the unix socket (default <dir>/.sealmesh/control.sock)")
	f.IntVar(&o.socketGroup, "socket-group", 0, "group that may use the socket too, 0 for none")
	f.StringVar(&o.listen, "listen", "", "TCP address for proxies on other machines, such as :15012")
	f.StringVar(&o.metrics, "metrics", "", "loopback address to serve /metrics at, such as 127.0.0.1:15014")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	cobra.CheckErr(c.MarkFlagRequired("dir"))
	return c
}

func run(ctx context.Context, stderr io.Writer, o options) error {
	log, err := obs.NewLogger(stderr, o.logFormat, o.logLevel)
	if err != nil {
		return err
	}
	objects, err := dir.Open(o.dir, dir.Config{Log: log})
	if err != nil {
		return err
	}
	if o.socket == "" {
		o.socket = filepath.Join(o.dir, ".sealmesh", "control.sock")
	}
	server, err := control.New(control.Config{
		Platform:    objects,
		Socket:      o.socket,
		SocketGroup: o.socketGroup,
		Listen:      o.listen,
		Metrics:     o.metrics,
		Log:         log,
	})
	if err != nil {
		return err
	}
	return server.Run(ctx)
}
