package live

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// InNamespace runs fn with a thread in the network namespace at path; empty is
// the own one. Sockets that fn opens stay in it.
func InNamespace(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with its goroutine.
		runtime.LockOSThread()
		err := errors.New("ended early") // by runtime.Goexit
		defer func() { result <- err }()
		if err = enter(path); err == nil {
			err = fn()
		}
	}()
	return <-result
}

func enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// Interface is a device of a network namespace.
type Interface struct {
	Name         string
	Up, Loopback bool
	// Kind is that of a virtual device, such as "veth", "bridge" or "wireguard".
	Kind string
	// Enslaved: it is a port of a bridge or of a bond.
	Enslaved  bool
	Addresses []netip.Addr
}

// Interfaces of the network namespace at path, the own one if that is empty.
func Interfaces(path string) ([]Interface, error) {
	var all []Interface
	err := InNamespace(path, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("interfaces: %w", err)
		}
		for _, link := range links {
			attrs := link.Attrs()
			i := Interface{
				Name: attrs.Name, Kind: link.Type(), Enslaved: attrs.MasterIndex != 0,
				Up: attrs.RawFlags&unix.IFF_UP != 0, Loopback: attrs.RawFlags&unix.IFF_LOOPBACK != 0,
			}
			addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
			if err != nil {
				return fmt.Errorf("addresses of %s: %w", attrs.Name, err)
			}
			for _, a := range addresses {
				if addr, ok := netip.AddrFromSlice(a.IP); ok {
					i.Addresses = append(i.Addresses, addr.Unmap())
				}
			}
			all = append(all, i)
		}
		return nil
	})
	return all, err
}
