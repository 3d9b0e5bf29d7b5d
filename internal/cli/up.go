package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/control"
	"github.com/sealmesh/sealmesh/internal/enrol"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/internal/ports"
)

// upOptions are the flags of "sealmesh up".
type upOptions struct {
	listen, metrics     string
	proxy               string
	logFormat, logLevel string
	drain               time.Duration
	keepRules           bool
}

func upCommand() *cobra.Command {
	var o upOptions
	c := &cobra.Command{
		Use:   "up",
		Short: "Seal the workloads of this machine that a directory describes",
		Long: `Seal the workloads of this machine that a directory describes.

Runs the control plane on a directory of YAML objects, redirects the TCP of every
local workload, and runs one sealmesh-proxy beside each. Edits of the directory
take effect at once. Ctrl-C drains, and leaves nothing behind.

A workload is local if it names a network namespace, a user or a cgroup. It passes
no traffic until its proxy is ready.

After an upgrade of the sealmesh-proxy program send SIGHUP: one proxy after the
other is replaced, once the new one is ready, and no connection is refused or cut
that ends within --drain.`,
		Example: "  sealmesh up -f mesh/",
		Args:    cobra.NoArgs,
	}
	dir := flagDir(c)
	f := c.Flags()
	f.StringVar(&o.listen, "listen", "", fmt.Sprintf("address for proxies of other machines, such as :%d", ports.Control))
	f.StringVar(&o.metrics, "metrics", "", "loopback address for the control plane's metrics, such as 127.0.0.1:9464")
	f.StringVar(&o.proxy, "proxy", "", "sealmesh-proxy program (default: beside this one, or in PATH)")
	f.DurationVar(&o.drain, "drain", 30*time.Second, "how long connections may go on when a proxy stops")
	f.BoolVar(&o.keepRules, "keep-rules", false, "at the end, leave workloads cut off rather than unsealed")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return up(cmd.Context(), *dir, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return c
}

// up runs until ctx ends.
func up(ctx context.Context, directory string, o upOptions, stdout, stderr io.Writer) error {
	if os.Geteuid() != 0 {
		return hint(errors.New("sealing workloads needs root"), "run it with sudo")
	}
	// Whoever reads what we print may go away before we do; tell then fails, and all
	// ends in order.
	signal.Ignore(syscall.SIGPIPE)
	log, err := obs.NewLogger(stderr, o.logFormat, o.logLevel)
	if err != nil {
		return err
	}
	proxy, err := findProxy(o.proxy)
	if err != nil {
		return err
	}
	p, err := newPlace(directory)
	if err != nil {
		return err
	}
	held, err := p.claim()
	if err != nil {
		return err
	}
	end := held.forget
	if o.keepRules {
		end = held.leave
	}
	defer end()
	objects, err := dir.Open(p.dir, dir.Config{Log: log})
	if err != nil {
		return hint(err, "mend it and run the command again")
	}
	m := &running{place: p, objects: objects, proxy: proxy, log: log, told: stdout}
	if err := m.assemble(o, stderr); err != nil {
		return err
	}
	return m.run(ctx)
}

// running is the parts of one mesh on this machine.
type running struct {
	place
	objects *dir.Dir
	proxy   string // path of the program
	control *control.Server
	enroll  *enrol.Enroller
	log     *slog.Logger
	told    io.Writer
}

func (m *running) assemble(o upOptions, stderr io.Writer) (err error) {
	m.control, err = control.New(control.Config{
		Platform:    m.objects,
		Socket:      m.socket(),
		SocketGroup: ports.ProxyUID,
		Listen:      o.listen,
		Metrics:     o.metrics,
		Log:         m.log,
	})
	if err != nil {
		return err
	}
	m.enroll, err = enrol.New(enrol.Config{
		Proxy: m.proxy,
		Args: []string{
			"--control", "unix://" + m.socket(),
			"--trust-domain", m.objects.State().TrustDomain().Name(),
			"--anchors", m.anchors(),
			"--drain", o.drain.String(),
			"--log-level", o.logLevel, "--log-format", o.logFormat,
		},
		Env:       passedOn(os.Environ()),
		Tokens:    m.token,
		Drain:     o.drain + 5*time.Second,
		KeepRules: o.keepRules,
		Dir:       m.runtime,
		Output:    stderr,
		Log:       m.log,
	})
	return err
}

// passedOn is what of the environment proxies see.
func passedOn(environ []string) []string {
	var out []string
	for _, e := range environ {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "SEALMESH_") {
			out = append(out, e)
		}
	}
	return out
}

// token makes a join token for a proxy about to start.
func (m *running) token(ctx context.Context, namespace, workload string) (string, error) {
	secret, kept := attest.NewToken(namespace, workload, time.Minute, time.Now())
	return secret, m.objects.AddToken(ctx, kept)
}

func (m *running) run(ctx context.Context) error {
	// The control plane outlives the proxies, so that they drain with it there.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	tasks, serving := errgroup.WithContext(serving)
	tasks.Go(func() error { return m.control.Run(serving) })
	select {
	case <-m.control.Ready():
	case <-serving.Done():
		return tasks.Wait()
	}
	enrolling, end := context.WithCancel(ctx)
	defer end()
	context.AfterFunc(serving, end) // the control plane failed
	tasks.Go(func() error { return m.objects.Watch(enrolling, m.apply) })
	tasks.Go(func() error { return m.tell(enrolling) })
	tasks.Go(func() error { m.upgrade(enrolling); return nil })
	tasks.Go(func() error {
		defer stop()
		return m.enroll.Run(enrolling)
	})
	return tasks.Wait()
}

// apply takes a new state of the objects: what proxies trust at their start, and
// which workloads are ours to seal.
func (m *running) apply(state *platform.State) {
	bundle, err := state.Bundle(state.TrustDomain())
	if err == nil {
		err = m.writeBundle(bundle)
	}
	if err != nil {
		m.log.Error("trust anchors not written", obs.KeyError, err)
	}
	var local []enrol.Workload
	var namespaces []string
	for _, object := range state.Workloads {
		if w, ours := enrol.FromObject(object); ours {
			local = append(local, w)
			namespaces = append(namespaces, w.NetNS)
		}
	}
	// Remembered before anything is changed there, for "sealmesh down".
	if err := m.remember(namespaces); err != nil {
		m.log.Error("namespaces not noted", obs.KeyError, err)
	}
	if err := m.enroll.Apply(local); err != nil {
		m.log.Error("workloads not taken over", obs.KeyError, err)
	}
}

// tellEvery is how often tell looks for news.
const tellEvery = 50 * time.Millisecond

// tell prints one line whenever a workload becomes sealed, by another proxy too,
// or no longer is, and keeps the status that "sealmesh status" reads. It fails when
// nobody can read it any more.
func (m *running) tell(ctx context.Context) error {
	_, err := fmt.Fprintf(m.told, "control plane of %s runs for %s\n", m.objects.State().TrustDomain().Name(), m.dir)
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var before []enrol.Status
	proxies := map[string]int{} // process of each that is sealed
	for err == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		status := m.enroll.Status()
		if slices.Equal(status, before) {
			continue
		}
		before = status
		if err := m.writeStatus(status); err != nil {
			m.log.Error("status not written", obs.KeyError, err)
		}
		for _, s := range status {
			switch {
			case isSealed(s) && proxies[s.Workload] != s.PID:
				proxies[s.Workload] = s.PID
				_, err = fmt.Fprintf(m.told, "sealed %s: %d rules, proxy pid %d\n", s.Workload, s.Rules, s.PID)
			case !isSealed(s) && proxies[s.Workload] != 0:
				proxies[s.Workload] = 0
				_, err = fmt.Fprintf(m.told, "cut off %s: %s\n", s.Workload, cmp.Or(s.Error, "its proxy is away"))
			}
		}
	}
	return fmt.Errorf("nobody reads what is printed: %w", err)
}

// upgradeTime is how long a proxy may take to become ready.
const upgradeTime = time.Minute

// upgrade replaces all proxies, one after the other, at each SIGHUP. One that
// cannot be replaced serves on.
func (m *running) upgrade(ctx context.Context) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangup:
		}
		for _, s := range m.enroll.Status() {
			namespace, name, _ := strings.Cut(s.Workload, "/")
			trying, cancel := context.WithTimeout(ctx, upgradeTime)
			if err := m.enroll.Upgrade(trying, namespace, name, m.proxy); err != nil {
				m.log.Error("proxy not replaced", obs.KeyWorkload, s.Workload, obs.KeyError, err)
			}
			cancel()
		}
	}
}

// findProxy is the proxy's program: as named, beside this one, or in PATH.
func findProxy(named string) (string, error) {
	if named != "" {
		path, err := filepath.Abs(named)
		if err != nil {
			return "", err
		}
		_, err = os.Stat(path)
		return path, err
	}
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), "sealmesh-proxy"); fileExists(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath("sealmesh-proxy")
	if err != nil {
		return "", hint(errors.New("sealmesh-proxy is neither beside this program nor in PATH"),
			"install it, or name it with --proxy")
	}
	return path, nil
}

func fileExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
