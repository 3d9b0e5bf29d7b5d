package push

import (
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
)

// Bounds of the registry.
const (
	// MaxEdges is how many edges of one report are kept.
	MaxEdges = 4096
	// MaxInstances is how many proxies of one workload are known at a time: the
	// one that serves, those that drain, and what has crashed lately.
	MaxInstances = 8
	// Memory is how long a proxy that has gone is remembered.
	Memory = 10 * time.Minute
)

// Refusals of the registry.
var (
	// ErrTooMany means that MaxInstances proxies of the workload are connected.
	ErrTooMany = errors.New("too many proxies of this workload are connected")
	// ErrNotWatching means that a proxy reported which has no Watch running, nor
	// had one lately.
	ErrNotWatching = errors.New("reports are taken only from a proxy that watches")
)

// Leaf is a workload's certificate, as lists show it.
type Leaf struct {
	Workload            string // "namespace/name"
	Identity            id.Identity
	Serial              string // hex
	NotBefore, NotAfter time.Time
	Issuer              string // subject of the certificate that signed
	IssuerSerial        string // hex, "" if the chain does not hold it
}

// NewLeaf describes a verified chain, leaf first.
func NewLeaf(workload string, identity id.Identity, chain []*x509.Certificate) Leaf {
	l := Leaf{
		Workload:  workload,
		Identity:  identity,
		Serial:    ca.SerialHex(chain[0]),
		NotBefore: chain[0].NotBefore,
		NotAfter:  chain[0].NotAfter,
		Issuer:    chain[0].Issuer.String(),
	}
	if len(chain) > 1 {
		l.IssuerSerial = ca.SerialHex(chain[1])
	}
	return l
}

// Status is what is known of one workload's proxy.
type Status struct {
	Leaf
	// Connected says whether a proxy of the workload watches now.
	Connected bool
	// SnapshotVersion and BundleVersions are what the proxy reported last.
	SnapshotVersion string
	BundleVersions  map[string]string
}

// Registry is what is known of the proxies: the certificates they hold and what
// they report. It can be used by many at once.
type Registry struct {
	now func() time.Time

	mu        sync.Mutex // guards all below
	workloads map[string]*record
	connected int
	swept     time.Time
}

// record is one workload's part of the registry.
type record struct {
	leaf    Leaf
	proxies map[string]*proxy // by instance
}

// proxy is one process that serves a workload.
type proxy struct {
	watches int
	gone    time.Time // when watches became 0
	report  *controlv1.ReportRequest
	told    time.Time // when report came
}

// NewRegistry makes an empty registry that reads the time from now.
func NewRegistry(now func() time.Time) *Registry {
	return &Registry{now: now, workloads: map[string]*record{}}
}

// Issued notes a certificate that was given out.
func (r *Registry) Issued(leaf Leaf) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	r.recordLocked(leaf)
}

// Connect notes that a proxy watches with this certificate, until the function
// it returns is called. Its error is ErrTooMany.
func (r *Registry) Connect(leaf Leaf, instance string) (disconnect func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	rec := r.recordLocked(leaf)
	p := rec.proxies[instance]
	if p == nil {
		if len(rec.proxies) >= MaxInstances && !rec.forgetOne() {
			return nil, ErrTooMany
		}
		p = &proxy{}
		rec.proxies[instance] = p
	}
	p.watches++
	r.connected++
	return sync.OnceFunc(func() { r.disconnect(p) }), nil
}

func (r *Registry) disconnect(p *proxy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected--
	if p.watches--; p.watches == 0 {
		p.gone = r.now()
	}
}

// Report keeps the newest report of a proxy, which the caller must not change
// any more. What does not read as an edge, and edges beyond MaxEdges, are
// dropped. Its error is ErrNotWatching.
func (r *Registry) Report(workload string, report *controlv1.ReportRequest) error {
	report.Edges = slices.DeleteFunc(report.Edges, func(e *controlv1.Edge) bool { return !validEdge(e) })
	report.Edges = slices.Clip(report.Edges[:min(len(report.Edges), MaxEdges)])

	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.workloads[workload]
	if rec == nil || rec.proxies[report.Instance] == nil {
		return ErrNotWatching
	}
	p := rec.proxies[report.Instance]
	p.report, p.told = report, r.now()
	return nil
}

// Connected is the number of Watch streams that run.
func (r *Registry) Connected() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.connected
}

// Statuses lists the workloads that hold a certificate, by name.
func (r *Registry) Statuses() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweepLocked()
	var out []Status
	for _, name := range slices.Sorted(maps.Keys(r.workloads)) {
		rec := r.workloads[name]
		s := Status{Leaf: rec.leaf}
		for _, p := range rec.proxies {
			s.Connected = s.Connected || p.watches > 0
		}
		if p := rec.newest(); p != nil {
			s.SnapshotVersion = p.report.SnapshotVersion
			s.BundleVersions = maps.Clone(p.report.BundleVersions)
		}
		out = append(out, s)
	}
	return out
}

// recordLocked finds or makes the record of a leaf's workload. Of two leaves it
// keeps the one that lives longer: a proxy that drains may still hold the older.
func (r *Registry) recordLocked(leaf Leaf) *record {
	rec := r.workloads[leaf.Workload]
	if rec == nil {
		rec = &record{proxies: map[string]*proxy{}}
		r.workloads[leaf.Workload] = rec
	}
	if rec.leaf.Identity != leaf.Identity || !leaf.NotAfter.Before(rec.leaf.NotAfter) {
		rec.leaf = leaf
	}
	return rec
}

// sweepLocked forgets, once a minute at most, proxies gone for longer than
// Memory and workloads with neither proxy nor valid leaf.
func (r *Registry) sweepLocked() {
	now := r.now()
	if now.Sub(r.swept) < time.Minute {
		return
	}
	r.swept = now
	for name, rec := range r.workloads {
		maps.DeleteFunc(rec.proxies, func(_ string, p *proxy) bool {
			return p.watches == 0 && now.Sub(p.gone) >= Memory
		})
		if len(rec.proxies) == 0 && !now.Before(rec.leaf.NotAfter) {
			delete(r.workloads, name)
		}
	}
}

// forgetOne makes room by dropping the proxy that has been gone for longest, and
// reports whether there was one.
func (rec *record) forgetOne() bool {
	oldest := ""
	for instance, p := range rec.proxies {
		if p.watches == 0 && (oldest == "" || p.gone.Before(rec.proxies[oldest].gone)) {
			oldest = instance
		}
	}
	if oldest == "" {
		return false
	}
	delete(rec.proxies, oldest)
	return true
}

// newest is the proxy that reported last, of those connected if there are any;
// nil if none ever did.
func (rec *record) newest() *proxy {
	var best *proxy
	for _, p := range rec.proxies {
		if p.report == nil {
			continue
		}
		if best == nil || better(p, best) {
			best = p
		}
	}
	return best
}

func better(a, b *proxy) bool {
	if (a.watches > 0) != (b.watches > 0) {
		return a.watches > 0
	}
	return a.told.After(b.told)
}
