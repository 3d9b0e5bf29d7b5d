// Command sealmesh-proxy seals what one workload sends and is sent. It runs in
// the workload's network namespace, or on a host beside a user's or a cgroup's
// processes, and knows nothing of Kubernetes.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/sidecar"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// version is set by the linker.
var version = "dev"

// gcPercent trades a little CPU for a heap that stays close to what is in use: a
// sidecar is multiplied by every workload. GOGC overrides it.
const gcPercent = 50

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

// options are the flags as they were written.
type options struct {
	control, trustDomain, anchors, tokenFile string
	logLevel, logFormat                      string
	drain                                    time.Duration
	maxConnections                           int
}

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "sealmesh-proxy",
		Short: "Seal what one workload sends and is sent",
		Long: `Seal what one workload sends and is sent.

The proxy takes its sockets from its supervisor (systemd socket activation, names
outbound, inbound and admin, and keys for session secrets) or opens them itself,
which needs CAP_NET_ADMIN. It reports readiness by sd_notify and ends on SIGTERM
once its connections have drained. Redirecting the workload's connections to it is the work of
"sealmesh up".`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.control, "control", "", "control plane: unix:///path or https://host:port")
	f.StringVar(&o.trustDomain, "trust-domain", "", "trust domain of the workload, such as demo.local")
	f.StringVar(&o.anchors, "anchors", "", "file with the trust anchors in PEM")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the join token, - for standard input")
	f.DurationVar(&o.drain, "drain", 30*time.Second, "how long connections may go on after SIGTERM")
	f.IntVar(&o.maxConnections, "max-connections", 65536, "connections of both directions and lanes together")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	for _, name := range []string{"control", "trust-domain", "anchors", "token-file"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return c
}

func run(ctx context.Context, o options) error {
	logs := obs.NewBatch(os.Stderr)
	defer logs.Close()
	log, err := obs.NewLogger(logs, o.logFormat, o.logLevel)
	if err != nil {
		return err
	}
	td, err := id.ParseTrustDomain(o.trustDomain)
	if err != nil {
		return fmt.Errorf("--trust-domain: %w", err)
	}
	pem, err := os.ReadFile(o.anchors)
	if err != nil {
		return fmt.Errorf("--anchors: %w", err)
	}
	anchors, err := snapshot.ParseBundle(td, pem)
	if err != nil {
		return fmt.Errorf("--anchors %s: %w", o.anchors, err)
	}
	stopProfile, err := profile(os.Getenv("SEALMESH_CPUPROFILE"))
	if err != nil {
		return err
	}
	defer stopProfile()
	return sidecar.Run(ctx, sidecar.Config{
		Control:        o.control,
		TrustDomain:    td,
		Anchors:        anchors,
		Token:          token(o.tokenFile),
		OneToken:       o.tokenFile == "-",
		Drain:          o.drain,
		MaxConnections: o.maxConnections,
		Version:        version,
		Log:            log,
	})
}

// token reads the join token whenever it is wanted. From a file it is read anew
// each time, so that a fresh one can be put there; standard input is read once.
func token(file string) func() (string, error) {
	read := func() (string, error) {
		b, err := os.ReadFile(file)
		return strings.TrimSpace(string(b)), err
	}
	if file == "-" {
		return sync.OnceValues(func() (string, error) {
			b, err := io.ReadAll(io.LimitReader(os.Stdin, 4096))
			return strings.TrimSpace(string(b)), err
		})
	}
	return read
}

// profile writes a CPU profile of the whole run, for work on the proxy itself. In
// a directory each process has a file of its own.
func profile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, fmt.Sprintf("sealmesh-proxy-%d.pprof", os.Getpid()))
	}
	out, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("SEALMESH_CPUPROFILE: %w", err)
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return nil, fmt.Errorf("SEALMESH_CPUPROFILE: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = out.Close()
	}, nil
}
