package enrol

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/redirect"
)

// Workload is one workload of this machine: all of a network namespace (NetNS
// alone), or the processes of a user or of a cgroup (of the own network
// namespace, or of NetNS).
type Workload struct {
	Namespace, Name string
	// ServiceAccount is part of its identity: with another one its proxy begins
	// anew.
	ServiceAccount string
	// NetNS is the path of a network namespace; the own one if empty.
	NetNS string
	// User is a name or number, Cgroup a path below the mount of cgroup v2.
	User, Cgroup string
	// Ports that a user's or cgroup's processes listen on.
	Ports []uint16
	// SkipPorts are destination ports that are not sealed.
	SkipPorts []uint16
}

// FromObject reads a workload of the mesh. It is not local, and not for us, if it
// is enrolled elsewhere or not to be sealed.
func FromObject(o mesh.Workload) (w Workload, local bool) {
	s := o.Spec
	if s.Seal == "Disabled" || s.NetNS == "" && s.User == "" && s.Cgroup == "" {
		return Workload{}, false
	}
	w = Workload{
		Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, ServiceAccount: s.ServiceAccount,
		NetNS: s.NetNS, User: s.User, Cgroup: s.Cgroup, SkipPorts: s.SkipPorts,
	}
	if !w.whole() {
		w.Ports = s.Ports // all ports of a whole namespace are sealed anyway
	}
	return w, true
}

// String is namespace/name.
func (w Workload) String() string { return w.Namespace + "/" + w.Name }

// whole reports whether the workload is all of its namespace.
func (w Workload) whole() bool { return w.User == "" && w.Cgroup == "" }

// differOnlyInRules reports whether the proxy of one workload can serve the other.
func (w Workload) differOnlyInRules(o Workload) bool {
	return w.ServiceAccount == o.ServiceAccount && w.NetNS == o.NetNS && w.User == o.User && w.Cgroup == o.Cgroup
}

// validate reports every problem of a list at once.
func validate(workloads []Workload) error {
	var problems []error
	problem := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("enrol: "+format, args...))
	}
	names := make(map[string]bool)
	whole := make(map[string]string) // namespace → the workload that is all of it
	for _, w := range workloads {
		if w.Namespace == "" || w.Name == "" {
			problem("workload %q: namespace and name must be given", w)
		}
		if names[w.String()] {
			problem("workload %s is listed twice", w)
		}
		names[w.String()] = true
		if w.User != "" && w.Cgroup != "" {
			problem("workload %s: is both user %q and cgroup %q, must be one", w, w.User, w.Cgroup)
		}
		if w.whole() {
			if w.NetNS == "" {
				problem("workload %s: netns, user or cgroup must be given", w)
			}
			whole[w.NetNS] = w.String()
		}
	}
	for _, w := range workloads {
		if other, ok := whole[w.NetNS]; ok && other != w.String() {
			problem("workload %s: network namespace %s is all of %s", w, w.NetNS, other)
		}
	}
	return errors.Join(problems...)
}

// selector finds the processes that are the workload.
func (w Workload) selector() (redirect.Selector, error) {
	switch {
	case w.User != "":
		uid, err := lookup(w.User)
		return redirect.ByUID(uid), err
	case w.Cgroup != "":
		return redirect.ByCgroup(w.Cgroup)
	}
	return redirect.Selector{}, nil
}

func lookup(name string) (uint32, error) {
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(uid), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(uid), err
}
