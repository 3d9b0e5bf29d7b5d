package lab

import (
	"fmt"
	"net/netip"
)

// maxWorkloads of one node: hosts .11 to .250 of its /24.
const maxWorkloads = 240

// The underlay's own addresses, the gateway of every node.
var (
	underlay4 = netip.MustParseAddr("10.77.0.1")
	underlay6 = netip.MustParseAddr("fd77::1")
)

// IPv6 addresses are written with the decimal digits of the IPv4 ones, so that
// the two read alike: fd77:0:0:2::11 is 10.77.2.11.

// node4 is a node's address on the underlay.
func node4(node int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(10 + node)}) }

// node6 is a node's address on the underlay.
func node6(node int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd77::%d", 10+node)) }

// workload4 is an address of the network behind a node.
func workload4(node, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, byte(node), byte(host)})
}

// workload6 is an address of the network behind a node.
func workload6(node, host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd77:0:0:%d::%d", node, host))
}
