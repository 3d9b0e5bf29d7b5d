// Package ports holds every number Sealmesh claims on a machine: TCP and UDP
// ports, socket marks, the routing table and the proxies' user. They stand in
// one file so that a firewall rule can be written from one page.
package ports

// TCP ports of the sidecar proxy, inside the workload's network namespace.
const (
	// Outbound takes what the workload sends.
	Outbound = 15001
	// Inbound takes what the workload is sent.
	Inbound = 15006
	// Admin serves /live, /ready, /metrics, /connections and /admin/ping.
	Admin = 15090
)

// Host workloads share a namespace: each proxy takes the first three ports in a
// row that are free from HostFirst to HostLast, for outbound, inbound and admin.
const (
	HostFirst = 15101
	HostLast  = 15400
)

// Control is the TCP port of the control plane for proxies on other machines.
// Proxies on the same machine use its unix socket.
const Control = 15012

// Socket marks (SO_MARK), routing table and user. The table and the user are
// the mark in decimal, so that `ip rule` and `ps` point at the same number.
const (
	// Mark is on every packet a proxy sends; redirection lets it pass.
	Mark = 0x5ea1
	// LoopMark is on what a workload sends: it is routed back through the
	// loopback device, where the proxy's transparent listener takes it.
	LoopMark = 0x5ea3
	// Table holds the one route (local default dev lo) that LoopMark selects.
	Table = 24225
	// RulePriority orders the `ip rule` before the main table (32766).
	RulePriority = 24225
	// ProxyUID is the user and group that `sealmesh up` runs its proxies as.
	ProxyUID = 24225
)
