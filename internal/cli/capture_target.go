package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/capture/live"
	"github.com/sealmesh/sealmesh/internal/capture/pcapng"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
)

// target is where to capture, as a person names it: "workload/shop/web" or
// "shop/web", "node/n1", "netns/blue", "netns//proc/42/ns/net", "iface/eth0".
type target struct{ kind, name string }

// Kinds of targets.
const (
	targetWorkload = "workload"
	targetNode     = "node"
	targetNetns    = "netns"
	targetIface    = "iface"
)

const targetForms = "workload/NAMESPACE/NAME, node/NAME, netns/NAME, netns//PATH or iface/NAME"

func parseTarget(s string) (target, error) {
	kind, name, _ := strings.Cut(s, "/")
	switch kind {
	case targetNode, targetNetns, targetIface:
	case targetWorkload:
		if strings.Count(name, "/") != 1 {
			return target{}, fmt.Errorf("target %q: must be workload/NAMESPACE/NAME", s)
		}
	default:
		if strings.Count(s, "/") != 1 || kind == "" {
			return target{}, fmt.Errorf("target %q: must be %s", s, targetForms)
		}
		kind, name = targetWorkload, s
	}
	if name == "" || kind != targetNetns && strings.HasSuffix(name, "/") {
		return target{}, fmt.Errorf("target %q: the name is missing: must be %s", s, targetForms)
	}
	return target{kind, name}, nil
}

// vantage is one interface to capture.
type vantage struct {
	// name is what files and flows call it, such as "shop/web/eth0".
	name, description string
	netns, iface      string
}

// atlas is what is known of the mesh and of this machine to find targets by.
type atlas struct {
	state *platform.State // nil if there is no directory
	path  string          // of the directory
	// loopback says that the loopback of workloads is captured, too.
	loopback bool
}

// openAtlas reads the directory of a mesh. One that nobody has named may be absent.
func openAtlas(path string, named, loopback bool) (atlas, error) {
	a := atlas{path: path, loopback: loopback}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !named {
		return a, nil
	}
	state, err := dir.Read(path)
	if err != nil {
		return a, hint(err, "name the directory of the mesh's objects with -f")
	}
	a.state = state
	return a, nil
}

// find is the interfaces of targets, each once, and what was left out.
func (a atlas) find(targets []target) (found []vantage, notes []string, err error) {
	seen := map[string]bool{}
	for _, t := range targets {
		list, left, err := a.expand(t)
		if err != nil {
			return nil, nil, err
		}
		for _, v := range list {
			if key := netnsKey(v.netns) + " " + v.iface; !seen[key] {
				seen[key] = true
				found = append(found, v)
			}
		}
		if left != "" && !slices.Contains(notes, left) {
			notes = append(notes, left)
		}
	}
	return found, notes, nil
}

// netnsKey tells network namespaces apart, by whatever path.
func netnsKey(path string) string {
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return path
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func (a atlas) expand(t target) (list []vantage, left string, err error) {
	switch t.kind {
	case targetWorkload:
		return a.workload(t.name)
	case targetNode:
		list, err = a.node(t.name)
		return list, "", err
	case targetNetns:
		path := t.name
		if !filepath.IsAbs(path) {
			path = filepath.Join("/run/netns", path)
		}
		list, left, err := a.everything(path, filepath.Base(t.name), "network namespace "+path)
		if err != nil {
			err = hint(err, "\"ip netns list\" shows names; a path is such as /proc/PID/ns/net")
		}
		return list, left, err
	}
	list, err = iface(t.name)
	return list, "", err
}

// iface is one interface of this machine.
func iface(name string) ([]vantage, error) {
	all, err := live.Interfaces("")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	if !slices.Contains(names, name) {
		return nil, hint(fmt.Errorf("interface %s: this machine has none of that name", name), "it has %s", strings.Join(names, ", "))
	}
	description := "interface " + name + " of this machine" + directions("this machine")
	return []vantage{{name: name, description: description, iface: name}}, nil
}

// directions says what the direction of a packet means.
func directions(what string) string { return "; inbound is toward " + what + ", outbound from it" }

var errNoMesh = errors.New("no mesh directory to find it in")

func (a atlas) workload(name string) ([]vantage, string, error) {
	if a.state == nil {
		return nil, "", hint(fmt.Errorf("workload %s: %w", name, errNoMesh), "name the directory of the mesh's objects with -f; without a mesh, capture its network namespace")
	}
	at := slices.IndexFunc(a.state.Workloads, func(w mesh.Workload) bool { return w.Metadata.Namespace+"/"+w.Metadata.Name == name })
	if at < 0 {
		return nil, "", hint(fmt.Errorf("workload %s: there is none in %s", name, a.path), "\"sealmesh status -f %s\" lists those of this machine", a.path)
	}
	w := a.state.Workloads[at]
	if w.Spec.NetNS == "" && w.Spec.User == "" && w.Spec.Cgroup == "" {
		return nil, "", hint(fmt.Errorf("workload %s: names no network namespace, user or cgroup: it runs elsewhere", name), "run this on its machine")
	}
	description := "workload " + name + ", " + a.state.Identity(w).String()
	if w.Spec.Node != "" {
		description += ", on node " + w.Spec.Node
	}
	if w.Spec.NetNS == "" {
		list, _, err := a.everything("", name, description+"; a workload of the machine: others share these interfaces")
		return list, name + " shares the network of the machine: packets of others are captured, too", err
	}
	return a.everything(w.Spec.NetNS, name, description)
}

// everything is all interfaces of a namespace, but its loopback unless that was
// asked for.
func (a atlas) everything(netns, name, description string) (list []vantage, left string, err error) {
	all, err := live.Interfaces(netns)
	if errors.Is(err, fs.ErrNotExist) {
		err = hint(err, "is it of this machine, and does it run?")
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", name, err)
	}
	for _, i := range all {
		switch {
		case !i.Up:
		case i.Loopback && !a.loopback:
			left = "loopback is left out: --loopback captures it, too"
		default:
			list = append(list, vantage{name: name + "/" + i.Name, description: description + directions("it"), netns: netns, iface: i.Name})
		}
	}
	if len(list) == 0 {
		return nil, "", fmt.Errorf("%s: no interface is up but loopback", name)
	}
	return list, left, nil
}

// node is the uplinks of a node of this machine.
func (a atlas) node(name string) ([]vantage, error) {
	if a.state == nil {
		return nil, hint(fmt.Errorf("node %s: %w", name, errNoMesh), "name the directory of the mesh's objects with -f; without a mesh, capture an interface")
	}
	at := slices.IndexFunc(a.state.Nodes, func(n mesh.Node) bool { return n.Metadata.Name == name })
	if at < 0 {
		return nil, hint(fmt.Errorf("node %s: there is none in %s", name, a.path), "add a Node there, or capture an interface")
	}
	spec := a.state.Nodes[at].Spec
	all, err := live.Interfaces(spec.NetNS)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	if spec.NetNS == "" && !slices.ContainsFunc(all, func(i live.Interface) bool { return has(i, spec.Addresses) }) {
		return nil, hint(fmt.Errorf("node %s: none of its addresses is of this machine", name), "run this on the node")
	}
	var list []vantage
	for _, i := range all {
		if isUplink(i, spec) {
			list = append(list, vantage{
				name:        name + "/" + i.Name,
				description: "uplink of node " + name + directions("the node"), netns: spec.NetNS, iface: i.Name,
			})
		}
	}
	if len(list) == 0 {
		return nil, hint(fmt.Errorf("node %s: none of its interfaces is an uplink", name), "name them in spec.uplinks of the Node")
	}
	return list, nil
}

// isUplink reports whether an interface leads to other nodes: as the object says,
// or because it has an address of the node or is a device of its own. What is
// neither carries packets that an uplink carries once more: ports of bridges,
// tunnels and the node's ends of its workloads' links.
func isUplink(i live.Interface, spec mesh.NodeSpec) bool {
	if len(spec.Uplinks) > 0 {
		return slices.Contains(spec.Uplinks, i.Name)
	}
	device := i.Kind == "device" || i.Kind == "bond" || i.Kind == "vlan"
	return i.Up && !i.Loopback && !i.Enslaved && (device || has(i, spec.Addresses))
}

// has reports whether an interface has one of the addresses.
func has(i live.Interface, addresses []string) bool {
	return slices.ContainsFunc(i.Addresses, func(a netip.Addr) bool { return slices.Contains(addresses, a.String()) })
}

// names are the addresses of nodes, workloads and services, with what they are
// called. Addresses that several share have several names.
func (a atlas) names() []pcapng.Name {
	var all []pcapng.Name
	at := map[netip.Addr]int{}
	add := func(name string, addresses []string) {
		for _, s := range addresses {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				continue // the directory has been validated
			}
			if i, ok := at[addr]; ok {
				all[i].Names = append(all[i].Names, name)
				continue
			}
			at[addr] = len(all)
			all = append(all, pcapng.Name{Addr: addr, Names: []string{name}})
		}
	}
	if a.state == nil {
		return nil
	}
	for _, n := range a.state.Nodes {
		add(n.Metadata.Name, n.Spec.Addresses)
	}
	for _, w := range a.state.Workloads {
		add(w.Metadata.Name+"."+w.Metadata.Namespace, w.Spec.Addresses)
	}
	for _, s := range a.state.Services {
		add(s.Metadata.Name+"."+s.Metadata.Namespace+".svc", s.Spec.Addresses)
	}
	return all
}

// peer is what a person means by an address, a prefix, or the name of a workload
// or node.
func (a atlas) peer(s string) ([]netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return []netip.Prefix{p.Masked()}, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	dotted := s
	if namespace, name, ok := strings.Cut(s, "/"); ok {
		dotted = name + "." + namespace
	}
	var found []netip.Prefix
	for _, n := range a.names() {
		if slices.Contains(n.Names, dotted) {
			found = append(found, netip.PrefixFrom(n.Addr, n.Addr.BitLen()))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%q: must be an address, a prefix such as 10.1.0.0/16, or the name of a workload or node of the mesh", s)
	}
	return found, nil
}
