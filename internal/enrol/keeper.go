package enrol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/redirect"
)

// What becomes of a workload's rules when its keeper ends.
const (
	keepRules   = true
	removeRules = false
)

// longest is the longest time between two tries, and how long a proxy must have
// served for its failure to count as the first.
const longest = 30 * time.Second

// backoff is the time to the next try: from about 0.2 s, doubled each time, at
// most 30 s, and jittered down by up to a half, so that proxies that died
// together do not come back together.
func backoff(attempt int) time.Duration {
	d := longest
	if attempt < 8 {
		d = min(longest, 200*time.Millisecond<<attempt)
	}
	return d - rand.N(d/2+1) //nolint:gosec // jitter is no secret
}

// errAnew means that the workload's namespace was made anew.
var errAnew = errors.New("the network namespace was made anew")

// keeper keeps one workload sealed.
type keeper struct {
	config   Config
	backoff  func(attempt int) time.Duration
	realm    *realm
	workload Workload // for its name and processes: its ports may have changed
	dir      string   // where sockets of ours may be made
	log      *slog.Logger

	cancel   context.CancelFunc
	before   *keeper       // whose place it takes, once that has ended
	done     chan struct{} // closed when it has ended
	upgrades chan upgrade
	anew     chan struct{} // the namespace was made anew

	program string // owned by run: what to start

	mu        sync.Mutex // guards below
	wanted    Workload
	stopped   bool
	keepRules bool // when it ends
	namespace namespaceID
	status    Status
}

// upgrade asks a keeper for another program; the answer comes on result.
type upgrade struct {
	path    string
	giveUp  <-chan struct{}
	outcome chan error
}

func newKeeper(e *Enroller, w Workload, dir string, cancel context.CancelFunc, before *keeper) *keeper {
	return &keeper{
		config: e.config, backoff: e.backoff, realm: e.realm(w.NetNS), workload: w, dir: dir,
		log:      e.config.Log.With(obs.KeyWorkload, w.String()),
		cancel:   cancel,
		before:   before,
		done:     make(chan struct{}),
		upgrades: make(chan upgrade),
		anew:     make(chan struct{}, 1),
		program:  e.config.Proxy,
		wanted:   w, keepRules: e.config.KeepRules,
		status: Status{Workload: w.String(), Phase: redirect.Guard.String(), Since: time.Now()},
	}
}

// run keeps the workload sealed until ctx ends, then drains it.
func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	defer k.cancel()
	if k.before != nil {
		<-k.before.done
		k.before = nil
	}
	for attempt := 0; ctx.Err() == nil; attempt++ {
		err := k.seal(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errAnew):
			k.log.Warn("sealing anew", obs.KeyReason, err)
			attempt = -1
		default:
			delay := k.backoff(attempt)
			k.log.Warn("not sealed", obs.KeyError, err, obs.KeyRetry, delay)
			k.pause(ctx, delay, err)
		}
	}
	k.end()
}

// seal guards the workload, opens its proxy's sockets and serves on them.
func (k *keeper) seal(ctx context.Context) error {
	sockets, err := k.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		sockets.close()
		_ = os.Remove(k.keySocket())
	}()
	return k.serve(ctx, sockets)
}

// serve keeps a proxy running on the sockets until ctx ends or the namespace is
// no more. While there is none, connections wait in the sockets' queues.
func (k *keeper) serve(ctx context.Context, s sockets) error {
	var retired sync.WaitGroup
	defer retired.Wait()
	for failures := 0; ; failures++ {
		c, err := k.launch(ctx, k.program, s, nil)
		if err == nil {
			began := time.Now()
			err = k.tend(ctx, c, s, &retired)
			if time.Since(began) >= longest {
				failures = 0
			}
		}
		if ctx.Err() != nil || errors.Is(err, errAnew) {
			return err
		}
		delay := k.backoff(failures)
		k.log.Warn("proxy failed", obs.KeyError, err, obs.KeyRetry, delay)
		k.pause(ctx, delay, err)
	}
}

// launch starts a proxy and waits until it is ready.
func (k *keeper) launch(ctx context.Context, program string, s sockets, giveUp <-chan struct{}) (*child, error) {
	c, err := k.start(ctx, program, s)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.ready:
		return c, nil
	case <-c.done:
		return nil, fmt.Errorf("ended before it was ready: %w", c.err)
	case <-giveUp:
		err = errors.New("not ready in time")
	case <-k.anew:
		err = errAnew
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.stop()
	<-c.done
	return nil, err
}

// tend lifts the guard for a proxy that is ready, and waits for its end. On the
// way it may be replaced by its upgrade.
func (k *keeper) tend(ctx context.Context, c *child, s sockets, retired *sync.WaitGroup) error {
	if err := k.realm.redirect(k.workload); err != nil {
		c.stop()
		<-c.done
		return err
	}
	k.serving(c)
	for {
		select {
		case <-c.done:
			return fmt.Errorf("ended: %w", c.err)
		case <-ctx.Done():
			<-c.done
			return ctx.Err()
		case <-k.anew:
			c.stop()
			<-c.done
			return errAnew
		case u := <-k.upgrades:
			next, err := k.launch(ctx, u.path, s, u.giveUp)
			if err == nil {
				old := c
				old.stop()
				retired.Go(func() { <-old.done })
				c, k.program = next, u.path
				k.serving(c)
			}
			u.outcome <- err
			if errors.Is(err, errAnew) {
				c.stop()
				<-c.done
				return err
			}
		}
	}
}

// pause notes a failure and waits before the next try.
func (k *keeper) pause(ctx context.Context, delay time.Duration, err error) {
	k.failed(err)
	select {
	case <-ctx.Done():
	case <-time.After(delay):
	}
}

// end removes the rules, or leaves them.
func (k *keeper) end() {
	k.mu.Lock()
	keep := k.keepRules
	k.mu.Unlock()
	if keep {
		k.log.Info("drained; rules kept")
		return
	}
	if err := k.realm.drop(k.workload); err != nil {
		k.log.Error("rules not removed", obs.KeyError, err)
		return
	}
	k.log.Info("unsealed")
}

// guard puts the workload into the rules, so that it passes nothing.
func (k *keeper) guard() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.realm.guard(k.wanted)
}

// keeps reports whether the keeper can go on with w.
func (k *keeper) keeps(w Workload) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.stopped && k.workload.differOnlyInRules(w)
}

// change gives the workload other ports.
func (k *keeper) change(w Workload) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wanted = w
	return k.realm.change(w)
}

// stop ends the keeper, which drains. It may be told again what becomes of the
// rules until it has ended.
func (k *keeper) stop(keepRules bool) {
	k.mu.Lock()
	k.stopped, k.keepRules = true, keepRules
	k.mu.Unlock()
	k.cancel()
}

// ended reports whether the keeper has ended.
func (k *keeper) ended() bool {
	select {
	case <-k.done:
		return true
	default:
		return false
	}
}

// checkNamespace has the keeper begin anew if the namespace was made anew.
func (k *keeper) checkNamespace() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.realm.path == "" || k.namespace == (namespaceID{}) {
		return
	}
	if id, err := namespaceAt(k.realm.path); err == nil && id == k.namespace {
		return
	}
	select {
	case k.anew <- struct{}{}:
	default:
	}
}

// upgrade has the proxy replaced by another program.
func (k *keeper) upgrade(ctx context.Context, path string) error {
	u := upgrade{path: path, giveUp: ctx.Done(), outcome: make(chan error, 1)}
	select {
	case k.upgrades <- u:
	case <-k.done:
		return fmt.Errorf("upgrade %s: it is no longer sealed", k.workload)
	case <-ctx.Done():
		return fmt.Errorf("upgrade %s: no proxy is ready to be replaced: %w", k.workload, ctx.Err())
	}
	if err := <-u.outcome; err != nil {
		return fmt.Errorf("upgrade %s to %s: %w", k.workload, path, err)
	}
	return nil
}
