// Package enrol is the node's side of sealing: it turns a list of workloads of
// this machine into sealed ones, and keeps them so. It needs root.
//
// Each workload has a keeper, a goroutine that walks it through its phases:
//
//	         ┌──────────────── namespace made anew ──────────────────┐
//	         ▼                                                       │
//	guard ──► sockets ──► proxy started ──► READY=1 ──► redirect ────┤
//	                           ▲                            │        │
//	                           └──── backoff ◄── proxy died ┘        │
//	                                                                 ▼
//	removed, or the end: SIGTERM ─► drain ─► SIGKILL ─► sockets closed, rules gone
//
// The workload passes nothing from the first rule on until its proxy is ready.
// The keeper opens the proxy's sockets and holds them: when a proxy dies, or is
// upgraded, connections wait in the sockets' queues and none is refused. The
// rules of a namespace are in the hands of its realm, which several keepers share
// on a host; every ten seconds all are compared with the kernel and repaired.
//
// Locking: Enroller.mu guards the keepers, keeper.mu what is known of one
// workload, realm.mu the rules of one namespace; taken in this order.
package enrol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sealmesh/sealmesh/internal/obs"
)

// checkEvery is how often the rules are compared with the kernel.
const checkEvery = 10 * time.Second

// Config says how workloads of this machine are sealed.
type Config struct {
	// Proxy is the path of the proxy program, Args its arguments, to which
	// "--token-file -" is added, and Env its whole environment, to which the
	// variables of sd_listen_fds(3) and sd_notify(3) are added.
	Proxy string
	Args  []string
	Env   []string
	// Control is where proxies reach the control plane; zero if by a unix socket.
	Control netip.AddrPort
	// Tokens makes a join token for a workload. It is called for each proxy that
	// is started: a proxy keeps its key in memory, so that each is a new one.
	Tokens func(ctx context.Context, namespace, name string) (string, error)
	// Drain is how long a proxy may take to end after SIGTERM. Longer than its own
	// deadline.
	Drain time.Duration
	// KeepRules leaves the rules behind at the end: what was sealed then passes
	// nothing, until it is enrolled again. Otherwise they are removed.
	KeepRules bool
	// Dir is where the sockets are made that proxies report to and are asked at, by a
	// short path that any user may enter; the system's temporary directory if empty.
	Dir string
	// Output takes what proxies print.
	Output io.Writer
	// Ticks says when to compare the rules with the kernel; every 10 s if nil.
	Ticks <-chan time.Time
	Log   *slog.Logger
}

// Validate reports every problem of the configuration at once.
func (c Config) Validate() error {
	var problems []error
	for _, required := range []struct {
		what    string
		missing bool
	}{
		{"proxy program", c.Proxy == ""},
		{"source of join tokens", c.Tokens == nil},
		{"time to drain", c.Drain <= 0},
		{"log", c.Log == nil},
	} {
		if required.missing {
			problems = append(problems, fmt.Errorf("enrol: %s: must be given", required.what))
		}
	}
	return errors.Join(problems...)
}

// Enroller seals the workloads of this machine. Make one with New.
type Enroller struct {
	config  Config
	desired chan []Workload // the latest that was not taken yet
	backoff func(attempt int) time.Duration

	mu      sync.Mutex // guards below
	keepers map[string]*keeper
	realms  map[string]*realm
}

// New makes an enroller. It does nothing until Run.
func New(config Config) (*Enroller, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	return &Enroller{
		config:  config,
		desired: make(chan []Workload, 1),
		backoff: backoff,
		keepers: make(map[string]*keeper),
		realms:  make(map[string]*realm),
	}, nil
}

// Apply says which workloads are to be sealed from now on. It does not wait; of
// several calls the latest wins. Workloads that are no longer listed are drained
// and unsealed. The error says what is wrong with the list, which then has no
// effect at all. Only one goroutine may call Apply.
func (e *Enroller) Apply(workloads []Workload) error {
	if err := validate(workloads); err != nil {
		return err
	}
	select { // take back what nobody has looked at
	case <-e.desired:
	default:
	}
	e.desired <- slices.Clone(workloads)
	return nil
}

// Run seals what Apply says until ctx ends, then drains all proxies and removes
// the rules, unless Config.KeepRules. It returns when no proxy is left.
func (e *Enroller) Run(ctx context.Context) error {
	// Proxies send READY=1 to sockets in here, and are asked for session secrets.
	// Others may not look in.
	dir, err := os.MkdirTemp(e.config.Dir, "proxies-")
	if err != nil {
		return fmt.Errorf("enrol: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // proxies and callers must get to their sockets
		return fmt.Errorf("enrol: %w", err)
	}
	ticks := e.config.Ticks
	if ticks == nil {
		ticker := time.NewTicker(checkEvery)
		defer ticker.Stop()
		ticks = ticker.C
	}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case workloads := <-e.desired:
			e.reconcile(ctx, dir, workloads, &running)
		case <-ticks:
			e.check()
		}
	}
}

// reconcile starts, changes and stops keepers so that they are those wanted.
func (e *Enroller) reconcile(ctx context.Context, dir string, workloads []Workload, running *sync.WaitGroup) {
	e.mu.Lock()
	defer e.mu.Unlock()
	wanted := make(map[string]bool)
	for _, w := range workloads {
		wanted[w.String()] = true
	}
	for name, k := range e.keepers {
		if !wanted[name] {
			k.stop(removeRules)
		}
	}
	e.guardNew(workloads)
	for _, w := range workloads {
		old := e.keepers[w.String()]
		if old != nil && old.keeps(w) {
			if err := old.change(w); err != nil {
				old.log.Error("ports not changed", obs.KeyError, err)
			}
			continue
		}
		if old != nil {
			// In the same namespace it stays sealed all the while.
			old.stop(old.workload.NetNS == w.NetNS)
		}
		ctx, cancel := context.WithCancel(ctx)
		k := newKeeper(e, w, dir, cancel, old)
		e.keepers[w.String()] = k
		running.Go(func() { k.run(ctx) })
	}
}

// guardNew guards the new workloads of each namespace in one transaction: rules
// that a former run left behind give way to those of all workloads, not to those
// of the first.
func (e *Enroller) guardNew(workloads []Workload) {
	fresh := make(map[*realm][]Workload)
	for _, w := range workloads {
		if e.keepers[w.String()] == nil {
			r := e.realm(w.NetNS)
			fresh[r] = append(fresh[r], w)
		}
	}
	for r, workloads := range fresh {
		// Not logged: each keeper tries again and says what fails.
		_ = r.guard(workloads...)
	}
}

// realm is the one realm of a namespace.
func (e *Enroller) realm(path string) *realm {
	r := e.realms[path]
	if r == nil {
		r = &realm{path: path, control: e.config.Control}
		e.realms[path] = r
	}
	return r
}

// check repairs the rules of every namespace, and has keepers begin anew whose
// namespace was made anew.
func (e *Enroller) check() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, k := range e.keepers {
		if k.ended() {
			delete(e.keepers, name)
			continue
		}
		k.checkNamespace()
	}
	for _, r := range e.realms {
		r.repair(e.config.Log)
	}
}

// Upgrade replaces the proxy of a workload by the program at path, which serves
// beside the old one on the same sockets until it is ready; then the old one
// drains. The error says why it did not come about: the old one serves on.
func (e *Enroller) Upgrade(ctx context.Context, namespace, name, path string) error {
	w := Workload{Namespace: namespace, Name: name}
	e.mu.Lock()
	k := e.keepers[w.String()]
	e.mu.Unlock()
	if k == nil {
		return fmt.Errorf("upgrade %s: no such workload here", w)
	}
	return k.upgrade(ctx, path)
}

// Status is how each workload stands, by name. One that drains is listed too.
func (e *Enroller) Status() []Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]Status, 0, len(e.keepers))
	for _, k := range e.keepers {
		if !k.ended() {
			all = append(all, k.report())
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Workload, b.Workload) })
	return all
}
