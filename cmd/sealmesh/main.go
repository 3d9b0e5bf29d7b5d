// Command sealmesh seals the connections between workloads and proves it from
// the wire.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/sealmesh/sealmesh/internal/cli"
)

// version is set by the linker.
var version = "dev"

// The main thread stays where we were started: /proc/PID/ns/net, and so "ip netns
// pids", tell where it is, while other threads are in the namespaces of workloads.
func init() { runtime.LockOSThread() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := cli.Run(ctx, version, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
