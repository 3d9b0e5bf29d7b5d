// Package dir is the platform on plain Linux: a directory of YAML objects,
// watched for changes, and a hidden directory of ours inside it.
//
//	mesh/
//	  *.yaml, sub/*.yaml           objects, yours; hidden entries are ignored
//	  trustbundle-demo.local.yaml  written on first use, then yours
//	  .sealmesh/                   0700, ours; every file in it 0600
//	    anchor.crt anchor.key      the trust anchor made on first use
//	    anchor-next.crt, .key      the one to replace it, while that is under way
//	    issuer.crt issuer.key      signs leaves; may be replaced at any time
//	    tokens/<sha-256>.json      join tokens not yet used
//	    lock                       held while any of these is made
//
// A change takes this way; whatever fails leaves the last good state in force:
//
//  1. hear of it     inotify, and a look every Config.Resync in case it was missed
//  2. read it twice  Config.Settle apart, the same both times: nobody is writing
//  3. Parse          pure: bytes to objects, every problem at once
//  4. load           the trust domain stays, the issuer can sign (package ca)
//  5. apply          the whole state, to whoever watches
//
// The state in force is behind one atomic pointer; files are guarded by atomic renames, and by
// the lock file where two of them belong together.
package dir

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Config says how a directory is read.
type Config struct {
	// TrustDomain the Mesh must have; empty takes what it says at Open.
	TrustDomain string
	// Log is told of edits that do not validate; slog.Default if nil.
	Log *slog.Logger
	// Resync is how often the directory is read though nothing was heard; 10s if
	// zero.
	Resync time.Duration
	// Settle is how long files must stay as they are to be believed; 100ms if zero.
	Settle time.Duration
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// Dir is a directory of objects.
type Dir struct {
	path   string
	cfg    Config
	domain id.TrustDomain // fixed at Open

	state atomic.Pointer[platform.State]

	mu      sync.Mutex // guards all below, and is held while state is replaced
	taken   digest     // of the content judged last
	unread  complaint
	invalid complaint
}

var _ platform.Platform = (*Dir)(nil)

// Open reads the directory, and on first use makes its trust anchor, issuer and
// trust bundle. Objects that do not validate are an error that names every
// problem. It starts nothing.
func Open(path string, cfg Config) (*Dir, error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Resync == 0 {
		cfg.Resync = 10 * time.Second
	}
	if cfg.Settle == 0 {
		cfg.Settle = 100 * time.Millisecond
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Dir{path: path, cfg: cfg}
	if err := d.discover(); err != nil {
		return nil, fmt.Errorf("mesh directory %s: %w", path, err)
	}
	content, err := d.read()
	if err != nil {
		return nil, fmt.Errorf("mesh directory %s: %w", path, err)
	}
	state, _, err := d.load(content, nil)
	if err != nil {
		return nil, fmt.Errorf("mesh directory %s: %w", path, err)
	}
	d.state.Store(state)
	d.taken = content.digest()
	return d, nil
}

// Read reads the objects of a directory and changes nothing: its state has no
// issuer, and no trust bundle that was not written yet.
func Read(path string) (*platform.State, error) {
	state, err := (&Dir{path: path}).parse()
	if err != nil {
		return nil, fmt.Errorf("mesh directory %s: %w", path, err)
	}
	return state, nil
}

// discover parses the objects once to learn the trust domain, and makes what a
// directory needs on first use.
func (d *Dir) discover() error {
	state, err := d.parse()
	if err != nil {
		return err
	}
	d.domain = state.TrustDomain()
	if want := d.cfg.TrustDomain; want != "" && want != d.domain.Name() {
		return Problems{{Object: "Mesh " + meshName, Key: "spec.trustDomain", Message: fmt.Sprintf("%q: must be %q, as started with", d.domain.Name(), want)}}
	}
	return d.bootstrap()
}

func (d *Dir) parse() (*platform.State, error) {
	content, err := d.read()
	if err != nil {
		return nil, err
	}
	return Parse(content.objects)
}

// State is the last good state. It is never nil and never changes; a later one
// is another.
func (d *Dir) State() *platform.State { return d.state.Load() }

// take makes a content the state in force, if it validates.
func (d *Dir) take(content *content) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken = content.digest()
	last := d.State()
	state, warning, err := d.load(content, last)
	if err != nil {
		if d.invalid.news(err) {
			d.cfg.Log.Error("edit of the mesh directory refused, last good state kept", obs.KeyPath, d.path, obs.KeyError, err.Error())
		}
		return
	}
	if d.invalid.news(warning) {
		d.cfg.Log.Error("issuer in the mesh directory refused, last good one kept", obs.KeyPath, d.path, obs.KeyError, warning.Error())
	}
	if state.Version != last.Version {
		d.state.Store(state)
	}
}

// complaint is a problem that lasts and is logged once, until it is mended or
// another takes its place.
type complaint struct{ told string }

// news reports whether err is a problem that was not the last to be told; nil
// mends.
func (c *complaint) news(err error) bool {
	text := ""
	if err != nil {
		text = err.Error()
	}
	fresh := text != "" && text != c.told
	c.told = text
	return fresh
}

// load makes a state of a content. Where only the issuer in it is unfit, that of
// the last state is kept and the warning says why.
func (d *Dir) load(c *content, last *platform.State) (state *platform.State, warning, err error) {
	state, err = Parse(c.objects)
	if err != nil {
		return nil, nil, err
	}
	if td := state.TrustDomain(); td != d.domain {
		return nil, nil, Problems{{Object: "Mesh " + meshName, Key: "spec.trustDomain", Message: fmt.Sprintf("%q: cannot change, must stay %q", td.Name(), d.domain.Name())}}
	}
	bundle, err := state.Bundle(d.domain)
	if err != nil {
		return nil, nil, Problems{{Object: "TrustBundle " + d.domain.Name(), Message: "there is none: without its anchors nobody can be verified"}}
	}
	state.Issuer, err = d.issuer(c, bundle)
	if err != nil {
		if last == nil {
			return nil, nil, err
		}
		if unfit := stillFit(last.Issuer, bundle, d.cfg.Now()); unfit != nil {
			return nil, nil, errors.Join(err, unfit)
		}
		state.Issuer, warning = last.Issuer, err
	}
	state.Version = version(state)
	return state, warning, nil
}

// stillFit says why an issuer in force cannot stay so. That it has expired is no
// reason: there is none better, and issuing refuses by itself.
func stillFit(issuer platform.Issuer, bundle *snapshot.Bundle, now time.Time) error {
	err := ca.CheckIssuer(issuer, bundle, now)
	if refusal, ok := errors.AsType[*ca.Refusal](err); ok && refusal.Code == ca.CodeIssuerExpired {
		return nil
	}
	return err
}

// version names a state by its content: the first 8 bytes, in hex, of a SHA-256.
func version(s *platform.State) string {
	h := sha256.New()
	objects := struct {
		Mesh      mesh.Mesh
		Bundles   []mesh.TrustBundle
		Nodes     []mesh.Node
		Workloads []mesh.Workload
		Services  []mesh.Service
	}{s.Mesh, s.Bundles, s.Nodes, s.Workloads, s.Services}
	if err := json.NewEncoder(h).Encode(objects); err != nil {
		panic(err) // plain structs always encode
	}
	for _, c := range s.Issuer.Chain {
		h.Write(c.Raw)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
