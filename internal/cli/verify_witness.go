package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/capture/live"
	"github.com/sealmesh/sealmesh/internal/enrol"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// witnesses are the proxies of this machine, which say what lanes they have. A
// proxy remembers a lane that has ended for a while only, so they are asked again
// and again.
type witnesses struct {
	proxies []witness
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	lanes  map[verify.Lane]bool
	failed map[string]error // by workload, of the last time
}

// witness is one proxy.
type witness struct {
	workload string
	url      string
	client   *http.Client
}

// How often proxies are asked, and how long one may take to answer.
const (
	witnessEvery   = 2 * time.Second
	witnessTimeout = 2 * time.Second
	witnessLimit   = 16 << 20 // bytes of an answer
)

// callWitnesses asks the proxies of a mesh that runs on this machine, from now on.
// It returns nil if there is none to ask.
func callWitnesses(ctx context.Context, a atlas) (*witnesses, error) {
	if a.state == nil {
		return nil, nil
	}
	p, err := newPlace(a.path)
	if err != nil {
		return nil, err
	}
	if running := p.runs() == nil; !running {
		return nil, nil // it attests nothing
	}
	b, err := os.ReadFile(p.status())
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", p.dir, err)
	}
	var list []enrol.Status
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("status of %s: %w", p.dir, err)
	}
	w := &witnesses{lanes: map[verify.Lane]bool{}, failed: map[string]error{}}
	for _, s := range list {
		at := slices.IndexFunc(a.state.Workloads, func(x mesh.Workload) bool {
			return x.Metadata.Namespace+"/"+x.Metadata.Name == s.Workload
		})
		if at >= 0 && s.Admin != 0 {
			w.proxies = append(w.proxies, newWitness(s, a.state.Workloads[at].Spec.NetNS))
		}
	}
	if len(w.proxies) == 0 {
		return nil, nil
	}
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.done.Go(func() { w.askUntil(ctx) })
	return w, nil
}

// newWitness is the proxy of a workload, at the loopback of its namespace.
func newWitness(s enrol.Status, netns string) witness {
	dial := func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = live.InNamespace(netns, func() error {
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
	return witness{
		workload: s.Workload,
		url:      fmt.Sprintf("http://127.0.0.1:%d/connections", s.Admin),
		client:   &http.Client{Timeout: witnessTimeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
	}
}

// askUntil asks everyone now and then, until ctx ends.
func (w *witnesses) askUntil(ctx context.Context) {
	tick := time.NewTicker(witnessEvery)
	defer tick.Stop()
	for {
		w.askAll(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// askAll asks every proxy once.
func (w *witnesses) askAll(ctx context.Context) {
	for _, p := range w.proxies {
		lanes, err := p.ask(ctx)
		w.mu.Lock()
		w.failed[p.workload] = err
		for _, l := range lanes {
			w.lanes[l] = true
		}
		w.mu.Unlock()
	}
}

// ask asks a proxy for its lanes.
func (p witness) ask(ctx context.Context) ([]verify.Lane, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answers %s", res.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, witnessLimit))
	if err != nil {
		return nil, err
	}
	return verify.ParseLanes(answer)
}

// dismiss asks a last time, and returns all that was said, in no order. The error
// names the proxies that did not answer then.
func (w *witnesses) dismiss() ([]verify.Lane, error) {
	w.stop()
	w.done.Wait()
	w.askAll(context.Background())
	var lanes []verify.Lane
	for l := range w.lanes {
		lanes = append(lanes, l)
	}
	var failed []error
	for _, p := range w.proxies {
		if err := w.failed[p.workload]; err != nil {
			failed = append(failed, fmt.Errorf("the proxy of %s does not say what it attests: %w", p.workload, err))
		}
	}
	return lanes, errors.Join(failed...)
}
