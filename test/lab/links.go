package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Prefix lengths of every network of the lab.
const (
	bits4 = 24
	bits6 = 64
)

// plugUnderlay makes the bridge that every node's uplink ends in.
func (l *Lab) plugUnderlay() error {
	return l.Underlay.configure(func(nl *netlink.Handle) error {
		return addBridge(nl, "br0", l.Underlay.Addr4, l.Underlay.Addr6)
	})
}

// plugNode gives a node its uplink, its bridge for workloads and its default
// route.
func (l *Lab) plugNode(n *Node) error {
	port := fmt.Sprintf("n%d", n.Number)
	if err := l.Underlay.configure(func(nl *netlink.Handle) error { return addVeth(nl, "br0", port, n.Host) }); err != nil {
		return err
	}
	gateway6 := n.Gateway6
	if l.config.IPv4Only {
		gateway6 = netip.Addr{}
	}
	return n.configure(func(nl *netlink.Handle) error {
		if err := setUp(nl, "eth0", n.Addr4, n.Addr6); err != nil {
			return err
		}
		if err := addBridge(nl, "cni0", n.Gateway4, gateway6); err != nil {
			return err
		}
		return addDefaultRoutes(nl, l.Underlay.Addr4, l.Underlay.Addr6)
	})
}

// plugWorkload connects a workload to its node's bridge.
func (l *Lab) plugWorkload(w *Workload, port string) error {
	if err := w.Node.configure(func(nl *netlink.Handle) error { return addVeth(nl, "cni0", port, w.Host) }); err != nil {
		return err
	}
	gateway6 := w.Node.Gateway6
	if l.config.IPv4Only {
		gateway6 = netip.Addr{}
	}
	return w.configure(func(nl *netlink.Handle) error {
		if err := setUp(nl, "eth0", w.Addr4, w.Addr6); err != nil {
			return err
		}
		return addDefaultRoutes(nl, w.Node.Gateway4, gateway6)
	})
}

// routeToWorkloads lets h reach the workloads of n, through n.
func (l *Lab) routeToWorkloads(h *Host, n *Node) error {
	return h.configure(func(nl *netlink.Handle) error {
		if err := addRoute(nl, netip.PrefixFrom(n.Gateway4, bits4).Masked(), n.Addr4); err != nil {
			return err
		}
		return addRoute(nl, netip.PrefixFrom(n.Gateway6, bits6).Masked(), n.Addr6)
	})
}

// configure runs f with a netlink handle of h's namespace.
func (h *Host) configure(f func(*netlink.Handle) error) error {
	nl, err := netlink.NewHandleAt(h.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("lab: %s: netlink: %v", h.Name, err)
	}
	defer nl.Close()
	if err := f(nl); err != nil {
		return fmt.Errorf("lab: %s: %v", h.Name, err)
	}
	return nil
}

// onLink is configure for one link of h.
func (h *Host) onLink(name string, f func(*netlink.Handle, netlink.Link) error) error {
	return h.configure(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find link %s: %v", name, err)
		}
		return f(nl, link)
	})
}

// addBridge makes a bridge with addresses. It floods multicast, which neighbour
// discovery is, without waiting for anybody to ask for it.
func addBridge(nl *netlink.Handle, name string, addr4, addr6 netip.Addr) error {
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs(), MulticastSnooping: &snooping}
	bridge.Name = name
	if err := nl.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge %s: %v", name, err)
	}
	return setUp(nl, name, addr4, addr6)
}

// addVeth makes a link from a port of a bridge here to eth0 of peer.
func addVeth(nl *netlink.Handle, bridge, port string, peer *Host) error {
	master, err := nl.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %v", bridge, err)
	}
	veth := &netlink.Veth{
		LinkAttrs:     netlink.NewLinkAttrs(),
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(int(peer.ns)),
	}
	veth.Name = port
	veth.MasterIndex = master.Attrs().Index
	if err := nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("add link %s to %s: %v", port, peer.Name, err)
	}
	return setUp(nl, port, netip.Addr{}, netip.Addr{})
}

// setUp gives a link its addresses and sets it up.
func setUp(nl *netlink.Handle, name string, addr4, addr6 netip.Addr) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %v", name, err)
	}
	if err := addAddresses(nl, link, addr4, addr6); err != nil {
		return err
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %v", name, err)
	}
	return nil
}

// addAddresses gives a link those addresses that are valid. IPv6 addresses are
// usable at once, without asking whether somebody else has them.
func addAddresses(nl *netlink.Handle, link netlink.Link, addr4, addr6 netip.Addr) error {
	return eachAddress(addr4, addr6, func(a *netlink.Addr) error {
		if err := nl.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %v", a.IPNet, link.Attrs().Name, err)
		}
		return nil
	})
}

// eachAddress calls f for those addresses that are valid.
func eachAddress(addr4, addr6 netip.Addr, f func(*netlink.Addr) error) error {
	for _, a := range []netip.Prefix{netip.PrefixFrom(addr4, bits4), netip.PrefixFrom(addr6, bits6)} {
		if !a.IsValid() {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := f(addr); err != nil {
			return err
		}
	}
	return nil
}

// addDefaultRoutes sends everything else to the gateways that are valid.
func addDefaultRoutes(nl *netlink.Handle, gateway4, gateway6 netip.Addr) error {
	if err := addRoute(nl, netip.MustParsePrefix("0.0.0.0/0"), gateway4); err != nil {
		return err
	}
	return addRoute(nl, netip.MustParsePrefix("::/0"), gateway6)
}

// addRoute adds a route through a gateway, or none if the gateway is not valid.
func addRoute(nl *netlink.Handle, to netip.Prefix, gateway netip.Addr) error {
	if !gateway.IsValid() {
		return nil
	}
	if err := nl.RouteAdd(&netlink.Route{Dst: ipNet(to), Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("add route to %s through %s: %v", to, gateway, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// TakeAddress makes thief answer for victim, a workload of the same node, as
// after a forged ARP reply: the node delivers to thief whatever is sent to
// victim's addresses, until they are given back.
func (l *Lab) TakeAddress(thief, victim *Workload) (giveBack func() error, err error) {
	if thief.Node != victim.Node {
		return nil, fmt.Errorf("lab: %s cannot take the address of %s on another node", thief.Name, victim.Name)
	}
	var mac net.HardwareAddr
	err = thief.onLink("eth0", func(nl *netlink.Handle, link netlink.Link) error {
		mac = link.Attrs().HardwareAddr
		return addAddresses(nl, link, victim.Addr4, victim.Addr6)
	})
	if err != nil {
		return nil, err
	}
	if err := thief.Node.deliver(victim, mac); err != nil {
		return nil, err
	}
	return func() error {
		err := victim.onLink("eth0", func(_ *netlink.Handle, link netlink.Link) error {
			mac = link.Attrs().HardwareAddr
			return nil
		})
		if err != nil {
			return err
		}
		err = thief.onLink("eth0", func(nl *netlink.Handle, link netlink.Link) error {
			return eachAddress(victim.Addr4, victim.Addr6, func(a *netlink.Addr) error { return nl.AddrDel(link, a) })
		})
		if err != nil {
			return err
		}
		return thief.Node.deliver(victim, mac)
	}, nil
}

// deliver sends to a link address what is for a workload.
func (n *Node) deliver(w *Workload, mac net.HardwareAddr) error {
	return n.onLink("cni0", func(nl *netlink.Handle, bridge netlink.Link) error {
		return eachAddress(w.Addr4, w.Addr6, func(a *netlink.Addr) error {
			neighbour := &netlink.Neigh{LinkIndex: bridge.Attrs().Index, IP: a.IP, HardwareAddr: mac, State: netlink.NUD_PERMANENT}
			if err := nl.NeighSet(neighbour); err != nil {
				return fmt.Errorf("neighbour %s: %v", a.IP, err)
			}
			return nil
		})
	})
}
