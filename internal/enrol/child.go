package enrol

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/redirect"
)

// child is one proxy process.
type child struct {
	pid   int
	path  string
	stop  context.CancelFunc // SIGTERM, and SIGKILL when the time to drain is over
	ready chan struct{}      // closed at READY=1
	done  chan struct{}      // closed when the process has ended
	err   error              // how it ended; read after done
}

// start runs the proxy program at path in a realm's namespace, on sockets. The
// end of ctx, or stop, ends it.
func (k *keeper) start(ctx context.Context, path string, s sockets) (*child, error) {
	token, err := k.config.Tokens(ctx, k.workload.Namespace, k.workload.Name)
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	// The program is run by its open descriptor: its directory may be closed to
	// the proxy's user, and what runs is what was opened.
	program, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	notify, err := newNotify(k.dir)
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	c := &child{path: path, stop: stop, ready: make(chan struct{}), done: make(chan struct{})}
	cmd := k.command(ctx, c, s, program)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.path)
	cmd.Stdin = strings.NewReader(token)
	started := make(chan error)
	go func() {
		defer close(c.done)
		defer stop()
		defer notify.close()
		c.err = runIn(k.realm.path, cmd, started)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.pid = cmd.Process.Pid
	go notify.await(c.ready)
	return c, nil
}

// command is the proxy as a process: the proxy's user, with the one capability
// it needs, and nothing of our environment.
func (k *keeper) command(ctx context.Context, c *child, s sockets, program *os.File) *exec.Cmd {
	const firstExtra = 3 // os/exec numbers ExtraFiles from here, as sd_listen_fds does
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", firstExtra+len(s)))
	cmd.Args = append([]string{c.path}, append(k.config.Args, "--token-file", "-")...)
	cmd.ExtraFiles = append(append([]*os.File(nil), s...), program)
	cmd.Env = append(append([]string(nil), k.config.Env...),
		fmt.Sprintf("LISTEN_FDS=%d", len(s)), "LISTEN_FDNAMES="+socketNames)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = k.config.Output, k.config.Output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = k.config.Drain
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: ports.ProxyUID, Gid: ports.ProxyUID},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN},
		// Ctrl-C in a terminal is for us; we tell the proxies.
		Setpgid: true,
		// If we are killed, proxies drain and end, and the rules stay: nothing passes.
		Pdeathsig: syscall.SIGTERM,
	}
	return cmd
}

// runIn runs a command to its end in a network namespace; its start is told on
// started. Pdeathsig is sent when the thread that forked ends, not the process:
// so one thread forks and then waits for as long as the child lives. It is never
// unlocked, and ends with the goroutine, because it is in the wrong namespace for
// anything else.
func runIn(netns string, cmd *exec.Cmd, started chan<- error) error {
	runtime.LockOSThread()
	if netns != "" {
		if err := redirect.Enter(netns); err != nil {
			started <- err
			return err
		}
	}
	err := cmd.Start()
	started <- err
	if err != nil {
		return err
	}
	return cmd.Wait()
}

// notify is a socket that a proxy reports to (sd_notify(3)).
type notify struct {
	conn *net.UnixConn
	path string
}

// newNotify makes the socket in dir, for the proxies' user alone.
func newNotify(dir string) (*notify, error) {
	own, err := os.MkdirTemp(dir, "")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(own, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	for _, p := range []string{path, own} {
		if err := os.Chown(p, ports.ProxyUID, ports.ProxyUID); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return &notify{conn, path}, nil
}

// await closes ready at the first READY=1, and returns when the socket is closed.
func (n *notify) await(ready chan<- struct{}) {
	message := make([]byte, 4096)
	for told := false; ; {
		size, err := n.conn.Read(message)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(message[:size])) {
			if strings.TrimSpace(line) == "READY=1" && !told {
				close(ready)
				told = true
			}
		}
	}
}

func (n *notify) close() {
	_ = n.conn.Close()
	_ = os.RemoveAll(filepath.Dir(n.path))
}
