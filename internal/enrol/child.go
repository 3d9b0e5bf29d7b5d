package enrol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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

// start runs the proxy program at path in the workload's namespace, on sockets.
// The end of ctx, or stop, ends it.
func (k *keeper) start(ctx context.Context, path string, s sockets) (*child, error) {
	program, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	token, err := k.config.Tokens(ctx, k.workload.Namespace, k.workload.Name)
	if err != nil {
		return nil, fmt.Errorf("join token: %w", err)
	}
	r := recipe{path, token, append(slices.Clone(s), program)}
	c, err := k.startFile(ctx, path, r)
	if errors.Is(err, fs.ErrPermission) {
		// A directory above the program is closed to the proxies' user, as /root is;
		// not so the descriptor that we opened.
		return k.startFile(ctx, fmt.Sprintf("/proc/self/fd/%d", firstExtra+len(s)), r)
	}
	return c, err
}

// recipe is what a child is made of.
type recipe struct {
	path  string // of the program, as people know it
	token string
	files []*os.File // the sockets, then the program
}

// startFile starts the program by one of its names.
func (k *keeper) startFile(ctx context.Context, file string, r recipe) (*child, error) {
	notify, err := newNotify(k.dir)
	if err != nil {
		return nil, fmt.Errorf("notify socket: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	cmd := k.command(ctx, file, r)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.path)
	c := &child{path: r.path, stop: stop, ready: make(chan struct{}), done: make(chan struct{})}
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

// firstExtra is the number of the first of ExtraFiles in the child, the same for
// os/exec and for sd_listen_fds(3).
const firstExtra = 3

// command is the proxy as a process: the proxies' user, the one capability they
// need, and nothing of our environment.
func (k *keeper) command(ctx context.Context, file string, r recipe) *exec.Cmd {
	cmd := exec.CommandContext(ctx, file)
	cmd.Args = slices.Concat([]string{r.path}, k.config.Args, []string{"--token-file", "-"})
	cmd.Env = append(slices.Clone(k.config.Env),
		fmt.Sprintf("LISTEN_FDS=%d", len(r.files)-1), "LISTEN_FDNAMES="+socketNames)
	cmd.Dir = "/"
	cmd.ExtraFiles = r.files
	cmd.Stdin = strings.NewReader(r.token)
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
