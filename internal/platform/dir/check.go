package dir

import (
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

const (
	defaultLeafLifetime = "24h"
	// meshName is the name of the one Mesh.
	meshName = "default"
	// maxName bounds service accounts, as Kubernetes does.
	maxName = 253
)

// checkAlone checks each object by itself and fills in what it leaves open.
func (p *parser) checkAlone() {
	for i := range p.meshes {
		if o := &p.meshes[i]; o.clean {
			p.mesh(o.place, &o.object)
		}
	}
	for i := range p.bundles {
		if o := &p.bundles[i]; o.clean {
			p.bundle(o.place, &o.object)
		}
	}
	for i := range p.nodes {
		if o := &p.nodes[i]; o.clean {
			p.named(o.place, o.object.Metadata, clusterScoped)
			p.addresses(o.place, o.object.Spec.Addresses, required)
			p.whereabouts(o.place, o.object.Spec)
		}
	}
	for i := range p.workloads {
		if o := &p.workloads[i]; o.clean {
			p.workload(o.place, &o.object)
		}
	}
	for i := range p.services {
		if o := &p.services[i]; o.clean {
			p.service(o.place, &o.object)
		}
	}
}

func (p *parser) mesh(at place, m *mesh.Mesh) {
	if m.Metadata.Name != meshName {
		p.add(at.problem("metadata.name", "%q: must be %q, there is one Mesh", m.Metadata.Name, meshName))
	}
	p.noNamespace(at, m.Metadata)
	if _, err := id.ParseTrustDomain(m.Spec.TrustDomain); err != nil {
		p.add(at.problem("spec.trustDomain", "%v", err))
	}
	p.mode(at, "spec.mtls.inbound", &m.Spec.MTLS.Inbound)
	p.mode(at, "spec.mtls.outbound", &m.Spec.MTLS.Outbound)
	p.keyLog(at, &m.Spec.Debug.KeyLog)
	fill(&m.Spec.LeafLifetime, defaultLeafLifetime)
	if d, err := time.ParseDuration(m.Spec.LeafLifetime); err != nil || d < ca.MinLifetime {
		p.add(at.problem("spec.leafLifetime", "%q: must be a duration such as %s, at least %s", m.Spec.LeafLifetime, defaultLeafLifetime, ca.MinLifetime))
	}
}

func (p *parser) keyLog(at place, keyLog *string) {
	fill(keyLog, platform.KeyLogDenied)
	if *keyLog != platform.KeyLogDenied && *keyLog != platform.KeyLogAllowed {
		p.add(at.problem("spec.debug.keyLog", "%q: must be %s or %s", *keyLog, platform.KeyLogAllowed, platform.KeyLogDenied))
	}
}

func (p *parser) mode(at place, key string, mode *string) {
	fill(mode, policy.Permissive.String())
	if _, err := policy.ParseMode(*mode); err != nil {
		p.add(at.problem(key, "%v", err))
	}
}

func (p *parser) bundle(at place, b *mesh.TrustBundle) {
	p.noNamespace(at, b.Metadata)
	td, err := id.ParseTrustDomain(b.Metadata.Name)
	if err != nil {
		p.add(at.problem("metadata.name", "%v", err))
		return
	}
	if _, err := snapshot.ParseBundle(td, []byte(b.Spec.Anchors)); err != nil {
		p.add(at.problem("spec.anchors", "%v", err))
	}
}

// interfaceName is what the kernel takes, less what nobody means.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)

// whereabouts checks where the packets of a node are.
func (p *parser) whereabouts(at place, s mesh.NodeSpec) {
	p.netns(at, s.NetNS)
	for _, name := range s.Uplinks {
		if !interfaceName.MatchString(name) {
			p.add(at.problem("spec.uplinks", "%q: must be names of interfaces such as eth0", name))
		}
	}
}

func (p *parser) netns(at place, s string) {
	if s != "" && (!path.IsAbs(s) || path.Clean(s) != s) {
		p.add(at.problem("spec.netns", "%q: must be an absolute path such as /run/netns/web", s))
	}
}

func (p *parser) workload(at place, w *mesh.Workload) {
	p.named(at, w.Metadata, namespaced)
	fill(&w.Spec.ServiceAccount, w.Metadata.Name)
	if td, err := id.ParseTrustDomain("any"); err == nil && w.Metadata.Namespace != "" && w.Metadata.Name != "" {
		identity, err := id.New(td, w.Metadata.Namespace, w.Spec.ServiceAccount)
		switch {
		case err != nil || len(w.Spec.ServiceAccount) > maxName:
			p.add(at.problem("spec.serviceAccount", "%q: must be letters, digits, '-', '_' and '.', at most %d", w.Spec.ServiceAccount, maxName))
		case identity == ca.ControlIdentity(td):
			p.add(at.problem("spec.serviceAccount", "%q: this identity is the control plane's own", w.Spec.ServiceAccount))
		}
	}
	fill(&w.Spec.Seal, platform.SealEnabled)
	if s := w.Spec.Seal; s != platform.SealEnabled && s != platform.SealDisabled {
		p.add(at.problem("spec.seal", "%q: must be %s or %s", s, platform.SealEnabled, platform.SealDisabled))
	}
	p.addresses(at, w.Spec.Addresses, required)
	own := p.ports(at, "spec.ports", w.Spec.Ports)
	p.ports(at, "spec.skipPorts", w.Spec.SkipPorts)
	for _, port := range w.Spec.SkipPorts {
		if own[port] {
			p.add(at.problem("spec.skipPorts", "%d: is one of spec.ports, peers would seal to it and nobody would open", port))
		}
	}
	p.found(at, w.Spec)
}

var userName = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})$`)

// found checks how a workload is found on its machine.
func (p *parser) found(at place, s mesh.WorkloadSpec) {
	var ways []string
	for _, way := range [...]struct{ key, value string }{{"netns", s.NetNS}, {"user", s.User}, {"cgroup", s.Cgroup}} {
		if way.value != "" {
			ways = append(ways, way.key)
		}
	}
	if len(ways) > 1 {
		p.add(at.problem("spec", "has %s: at most one of netns, user and cgroup", strings.Join(ways, " and ")))
	}
	if (s.User != "" || s.Cgroup != "") && len(s.Ports) == 0 {
		p.add(at.problem("spec.ports", "is empty: a workload found by user or cgroup shares its address, name the ports it listens on"))
	}
	p.netns(at, s.NetNS)
	if s.User != "" && (!userName.MatchString(s.User) || s.User == strconv.Itoa(ports.ProxyUID)) {
		p.add(at.problem("spec.user", "%q: must be the name or number of a user other than the proxies' %d", s.User, ports.ProxyUID))
	}
	if c := s.Cgroup; c != "" && (path.IsAbs(c) || path.Clean(c) != c || c == "." || strings.HasPrefix(c, "..")) {
		p.add(at.problem("spec.cgroup", "%q: must be a path below the cgroup mount such as system.slice/web.service", c))
	}
}

func (p *parser) service(at place, s *mesh.Service) {
	p.named(at, s.Metadata, namespaced)
	if len(s.Spec.Selector) == 0 {
		p.add(at.problem("spec.selector", "is empty: name at least one label of the workloads behind it"))
	}
	p.addresses(at, s.Spec.Addresses, optional)
	if len(s.Spec.Ports) == 0 {
		p.add(at.problem("spec.ports", "is empty: name at least one port"))
	}
	var own []uint16
	for i := range s.Spec.Ports {
		port := &s.Spec.Ports[i]
		if port.TargetPort == 0 {
			port.TargetPort = port.Port
		}
		own = append(own, port.Port)
	}
	p.ports(at, "spec.ports", own)
}

// scope is whether objects of a kind live in a namespace.
type scope bool

const (
	namespaced    scope = true
	clusterScoped scope = false
)

// named checks what an object is called.
func (p *parser) named(at place, m mesh.Metadata, s scope) {
	if !isLabel(m.Name) {
		p.add(at.problem("metadata.name", "%q: %s", m.Name, labelRule))
	}
	if s == clusterScoped {
		p.noNamespace(at, m)
	} else if !isLabel(m.Namespace) {
		p.add(at.problem("metadata.namespace", "%q: %s", m.Namespace, labelRule))
	}
}

func (p *parser) noNamespace(at place, m mesh.Metadata) {
	if m.Namespace != "" {
		p.add(at.problem("metadata.namespace", "%q: must be empty, objects of this kind have no namespace", m.Namespace))
	}
}

var label1123 = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const labelRule = "must be 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit"

func isLabel(s string) bool { return label1123.MatchString(s) }

// presence is whether a list may be empty.
type presence bool

const (
	required presence = true
	optional presence = false
)

// addresses checks IP addresses and puts them in their canonical form.
func (p *parser) addresses(at place, list []string, need presence) {
	if len(list) == 0 && need == required {
		p.add(at.problem("spec.addresses", "is empty: name at least one IP address"))
	}
	seen := map[netip.Addr]bool{}
	for i, s := range list {
		addr, err := netip.ParseAddr(s)
		addr = addr.Unmap()
		switch {
		case err != nil || addr.Zone() != "":
			p.add(at.problem("spec.addresses", "%q: must be an IP address without prefix, port or zone", s))
		case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.Is6() && addr.IsLinkLocalUnicast():
			p.add(at.problem("spec.addresses", "%q: must be an address that other machines can reach", s))
		case seen[addr]:
			p.add(at.problem("spec.addresses", "%q: is named twice", s))
		default:
			list[i] = addr.String()
		}
		seen[addr] = true
	}
}

// ports checks port numbers and returns them as a set.
func (p *parser) ports(at place, key string, list []uint16) map[uint16]bool {
	seen := map[uint16]bool{}
	for _, port := range list {
		switch {
		case port == 0:
			p.add(at.problem(key, "0: must be a port from 1 to 65535"))
		case seen[port]:
			p.add(at.problem(key, "%d: is named twice", port))
		}
		seen[port] = true
	}
	return seen
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
