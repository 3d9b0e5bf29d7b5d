package enrol

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/redirect"
)

// realm is the rules of one network namespace, whatever number of workloads
// share them.
type realm struct {
	path    string
	control netip.AddrPort

	mu      sync.Mutex // guards below, and the rules in the kernel
	members []*member
}

// member is a workload as the rules know it.
type member struct {
	workload Workload
	own      proxyPorts
	active   bool // in the rules; phase and selector count
	phase    redirect.Phase
	selector redirect.Selector
}

// proxyPorts are the ports of the proxy beside a workload.
type proxyPorts struct{ outbound, inbound, admin uint16 }

// guard puts workloads into the rules, all at once, so that they pass nothing.
// The error says which are not: those whose processes were not found.
func (r *realm) guard(workloads ...Workload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var problems []error
	for _, w := range workloads {
		m := r.memberLocked(w)
		m.workload, m.phase = w, redirect.Guard
		selector, err := w.selector()
		if err == nil && m.own == (proxyPorts{}) {
			err = r.reserveLocked(m, 0)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		m.active, m.selector = true, selector
	}
	return errors.Join(append(problems, r.applyLocked())...)
}

// redirect lifts a workload's guard.
func (r *realm) redirect(w Workload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memberLocked(w)
	m.phase = redirect.Redirect
	err := r.applyLocked()
	if err != nil {
		m.phase = redirect.Guard
	}
	return err
}

// change gives a workload other ports.
func (r *realm) change(w Workload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.memberLocked(w)
	same := slices.Equal(m.workload.Ports, w.Ports) && slices.Equal(m.workload.SkipPorts, w.SkipPorts)
	m.workload = w
	if same {
		return nil
	}
	return r.applyLocked()
}

// reserve finds other ports for a workload's proxy: tried is how many were in
// the way of something else.
func (r *realm) reserve(w Workload, tried int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reserveLocked(r.memberLocked(w), tried)
}

// reserveLocked finds ports. A whole namespace has the usual ones; on a host a
// proxy takes the first three that no other has, after those that were tried.
func (r *realm) reserveLocked(m *member, tried int) error {
	if m.workload.whole() {
		m.own = proxyPorts{ports.Outbound, ports.Inbound, ports.Admin}
		if tried > 0 {
			return fmt.Errorf("ports %d, %d and %d must be free in %s", ports.Outbound, ports.Inbound, ports.Admin, r)
		}
		return nil
	}
	for first := uint16(ports.HostFirst); first+2 <= ports.HostLast; first += 3 {
		if slices.ContainsFunc(r.members, func(o *member) bool { return o != m && o.own.outbound == first }) {
			continue
		}
		if tried == 0 {
			m.own = proxyPorts{first, first + 1, first + 2}
			return nil
		}
		tried--
	}
	return fmt.Errorf("no three ports in a row are free from %d to %d in %s", ports.HostFirst, ports.HostLast, r)
}

// own are the ports of a workload's proxy.
func (r *realm) own(w Workload) proxyPorts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.memberLocked(w).own
}

// drop takes a workload out, and out of the rules. The last one takes the rules
// with it.
func (r *realm) drop(w Workload) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members = slices.DeleteFunc(r.members, func(m *member) bool { return m.workload.String() == w.String() })
	err := r.applyLocked()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the namespace is gone, and its rules with it
	}
	return err
}

// repair compares the rules with the kernel and writes them anew if they differ.
func (r *realm) repair(log *slog.Logger) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.members {
		// A cgroup may have been made anew. One that is gone has no processes, and
		// its selector matches none.
		if selector, err := m.workload.selector(); err == nil {
			m.selector = selector
		}
	}
	config := r.configLocked()
	if len(config.Workloads) == 0 {
		return
	}
	err := redirect.InNamespace(r.path, func() error {
		drift, err := redirect.Check(config)
		if err != nil || len(drift) == 0 {
			return err
		}
		if err := redirect.Apply(config); err != nil {
			return err
		}
		log.Warn("rules repaired", obs.KeyNetNS, r.String(), obs.KeyDrift, drift)
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // its keepers say that it is gone
		log.Error("rules not repaired", obs.KeyNetNS, r.String(), obs.KeyError, err)
	}
}

// rules is the number of rules in force.
func (r *realm) rules() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	config := r.configLocked()
	if len(config.Workloads) == 0 {
		return 0
	}
	return redirect.Plan(config).Rules()
}

// applyLocked writes the rules, or removes them when there are none.
func (r *realm) applyLocked() error {
	config := r.configLocked()
	if len(config.Workloads) == 0 {
		return redirect.InNamespace(r.path, redirect.Remove)
	}
	return redirect.InNamespace(r.path, func() error { return redirect.Apply(config) })
}

// configLocked is what the members that are in the rules come to.
func (r *realm) configLocked() redirect.Config {
	c := redirect.Config{ProxyUID: ports.ProxyUID, Control: r.control}
	for _, m := range r.members {
		if m.active {
			c.Workloads = append(c.Workloads, redirect.Workload{
				Name: m.workload.String(), Phase: m.phase, Selector: m.selector,
				Ports: m.workload.Ports, SkipPorts: m.workload.SkipPorts,
				Outbound: m.own.outbound, Inbound: m.own.inbound, Admin: m.own.admin,
			})
		}
	}
	return c
}

// memberLocked is the member that bears the workload's name, made if need be.
func (r *realm) memberLocked(w Workload) *member {
	for _, m := range r.members {
		if m.workload.String() == w.String() {
			return m
		}
	}
	m := &member{workload: w}
	r.members = append(r.members, m)
	return m
}

// String is the namespace's path.
func (r *realm) String() string {
	if r.path == "" {
		return "the own namespace"
	}
	return r.path
}
