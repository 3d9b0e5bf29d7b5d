// Package lab makes nodes and workloads out of network namespaces, on one
// machine and without any daemon: the demo, the tests and the benchmarks stand
// on it. Everything is real but the machines: kernels' own TCP/IP, real links,
// real programs, real tcpdump.
//
//	  ns <prefix>-ul  underlay                br0 10.77.0.1/24  fd77::1/64
//	                     ┌───────────────────────┴───────────────────────┐
//	                    n1 (veth)                                       n2
//	                     │                                               │
//	  ns <prefix>-n1   eth0 10.77.0.11 fd77::11       ns <prefix>-n2   eth0 10.77.0.12 fd77::12
//	  node, forwards   cni0 10.77.1.1/24              node, forwards   cni0 10.77.2.1/24
//	                   │    fd77:0:0:1::1/64                           │    fd77:0:0:2::1/64
//	              ┌────┴────┐                                     ┌────┴────┐
//	             w11       w12 (veth)                            w11       w12
//	              │         │                                     │         │
//	ns <prefix>-sender    …                        ns <prefix>-receiver   …
//	    eth0 10.77.1.11/24                             eth0 10.77.2.11/24
//	         fd77:0:0:1::11/64                              fd77:0:0:2::11/64
//
// Nodes reach each other's workloads by static routes over the underlay, and so
// does the underlay itself: a control plane in it can be reached from every
// workload. There is no address translation anywhere. Every link lies inside
// the lab's own namespaces; the machine's own network is never touched.
//
// The prefix is "sm" and the process number. A file in /run/sealmesh-lab names
// the process that owns it: New sweeps away what owners left that are no more.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
)

// Config says what to build.
type Config struct {
	// Nodes is how many nodes there are, 1 to 99.
	Nodes int
	// IPv4Only switches IPv6 off in every namespace. It is set by New where the
	// kernel has no IPv6.
	IPv4Only bool
}

// Lab is a network of namespaces. It is safe for concurrent use.
type Lab struct {
	// Prefix begins the name of each of the lab's namespaces.
	Prefix string
	// Underlay is the network between the nodes.
	Underlay *Host
	// Nodes in order: Nodes[0] is n1.
	Nodes []*Node

	config Config

	mu        sync.Mutex // guards what follows, and is held while Close runs
	closed    bool
	hosts     []*Host
	workloads map[string]*Workload
	running   map[*Cmd]struct{}
}

// Node is a machine: its uplink is eth0, its workloads hang on cni0.
type Node struct {
	*Host
	// Number counts from 1.
	Number int
	// Gateway4 and Gateway6 are the node's addresses toward its workloads.
	Gateway4, Gateway6 netip.Addr

	workloads int
}

// Workload is one network namespace behind a node; its link is eth0.
type Workload struct {
	// Name as it was given to AddWorkload.
	Name string
	Node *Node
	*Host
}

// built counts the labs of this process, so that each has its own prefix.
var built atomic.Int32

// New sweeps what dead owners left, and builds the underlay and the nodes. It
// needs root. Whatever fails, nothing is left behind.
func New(ctx context.Context, cfg Config) (*Lab, error) {
	if cfg.Nodes < 1 || cfg.Nodes > 99 {
		return nil, fmt.Errorf("lab: %d nodes: must be 1 to 99", cfg.Nodes)
	}
	if err := Supported(); err != nil {
		return nil, err
	}
	if err := shareMounts(); err != nil {
		return nil, err
	}
	if err := sweep(); err != nil {
		return nil, err
	}
	if !kernelHasIPv6() {
		cfg.IPv4Only = true
	}
	l := &Lab{
		Prefix:    fmt.Sprintf("sm%d", os.Getpid()),
		config:    cfg,
		workloads: make(map[string]*Workload),
		running:   make(map[*Cmd]struct{}),
	}
	if n := built.Add(1); n > 1 {
		l.Prefix = fmt.Sprintf("%s.%d", l.Prefix, n)
	}
	if err := claim(l.Prefix); err != nil {
		return nil, err
	}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// build makes everything New promises.
func (l *Lab) build(ctx context.Context) error {
	var err error
	if l.Underlay, err = l.addHost("ul", underlay4, underlay6); err != nil {
		return err
	}
	if err := l.plugUnderlay(); err != nil {
		return err
	}
	for number := 1; number <= l.config.Nodes; number++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		if err := l.addNode(number); err != nil {
			return err
		}
	}
	return nil
}

// addNode makes a node and the routes between it and those before it.
func (l *Lab) addNode(number int) error {
	host, err := l.addHost(fmt.Sprintf("n%d", number), node4(number), node6(number))
	if err != nil {
		return err
	}
	n := &Node{Host: host, Number: number, Gateway4: workload4(number, 1), Gateway6: workload6(number, 1)}
	if err := l.plugNode(n); err != nil {
		return err
	}
	for _, other := range l.Nodes {
		if err := errors.Join(l.routeToWorkloads(n.Host, other), l.routeToWorkloads(other.Host, n)); err != nil {
			return err
		}
	}
	if err := l.routeToWorkloads(l.Underlay, n); err != nil {
		return err
	}
	l.Nodes = append(l.Nodes, n)
	return nil
}

var workloadName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)

// reservedName is what the lab calls its own namespaces.
var reservedName = regexp.MustCompile(`^(ul|n[0-9]+)$`)

// AddWorkload makes a workload behind node. Its name is a DNS label that no
// other workload of the lab has. The workloads of a node have its addresses
// .11, .12 and so on, in the order they were added.
func (l *Lab) AddWorkload(node *Node, name string) (*Workload, error) {
	if !workloadName.MatchString(name) || reservedName.MatchString(name) {
		return nil, fmt.Errorf("lab: workload %q: must be lower-case letters, digits and dashes, and not ul or n1", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.workloads[name] != nil {
		return nil, fmt.Errorf("lab: workload %q exists already", name)
	}
	if node.workloads == maxWorkloads {
		return nil, fmt.Errorf("lab: workload %q: node %s has its %d already", name, node.Name, maxWorkloads)
	}
	node.workloads++
	number := 10 + node.workloads
	host, err := l.addHostLocked(name, workload4(node.Number, number), workload6(node.Number, number))
	if err != nil {
		return nil, err
	}
	w := &Workload{Name: name, Node: node, Host: host}
	if err := l.plugWorkload(w, fmt.Sprintf("w%d", number)); err != nil {
		return nil, err
	}
	l.workloads[name] = w
	return w, nil
}

var errClosed = errors.New("lab: closed")

// Close ends the processes that were started in the lab and deletes all of it.
// Calling it again does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	for c := range l.running {
		c.kill()
	}
	for c := range l.running {
		_ = c.reap() // killed: how it ended is known
	}
	for _, h := range l.hosts {
		h.ns.Close()
	}
	return remove(l.Prefix)
}

// addHost makes one namespace.
func (l *Lab) addHost(name string, addr4, addr6 netip.Addr) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addHostLocked(name, addr4, addr6)
}

func (l *Lab) addHostLocked(name string, addr4, addr6 netip.Addr) (*Host, error) {
	h := &Host{Name: l.Prefix + "-" + name, Addr4: addr4, lab: l}
	if !l.config.IPv4Only {
		h.Addr6 = addr6
	}
	var err error
	if h.ns, err = newNamespace(h.Name); err != nil {
		return nil, fmt.Errorf("lab: namespace %s: %v", h.Name, err)
	}
	l.hosts = append(l.hosts, h)
	if err := h.tune(l.config.IPv4Only); err != nil {
		return nil, err
	}
	return h, nil
}
