package push

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// View is one state of the mesh, in the form proxies get it and in the form the
// control plane judges its callers by. It is immutable.
type View struct {
	// State is what the view was compiled from.
	State *platform.State
	// Snapshot is sent to every proxy of the trust domain: it holds nothing
	// personal. Its version changes only when something in it does.
	Snapshot *controlv1.Snapshot
	// TrustDomain is the mesh's own.
	TrustDomain id.TrustDomain
	// Bundles are the trust anchors by trust domain.
	Bundles map[id.TrustDomain]*snapshot.Bundle
	// LeafLifetime is how long certificates of workloads are valid.
	LeafLifetime time.Duration

	nodes   map[string]string        // workload → node
	bearers map[id.Identity][]string // live identity → workloads
	owners  map[netip.Addr]string    // address → workload that owns all of it
	claims  map[netip.Addr]int       // address → number of workloads that have it
}

// Live reports whether any workload bears the identity.
func (v *View) Live(i id.Identity) bool { return len(v.bearers[i]) > 0 }

// Bearer is the workload, "namespace/name", that a caller with this identity
// is. A claimed name holds if that workload bears the identity; without a
// claim the identity must be borne by one workload alone.
func (v *View) Bearer(i id.Identity, claimed string) (string, error) {
	bearers := v.bearers[i]
	switch {
	case len(bearers) == 0:
		return "", fmt.Errorf("no workload bears identity %s", i)
	case claimed != "" && !slices.Contains(bearers, claimed):
		return "", fmt.Errorf("workload %q does not bear identity %s", claimed, i)
	case claimed == "" && len(bearers) > 1:
		return "", fmt.Errorf("%d workloads bear identity %s: the request must name one", len(bearers), i)
	case claimed == "":
		return bearers[0], nil
	}
	return claimed, nil
}

// Node is where a workload runs, "" if unknown.
func (v *View) Node(workload string) string { return v.nodes[workload] }

// Workload finds the workload, "namespace/name", that an edge's peer is: an
// identity that one workload alone bears, or an address it owns.
func (v *View) Workload(peer string) string {
	if addr, err := netip.ParseAddr(peer); err == nil {
		return v.owners[addr.Unmap()]
	}
	if i, err := id.Parse(peer); err == nil && len(v.bearers[i]) == 1 {
		return v.bearers[i][0]
	}
	return ""
}

// Compile makes the view of a state. It is pure, and the same state gives the
// same version in every process. An error means that the state is not valid, so
// the view before it stays in force.
func Compile(state *platform.State) (*View, error) {
	v := &View{
		State:        state,
		Snapshot:     &controlv1.Snapshot{},
		LeafLifetime: 24 * time.Hour,
		nodes:        map[string]string{},
		bearers:      map[id.Identity][]string{},
		owners:       map[netip.Addr]string{},
		claims:       map[netip.Addr]int{},
	}
	steps := []func() error{v.mesh, v.bundles, v.issuer, v.addresses, v.endpoints, v.services}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("compile: %v", err)
		}
	}
	v.Snapshot.Version = version(v.Snapshot)
	return v, nil
}

// version names the content of a snapshot: the first 8 bytes, in hex, of a
// SHA-256 over its encoding without the version. A Snapshot holds no maps, so
// its encoding has one order.
func version(s *controlv1.Snapshot) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	if err != nil {
		panic(err) // only for strings that are not UTF-8, which Compile never makes
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

func (v *View) mesh() (err error) {
	spec := v.State.Mesh.Spec
	if v.TrustDomain, err = id.ParseTrustDomain(spec.TrustDomain); err != nil {
		return err
	}
	if v.Snapshot.Inbound, err = mode(spec.MTLS.Inbound); err != nil {
		return fmt.Errorf("mtls.inbound: %v", err)
	}
	if v.Snapshot.Outbound, err = mode(spec.MTLS.Outbound); err != nil {
		return fmt.Errorf("mtls.outbound: %v", err)
	}
	if v.Snapshot.KeyLog, err = keyLog(spec.Debug.KeyLog); err != nil {
		return fmt.Errorf("debug.keyLog: %v", err)
	}
	if spec.LeafLifetime != "" {
		if v.LeafLifetime, err = time.ParseDuration(spec.LeafLifetime); err != nil {
			return fmt.Errorf("leafLifetime: %v", err)
		}
	}
	return nil
}

func mode(s string) (controlv1.Mode, error) {
	m, err := policy.ParseMode(s)
	if m == policy.Permissive {
		return controlv1.Mode_MODE_PERMISSIVE, err
	}
	return controlv1.Mode_MODE_STRICT, err
}

// keyLog fails closed: only the one word allows it.
func keyLog(s string) (bool, error) {
	switch s {
	case platform.KeyLogAllowed:
		return true, nil
	case platform.KeyLogDenied, "":
		return false, nil
	}
	return false, fmt.Errorf("%q: must be %s or %s", s, platform.KeyLogAllowed, platform.KeyLogDenied)
}

func (v *View) bundles() error {
	v.Bundles = make(map[id.TrustDomain]*snapshot.Bundle, len(v.State.Bundles))
	for _, b := range v.State.Bundles {
		td, err := id.ParseTrustDomain(b.Metadata.Name)
		if err != nil {
			return err
		}
		parsed, err := snapshot.ParseBundle(td, []byte(b.Spec.Anchors))
		if err != nil {
			return err
		}
		v.Bundles[td] = parsed
		v.Snapshot.Bundles = append(v.Snapshot.Bundles, &controlv1.Bundle{TrustDomain: td.Name(), AnchorsPem: parsed.PEM()})
	}
	if v.Bundles[v.TrustDomain] == nil {
		return fmt.Errorf("no trust bundle for trust domain %s", v.TrustDomain.Name())
	}
	return nil
}

func (v *View) issuer() error {
	if len(v.State.Issuer.Chain) == 0 {
		return fmt.Errorf("issuer of trust domain %s has no certificate", v.TrustDomain.Name())
	}
	sum := sha256.Sum256(v.State.Issuer.Chain[0].Raw)
	v.Snapshot.Issuer = hex.EncodeToString(sum[:])
	return nil
}

// addresses counts who has which address.
func (v *View) addresses() error {
	for _, w := range v.State.Workloads {
		addrs, err := addresses(w.Spec.Addresses)
		if err != nil {
			return fmt.Errorf("workload %s: %v", qualified(w.Metadata), err)
		}
		for _, a := range addrs {
			v.claims[a]++
		}
	}
	return nil
}

// endpoints lists every workload, sealed or not, and the live identities.
func (v *View) endpoints() error {
	for _, w := range v.State.Workloads {
		name := qualified(w.Metadata)
		addrs, _ := addresses(w.Spec.Addresses) // read by the step before
		e := &controlv1.Endpoint{Workload: name, Ports: v.ports(w.Spec, addrs)}
		for _, a := range addrs {
			e.Addresses = append(e.Addresses, a.String())
			if len(e.Ports) == 0 {
				v.owners[a] = name
			}
		}
		if w.Spec.Seal != platform.SealDisabled {
			identity, err := bearer(v.TrustDomain, w)
			if err != nil {
				return fmt.Errorf("workload %s: %v", name, err)
			}
			e.Identity = identity.String()
			v.bearers[identity] = append(v.bearers[identity], name)
		}
		v.nodes[name] = w.Spec.Node
		v.Snapshot.Endpoints = append(v.Snapshot.Endpoints, e)
	}
	for i := range v.bearers {
		v.Snapshot.Identities = append(v.Snapshot.Identities, i.String())
	}
	slices.Sort(v.Snapshot.Identities)
	return nil
}

func bearer(td id.TrustDomain, w mesh.Workload) (id.Identity, error) {
	account := w.Spec.ServiceAccount
	if account == "" {
		account = w.Metadata.Name
	}
	return id.New(td, w.Metadata.Namespace, account)
}

// ports are those a workload owns of its addresses; none means all of them. In
// a network namespace of its own everything is the workload's, whatever it says it
// listens on, unless another workload has claimed a part of an address.
func (v *View) ports(spec mesh.WorkloadSpec, addrs []netip.Addr) []uint32 {
	shared := func(a netip.Addr) bool { return v.claims[a] > 1 }
	if spec.NetNS != "" && !slices.ContainsFunc(addrs, shared) {
		return nil
	}
	var out []uint32
	for _, p := range spec.Ports {
		out = append(out, uint32(p))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addresses reads IP addresses, sorted and each once.
func addresses(texts []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range texts {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("address %q: must be an IP address", s)
		}
		out = append(out, a.Unmap())
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

func qualified(m mesh.Metadata) string { return m.Namespace + "/" + m.Name }
