// Package v1alpha1 is the objects of group sealmesh.io, version v1alpha1: the
// same YAML in a directory on plain Linux and in a Kubernetes API server.
package v1alpha1

// GroupVersion is the apiVersion of every object here.
const GroupVersion = "sealmesh.io/v1alpha1"

// Kinds of objects.
const (
	KindMesh        = "Mesh"
	KindTrustBundle = "TrustBundle"
	KindNode        = "Node"
	KindWorkload    = "Workload"
	KindService     = "Service"
)

// Header begins every object.
type Header struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
}

// Metadata names an object. Namespace is empty for Mesh, TrustBundle and Node.
type Metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Mesh is what holds for everyone. There is one, named "default".
type Mesh struct {
	Header `json:",inline"`
	Spec   MeshSpec `json:"spec"`
}

// MeshSpec is the state wanted of the mesh. A change takes effect at runtime.
type MeshSpec struct {
	// TrustDomain is part of every identity and cannot change.
	TrustDomain string   `json:"trustDomain"`
	MTLS        MTLSSpec `json:"mtls,omitempty"`
	// LeafLifetime of workload certificates, as Go writes durations; 24h if empty,
	// at least 1m.
	LeafLifetime string    `json:"leafLifetime,omitempty"`
	Debug        DebugSpec `json:"debug,omitempty"`
}

// DebugSpec opens what is closed in ordinary use.
type DebugSpec struct {
	// KeyLog is "Denied" (the default) or "Allowed": proxies keep the session
	// secrets of their lanes, and tell them to the user who runs the mesh.
	KeyLog string `json:"keyLog,omitempty"`
}

// MTLSSpec holds the modes, "Strict" or "Permissive"; Permissive if empty.
type MTLSSpec struct {
	Inbound  string `json:"inbound,omitempty"`
	Outbound string `json:"outbound,omitempty"`
}

// TrustBundle holds the trust anchors of one trust domain, which is its name.
type TrustBundle struct {
	Header `json:",inline"`
	Spec   TrustBundleSpec `json:"spec"`
}

// TrustBundleSpec holds anchors in PEM.
type TrustBundleSpec struct {
	Anchors string `json:"anchors"`
}

// Node is a machine that workloads run on.
type Node struct {
	Header `json:",inline"`
	Spec   NodeSpec `json:"spec"`
}

// NodeSpec says where a node is.
type NodeSpec struct {
	// Addresses of the node itself.
	Addresses []string `json:"addresses"`
	// NetNS is the path of the network namespace that is the node, on the machine
	// that "sealmesh capture" runs on; empty if it is a machine of its own.
	NetNS string `json:"netns,omitempty"`
	// Uplinks are its interfaces toward other nodes; those that have one of its
	// addresses, and all that are devices, if empty.
	Uplinks []string `json:"uplinks,omitempty"`
}

// Workload is what has an identity: everything in a network namespace, or the
// processes of a user or of a cgroup on a host.
type Workload struct {
	Header `json:",inline"`
	Spec   WorkloadSpec `json:"spec"`
}

// WorkloadSpec says who a workload is and where it is found. At most one of
// NetNS, User and Cgroup is set; a workload with none of them is enrolled
// elsewhere, with a join token.
type WorkloadSpec struct {
	// ServiceAccount is part of the identity; the workload's name if empty.
	ServiceAccount string   `json:"serviceAccount,omitempty"`
	Node           string   `json:"node,omitempty"`
	Addresses      []string `json:"addresses"`
	// Ports the workload listens on. Needed with User and Cgroup, whose address
	// is shared with others; empty means every port.
	Ports []uint16 `json:"ports,omitempty"`
	// Seal is "Enabled" (the default) or "Disabled": known to be outside the mesh.
	Seal string `json:"seal,omitempty"`
	// NetNS is the path of a network namespace.
	NetNS string `json:"netns,omitempty"`
	// User is a user name or number whose processes are the workload.
	User string `json:"user,omitempty"`
	// Cgroup is a cgroup v2 path below its mount, such as system.slice/web.service.
	Cgroup string `json:"cgroup,omitempty"`
	// SkipPorts are destination ports, in and out, that are never redirected.
	SkipPorts []uint16 `json:"skipPorts,omitempty"`
}

// Service is a name, with optional virtual addresses, for the workloads of its
// namespace that its selector matches.
type Service struct {
	Header `json:",inline"`
	Spec   ServiceSpec `json:"spec"`
}

// ServiceSpec says which workloads stand behind a service.
type ServiceSpec struct {
	// Selector matches labels of workloads of the same namespace; never empty.
	Selector map[string]string `json:"selector"`
	// Addresses are virtual: no machine has them, proxies translate them.
	Addresses []string      `json:"addresses,omitempty"`
	Ports     []ServicePort `json:"ports"`
}

// ServicePort maps a port of the virtual address to one of the workloads.
type ServicePort struct {
	Port uint16 `json:"port"`
	// TargetPort is Port if zero.
	TargetPort uint16 `json:"targetPort,omitempty"`
}
