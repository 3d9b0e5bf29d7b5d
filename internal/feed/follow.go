package feed

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"time"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/obs"
)

// Reports.
const (
	// reportEvery is how often a proxy reports though nothing has changed.
	reportEvery = 5 * time.Second
	// reportTimeout bounds one report.
	reportTimeout = 5 * time.Second
	// maxEdges is how many edges a report holds; the control plane keeps no more.
	maxEdges = 4096
)

// Why a session is ended from our side; the next begins at once.
var (
	errLeafReplaced   = errors.New("the certificate was replaced")
	errServerOutdated = errors.New("the control plane's certificate is trusted no more")
)

// follow keeps one session with the control plane after the other until ctx ends.
func (f *Feed) follow(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; {
		h, changed := f.current()
		if h.leaf == nil || !f.cfg.Now().Before(h.chain[0].NotAfter) {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		heard, err := f.session(ctx, h)
		if heard {
			failures = 0
		}
		if ctx.Err() != nil || errors.Is(err, errLeafReplaced) || errors.Is(err, errServerOutdated) {
			continue
		}
		if r := refusal(err); r != nil && r.Code == codeUntrusted {
			f.renewRefused(h)
		}
		failures++
		wait := backoff(failures, watchFirst, watchCap, mathrand.Float64())
		f.cfg.Log.Warn("control plane lost, the last snapshot serves on", obs.KeyError, err.Error(), obs.KeyRetry, wait)
		pause(ctx, wait)
	}
}

// codeUntrusted is the code of the refusal (docs/identity.md) that a better
// certificate may help against.
const codeUntrusted = "certificate_untrusted"

// renewRefused makes the leaf of h due, if it is still the one held.
func (f *Feed) renewRefused(h held) {
	now := f.cfg.Now()
	f.update(func(present *held) {
		if present.leaf != h.leaf {
			return
		}
		present.refused = true
		if present.renewal.After(now) {
			present.renewal = now
		}
	})
}

// session watches over one connection, with the leaf held at its start, until the
// connection or the leaf ends. heard says whether a snapshot came.
func (f *Feed) session(ctx context.Context, h held) (heard bool, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	c, err := f.connect(ctx, h)
	if err != nil {
		return false, err
	}
	defer c.close()
	stream, err := c.discovery().Watch(ctx, &controlv1.WatchRequest{Instance: f.instance, Workload: h.workload})
	if err != nil {
		return false, cause(ctx, err)
	}
	var attendant sync.WaitGroup
	defer attendant.Wait()
	defer end(nil)
	for stream.Receive() {
		f.learn(stream.Msg().Snapshot)
		if !heard {
			heard = true
			attendant.Go(func() { end(f.attend(ctx, c, h)) })
		}
	}
	if err = stream.Err(); err == nil {
		err = errors.New("the control plane ended the stream")
	}
	return heard, cause(ctx, err)
}

// cause is why ctx was ended by us, else err.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil && !errors.Is(c, context.Canceled) {
		return c
	}
	return err
}

// learn holds a snapshot if it is well formed and new. Fails closed: with a
// malformed one the last good one stays in force.
func (f *Feed) learn(msg *controlv1.Snapshot) {
	learned, err := convert(msg, f.cfg.TrustDomain)
	if err != nil {
		f.cfg.Log.Error("malformed snapshot, the last good one serves on", obs.KeyError, err.Error(), obs.KeyVersion, msg.GetVersion())
		return
	}
	h, _ := f.current()
	if h.learned != nil && h.learned.Version == learned.Version {
		return
	}
	now := f.cfg.Now()
	f.update(func(h *held) {
		news := h.issuer != msg.Issuer || !sameBundle(f.cfg.TrustDomain, h.learned, learned)
		h.learned, h.issuer = learned, msg.Issuer
		if news && outdated(*h, f.cfg.TrustDomain, learned, msg.Issuer, now) {
			h.renewal = now
		}
	})
	f.cfg.Log.Debug("snapshot applied", obs.KeyVersion, learned.Version, obs.KeyCount, len(msg.Endpoints))
}

// attend reports over a session's connection at once, after each change and at
// intervals, and returns why the session should end: the leaf it began with was
// replaced, or the server that it reached is trusted no more.
func (f *Feed) attend(ctx context.Context, c *client, began held) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		h, changed := f.current()
		if h.leaf != began.leaf {
			return errLeafReplaced
		}
		if _, err := mtls.Verify(c.server, f.bundles(h), f.cfg.Now()); err != nil {
			return errServerOutdated
		}
		if h.learned != nil {
			f.report(ctx, c, h)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// report tells the control plane what is in use. A report that fails is not
// repeated: the next is due soon.
func (f *Feed) report(ctx context.Context, c *client, h held) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	req := &controlv1.ReportRequest{
		Instance:        f.instance,
		Workload:        h.workload,
		SnapshotVersion: h.learned.Version,
		BundleVersions:  map[string]string{},
		LeafSerial:      serial(h.chain[0]),
		LeafNotAfter:    h.chain[0].NotAfter.Unix(),
		ProxyVersion:    f.cfg.Version,
		Edges:           f.cfg.Edges(),
	}
	for td, b := range h.learned.Bundles {
		req.BundleVersions[td.Name()] = b.Version()
	}
	req.Edges = req.Edges[:min(len(req.Edges), maxEdges)]
	if _, err := c.discovery().Report(ctx, req); err != nil && ctx.Err() == nil {
		f.cfg.Log.Debug("report not taken", obs.KeyError, err.Error())
	}
}
