// Command sealmesh seals the connections between workloads and proves it from
// the wire.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/sealmesh/sealmesh/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := cli.Run(ctx, version, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
