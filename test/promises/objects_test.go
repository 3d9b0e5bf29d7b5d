package promises

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	api "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/test/lab"
)

// trustDomain of every mesh here.
const trustDomain = "promises.test"

// The modes.
const (
	permissive = "Permissive"
	strict     = "Strict"
)

// objects is what a mesh directory holds but the trust bundle, which `sealmesh
// up` makes.
type objects struct {
	mesh      api.Mesh
	nodes     []api.Node
	workloads []api.Workload
	services  []api.Service
}

func newObjects() objects {
	return objects{mesh: api.Mesh{
		Header: header(api.KindMesh, "default", ""),
		Spec:   api.MeshSpec{TrustDomain: trustDomain, MTLS: api.MTLSSpec{Inbound: strict, Outbound: strict}},
	}}
}

func header(kind, name, namespace string) api.Header {
	return api.Header{APIVersion: api.GroupVersion, Kind: kind, Metadata: api.Metadata{Name: name, Namespace: namespace}}
}

func (o *objects) addNode(n *lab.Node) {
	o.nodes = append(o.nodes, api.Node{
		Header: header(api.KindNode, nodeName(n), ""),
		Spec:   api.NodeSpec{Addresses: []string{n.Addr4.String()}, NetNS: n.Path()},
	})
}

func nodeName(n *lab.Node) string { return fmt.Sprintf("n%d", n.Number) }

func (o *objects) addWorkload(w *lab.Workload, s standing) {
	object := api.Workload{
		Header: header(api.KindWorkload, w.Name, namespace),
		Spec:   api.WorkloadSpec{Node: nodeName(w.Node), NetNS: w.Path(), Addresses: []string{w.Addr4.String(), w.Addr6.String()}},
	}
	if s == unsealed {
		object.Spec.Seal = "Disabled"
	}
	o.workloads = append(o.workloads, object)
}

// workload finds an object to edit.
func (o *objects) workload(w *lab.Workload) *api.Workload {
	i := slices.IndexFunc(o.workloads, func(x api.Workload) bool { return x.Metadata.Name == w.Name })
	return &o.workloads[i]
}

func (o *objects) removeWorkload(w *lab.Workload) {
	o.workloads = slices.DeleteFunc(o.workloads, func(x api.Workload) bool { return x.Metadata.Name == w.Name })
}

// sealedNames are the workloads that `sealmesh up` seals, as "demo/sender".
func (o *objects) sealedNames() []string {
	var names []string
	for _, w := range o.workloads {
		if w.Spec.Seal != "Disabled" && w.Spec.NetNS+w.Spec.User+w.Spec.Cgroup != "" {
			names = append(names, w.Metadata.Namespace+"/"+w.Metadata.Name)
		}
	}
	return names
}

// write puts the objects into the directory, all at once.
func (m *mesh) write(tb testing.TB) {
	tb.Helper()
	all := []any{m.objects.mesh}
	for _, n := range m.objects.nodes {
		all = append(all, n)
	}
	for _, w := range m.objects.workloads {
		all = append(all, w)
	}
	for _, s := range m.objects.services {
		all = append(all, s)
	}
	var text [][]byte
	for _, o := range all {
		b, err := yaml.Marshal(o)
		must(tb, err)
		text = append(text, b)
	}
	m.replace(tb, "mesh.yaml", bytes.Join(text, []byte("---\n")))
}

// replace replaces a file of the directory at once.
func (m *mesh) replace(tb testing.TB, name string, content []byte) {
	tb.Helper()
	path := filepath.Join(m.dir, name)
	draft := filepath.Join(filepath.Dir(m.dir), "draft")
	must(tb, os.WriteFile(draft, content, 0o644))
	must(tb, os.Rename(draft, path))
}

// change edits the objects of a mesh that runs, and waits until every proxy goes
// by the new snapshot. The edit must make a difference to the snapshot.
func (m *mesh) change(tb testing.TB, edit func(*objects)) {
	tb.Helper()
	log, told, before := m.mark(), m.stdout.count(), m.objects.sealedNames()
	edit(&m.objects)
	m.write(tb)
	for _, name := range m.objects.sealedNames() {
		if !slices.Contains(before, name) {
			m.awaitSealed(tb, name, told)
		}
	}
	m.awaitSnapshot(tb, log)
}

// setModes is change for the modes.
func (m *mesh) setModes(tb testing.TB, inbound, outbound string) {
	tb.Helper()
	if m.objects.mesh.Spec.MTLS == (api.MTLSSpec{Inbound: inbound, Outbound: outbound}) {
		return
	}
	m.change(tb, func(o *objects) { o.mesh.Spec.MTLS = api.MTLSSpec{Inbound: inbound, Outbound: outbound} })
}

// trustBundle is the file of the mesh's own trust anchors.
func (m *mesh) trustBundle() string { return "trustbundle-" + trustDomain + ".yaml" }

// anchors reads the mesh's own trust anchors, in PEM.
func (m *mesh) anchors(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, m.trustBundle()))
	must(tb, err)
	var b api.TrustBundle
	must(tb, yaml.UnmarshalStrict(text, &b))
	return b.Spec.Anchors
}

// awaitSnapshot waits until the control plane has compiled a new snapshot, from a
// place in the log on, and every proxy reports that it goes by it.
func (m *mesh) awaitSnapshot(tb testing.TB, from int) {
	tb.Helper()
	version := m.waitLog(tb, from, "new snapshot", has("msg", "snapshot compiled")).text("version")
	eventually(tb, "snapshot "+version+" in use by all proxies", func() bool {
		// Of several changes the last one counts.
		for _, e := range m.logged(from, has("msg", "snapshot compiled")) {
			version = e.text("version")
		}
		held := map[string]identity{}
		for _, i := range m.identities(tb) {
			held[i.Workload] = i
		}
		return !slices.ContainsFunc(m.objects.sealedNames(), func(name string) bool {
			return !held[name].Connected || held[name].Snapshot != version
		})
	})
}

// identity is one row of `sealmesh identity -o json`.
type identity struct {
	Workload  string
	Identity  string
	Serial    string
	Issuer    string
	Connected bool
	Snapshot  string
	Bundles   map[string]string
}

// identities is what `sealmesh identity` shows.
func (m *mesh) identities(tb testing.TB) []identity {
	tb.Helper()
	out, err := m.sealmesh(tb.Context(), "identity", "-o", "json")
	must(tb, err)
	var list []identity
	must(tb, json.Unmarshal([]byte(out), &list))
	return list
}
