package redirect

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// family is one of the two, with what our policy routing needs of it.
type family struct {
	name   string
	number int
	all    net.IPNet // the default destination
}

var (
	ipv4 = family{"ipv4", unix.AF_INET, net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}}
	ipv6 = family{"ipv6", unix.AF_INET6, net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}}
)

// families are those that the namespace of the calling thread routes: IPv6 may
// be disabled, and then has no packets to loop.
func families() ([]family, error) {
	// /proc/sys/net shows the namespace of the thread that reads it.
	disabled, err := os.ReadFile("/proc/sys/net/ipv6/conf/lo/disable_ipv6")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []family{ipv4}, nil
	case err != nil:
		return nil, err
	case strings.TrimSpace(string(disabled)) != "0":
		return []family{ipv4}, nil
	}
	return []family{ipv4, ipv6}, nil
}

// loopRule sends marked packets to our table.
func loopRule(f family) *netlink.Rule {
	mask := uint32(loopMask)
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table = f.number, ports.RulePriority, ports.Table
	r.Mark, r.Mask = ports.LoopMark, &mask
	return r
}

// loopRoute is the one route of our table: every address is ours, and on lo.
func loopRoute(f family, lo netlink.Link) *netlink.Route {
	return &netlink.Route{
		Family: f.number, Table: ports.Table, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		LinkIndex: lo.Attrs().Index, Dst: &f.all,
	}
}

// routing is the policy routing of the calling thread's namespace.
type routing struct {
	handle *netlink.Handle
	lo     netlink.Link
}

func openRouting() (routing, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return routing{}, fmt.Errorf("redirect: routing: %w", err)
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		h.Close()
		return routing{}, fmt.Errorf("redirect: device lo: %w", err)
	}
	return routing{h, lo}, nil
}

// apply brings lo up, through which everything loops, and adds what is missing.
func (r routing) apply() error {
	defer r.handle.Close()
	families, err := families()
	if err != nil {
		return fmt.Errorf("redirect: routing: %w", err)
	}
	if err := r.handle.LinkSetUp(r.lo); err != nil {
		return fmt.Errorf("redirect: bring lo up: %w", err)
	}
	for _, f := range families {
		if err := r.handle.RouteReplace(loopRoute(f, r.lo)); err != nil {
			return fmt.Errorf("redirect: %s route in table %d: %w", f.name, ports.Table, err)
		}
		found, err := r.rules(f)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			if err := r.handle.RuleAdd(loopRule(f)); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("redirect: %s rule for mark %#x: %w", f.name, ports.LoopMark, err)
			}
		}
	}
	return nil
}

// remove deletes our rules and all of our table. Nothing there is no error.
func (r routing) remove() error {
	defer r.handle.Close()
	var failed []error
	for _, f := range []family{ipv4, ipv6} {
		rules, err := r.rules(f)
		if err != nil {
			failed = append(failed, err)
		}
		for _, rule := range rules {
			if err := r.handle.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
				failed = append(failed, fmt.Errorf("redirect: %s rule: %w", f.name, err))
			}
		}
		routes, err := r.routes(f)
		if err != nil {
			failed = append(failed, err)
		}
		for _, route := range routes {
			if err := r.handle.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
				failed = append(failed, fmt.Errorf("redirect: %s route: %w", f.name, err))
			}
		}
	}
	return errors.Join(failed...)
}

// check says what is missing or was added by others.
func (r routing) check() (drift []string, err error) {
	defer r.handle.Close()
	families, err := families()
	if err != nil {
		return nil, fmt.Errorf("redirect: routing: %w", err)
	}
	if r.lo.Attrs().Flags&net.FlagUp == 0 {
		drift = append(drift, "device lo is down")
	}
	for _, f := range families {
		rules, err := r.rules(f)
		if err != nil {
			return nil, err
		}
		if len(rules) == 0 {
			drift = append(drift, fmt.Sprintf("%s rule for mark %#x is missing", f.name, ports.LoopMark))
		}
		routes, err := r.routes(f)
		if err != nil {
			return nil, err
		}
		switch want := loopRoute(f, r.lo); {
		case len(routes) == 0:
			drift = append(drift, fmt.Sprintf("%s route in table %d is missing", f.name, ports.Table))
		case len(routes) > 1 || routes[0].Type != want.Type || routes[0].LinkIndex != want.LinkIndex || !isDefault(routes[0]):
			drift = append(drift, fmt.Sprintf("%s routes in table %d are not ours alone", f.name, ports.Table))
		}
	}
	return drift, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// rules are the rules of ours that the kernel holds.
func (r routing) rules(f family) ([]netlink.Rule, error) {
	want := loopRule(f)
	rules, err := r.handle.RuleListFiltered(f.number, want, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PRIORITY|netlink.RT_FILTER_MARK|netlink.RT_FILTER_MASK)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil // a kernel without the family
	}
	if err != nil {
		return nil, fmt.Errorf("redirect: list %s rules: %w", f.name, err)
	}
	return rules, nil
}

// routes are all routes of our table.
func (r routing) routes(f family) ([]netlink.Route, error) {
	routes, err := r.handle.RouteListFiltered(f.number, &netlink.Route{Table: ports.Table}, netlink.RT_FILTER_TABLE)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("redirect: list %s routes of table %d: %w", f.name, ports.Table, err)
	}
	return routes, nil
}
