package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Host is one network namespace of a lab: the underlay, a node or a workload.
type Host struct {
	// Name of the namespace, as `ip netns` knows it.
	Name string
	// Addr4 and Addr6 are the host's addresses; Addr6 is not valid in a lab
	// that is IPv4Only.
	Addr4, Addr6 netip.Addr

	lab *Lab
	ns  netns.NsHandle
	uid uint32 // owner of what is opened and started
}

// Path is the file that stands for the namespace.
func (h *Host) Path() string { return netnsDir + "/" + h.Name }

// Do runs f in the namespace, on this goroutine: sockets that f itself opens
// and processes that it starts belong to it for good. Goroutines that f starts
// do not run in it.
func (h *Host) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(h.ns); err != nil {
			return fmt.Errorf("lab: enter %s: %v", h.Name, err)
		}
		return asUser(h.uid, f)
	})
}

// Listen is net.Listen in the namespace. The listener is usable anywhere.
func (h *Host) Listen(network, address string) (ln net.Listener, err error) {
	err = h.Do(func() error {
		ln, err = net.Listen(network, address)
		return err
	})
	return ln, err
}

// ListenPacket is net.ListenPacket in the namespace.
func (h *Host) ListenPacket(network, address string) (pc net.PacketConn, err error) {
	err = h.Do(func() error {
		pc, err = net.ListenPacket(network, address)
		return err
	})
	return pc, err
}

// Dial is net.Dialer.DialContext in the namespace. The address must be an IP
// address and a port: names would be resolved outside of it.
func (h *Host) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("lab: dial %q: must be an IP address and a port", address)
	}
	err = h.Do(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// onThread runs f on a thread whose namespace f may change: it is put back. A
// thread that cannot be is never used again.
func onThread(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: own namespace: %v", err)
	}
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	}()
	return f()
}

// newNamespace makes a network namespace under a name.
func newNamespace(name string) (ns netns.NsHandle, err error) {
	err = onThread(func() error {
		ns, err = netns.NewNamed(name)
		return err
	})
	return ns, err
}

// tune sets the namespace's loopback up, and makes it behave the same on every
// machine, whatever the defaults of that machine are.
func (h *Host) tune(ipv4Only bool) error {
	settings := map[string]string{
		"ipv4/ip_forward":             "1",
		"ipv4/conf/all/rp_filter":     "1", // the stricter one: what works here works elsewhere
		"ipv4/conf/default/rp_filter": "1",
	}
	if kernelHasIPv6() {
		disable := "0"
		if ipv4Only {
			disable = "1"
		}
		settings["ipv6/conf/all/disable_ipv6"] = disable
		settings["ipv6/conf/default/disable_ipv6"] = disable
		settings["ipv6/conf/all/forwarding"] = "1"
		settings["ipv6/conf/default/accept_dad"] = "0"
		settings["ipv6/conf/all/accept_dad"] = "0"
	}
	err := h.Do(func() error {
		for key, value := range settings {
			if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0); err != nil {
				return fmt.Errorf("lab: %s: %v", h.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return h.configure(func(nl *netlink.Handle) error { return setUp(nl, "lo", netip.Addr{}, netip.Addr{}) })
}

// kernelHasIPv6 reports whether there is IPv6 to be switched on at all.
func kernelHasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}
