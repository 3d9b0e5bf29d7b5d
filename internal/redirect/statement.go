package redirect

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// statement is one part of a rule: how `nft list` writes it, and what the kernel
// runs. The vocabulary below is all that our rules are made of.
type statement struct {
	text  string
	exprs []expr.Any
}

// rule is statements read from left to right; the first that does not hold ends it.
type rule []statement

// String is the rule as `nft list` writes it.
func (r rule) String() string {
	words := make([]string, 0, len(r))
	for _, s := range r {
		if s.text != "" {
			words = append(words, s.text)
		}
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() []expr.Any {
	var all []expr.Any
	for _, s := range r {
		all = append(all, s.exprs...)
	}
	return all
}

const (
	cmpEq  = expr.CmpOpEq
	cmpNeq = expr.CmpOpNeq
)

// reg is the register that statements compare in.
const reg = 1

// Verdicts.
var (
	accept = statement{"accept", []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}}
	drop   = statement{"drop", []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}}
	pass   = statement{"return", []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}}
)

// Matches. Those without text come before a match of a header field, which
// `nft list` prints as one.
var (
	fromLo    = statement{`iif "lo"`, device(expr.MetaKeyIIF, cmpEq)}
	toLo      = statement{`oif "lo"`, device(expr.MetaKeyOIF, cmpEq)}
	notToLo   = statement{`oif != "lo"`, device(expr.MetaKeyOIF, cmpNeq)}
	notTCP    = statement{"meta l4proto != tcp", meta(expr.MetaKeyL4PROTO, cmpNeq, []byte{unix.IPPROTO_TCP})}
	isTCP     = statement{"meta l4proto tcp", meta(expr.MetaKeyL4PROTO, cmpEq, []byte{unix.IPPROTO_TCP})}
	onlyTCP   = statement{"", meta(expr.MetaKeyL4PROTO, cmpEq, []byte{unix.IPPROTO_TCP})}
	onlyUDP   = statement{"", meta(expr.MetaKeyL4PROTO, cmpEq, []byte{unix.IPPROTO_UDP})}
	onlyIPv4  = statement{"", meta(expr.MetaKeyNFPROTO, cmpEq, []byte{unix.NFPROTO_IPV4})}
	onlyIPv6  = statement{"", meta(expr.MetaKeyNFPROTO, cmpEq, []byte{unix.NFPROTO_IPV6})}
	notLocal  = statement{"fib daddr type != local", addressType(cmpNeq)}
	local     = statement{"fib daddr type local", addressType(cmpEq)}
	begins    = statement{"tcp flags syn / fin,syn,rst,ack", flags(cmpEq)}
	continues = statement{"tcp flags != syn / fin,syn,rst,ack", flags(cmpNeq)}
)

// device compares with lo, which has index 1 in every network namespace
// (LOOPBACK_IFINDEX in the kernel). Comparing names would cost more, in every rule
// for every packet.
func device(key expr.MetaKey, op expr.CmpOp) []expr.Any {
	const loopback = 1
	return meta(key, op, native(loopback))
}

func meta(key expr.MetaKey, op expr.CmpOp, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: reg},
		&expr.Cmp{Op: op, Register: reg, Data: value},
	}
}

func addressType(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: op, Register: reg, Data: native(unix.RTN_LOCAL)},
	}
}

// flags compares FIN, SYN, RST and ACK of a TCP header with SYN alone, which is
// how a connection begins.
func flags(op expr.CmpOp) []expr.Any {
	const fin, syn, rst, ack = 0x01, 0x02, 0x04, 0x10
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: reg, Data: []byte{syn}},
	}
}

func sport(proto string, port uint16) statement {
	return statement{fmt.Sprintf("%s sport %d", proto, port), header(expr.PayloadBaseTransportHeader, 0, network(port))}
}

func dport(proto string, port uint16) statement {
	return statement{fmt.Sprintf("%s dport %d", proto, port), header(expr.PayloadBaseTransportHeader, 2, network(port))}
}

func saddr(a netip.Addr) statement { return address("saddr", 12, 8, a) }
func daddr(a netip.Addr) statement { return address("daddr", 16, 24, a) }

func address(field string, offset4, offset6 uint32, a netip.Addr) statement {
	if a.Is4() {
		return statement{fmt.Sprintf("ip %s %s", field, a),
			slices.Concat(onlyIPv4.exprs, header(expr.PayloadBaseNetworkHeader, offset4, a.AsSlice()))}
	}
	return statement{fmt.Sprintf("ip6 %s %s", field, a),
		slices.Concat(onlyIPv6.exprs, header(expr.PayloadBaseNetworkHeader, offset6, a.AsSlice()))}
}

// neighbour matches one of the two messages by which IPv6 finds a link address.
func neighbour(name string, kind byte) statement {
	exprs := meta(expr.MetaKeyL4PROTO, cmpEq, []byte{unix.IPPROTO_ICMPV6})
	return statement{"icmpv6 type " + name, append(exprs, header(expr.PayloadBaseTransportHeader, 0, []byte{kind})...)}
}

func header(base expr.PayloadBase, offset uint32, value []byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: uint32(len(value))},
		&expr.Cmp{Op: cmpEq, Register: reg, Data: value},
	}
}

func mark(m uint32) statement {
	return statement{fmt.Sprintf("meta mark 0x%08x", m), meta(expr.MetaKeyMARK, cmpEq, native(m))}
}

func markMasked(m, mask uint32) statement {
	return statement{fmt.Sprintf("meta mark & 0x%08x == 0x%08x", mask, m), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: cmpEq, Register: reg, Data: native(m)},
	}}
}

func setMark(m uint32) statement {
	return statement{fmt.Sprintf("meta mark set 0x%08x", m), []expr.Any{
		&expr.Immediate{Register: reg, Data: native(m)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
	}}
}

func skuid(not string, op expr.CmpOp, uid uint32) statement {
	return statement{fmt.Sprintf("meta skuid %s%d", not, uid), meta(expr.MetaKeySKUID, op, native(uid))}
}

// owned holds if the packet's socket belongs to a process, whichever it is: no
// user has this number.
var owned = skuid("!= ", cmpNeq, 1<<32-1)

// cgroup matches the ancestor, at the path's own depth, of the socket's cgroup.
func cgroup(path string, id uint64) statement {
	level := strings.Count(path, "/") + 1
	return statement{fmt.Sprintf("socket cgroupv2 level %d %q", level, path), []expr.Any{
		&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: uint32(level), Register: reg},
		&expr.Cmp{Op: cmpEq, Register: reg, Data: binaryutil.NativeEndian.PutUint64(id)},
	}}
}

// tproxy hands the packet to the established transparent socket it belongs to,
// else to the transparent listener on the port. It does not hold if there is
// neither.
func tproxy(port uint16) statement {
	return statement{fmt.Sprintf("tproxy to :%d", port), []expr.Any{
		&expr.Immediate{Register: reg, Data: network(port)},
		&expr.TProxy{Family: unix.NFPROTO_UNSPEC, RegPort: reg},
	}}
}

// flowMap remembers whose connection a packet is of: from its addresses and
// ports to the mark of the workload.
type flowMap struct {
	name    string
	keyText string // as `nft list` writes the type
	tuple   string // as it writes the key
	match   statement
	address struct{ source, dest, words uint32 } // offsets, length in registers
}

const (
	// flowTimeout outlives every pause of a closed socket: probes of a closed
	// window, the longest, are 2 minutes apart (TCP_RTO_MAX).
	flowTimeout = 5 * time.Minute
	// flowLimit of connections at once in one map; beyond, new ones are dropped.
	flowLimit = 1 << 18
)

var (
	flows4 = flowMap{
		name: "flows4", match: onlyIPv4,
		keyText: "ipv4_addr . inet_service . ipv4_addr . inet_service",
		tuple:   "ip saddr . tcp sport . ip daddr . tcp dport",
		address: struct{ source, dest, words uint32 }{12, 16, 1},
	}
	flows6 = flowMap{
		name: "flows6", match: onlyIPv6,
		keyText: "ipv6_addr . inet_service . ipv6_addr . inet_service",
		tuple:   "ip6 saddr . tcp sport . ip6 daddr . tcp dport",
		address: struct{ source, dest, words uint32 }{8, 24, 4},
	}
)

// word is the name of the n-th 32-bit register, the one the kernel reads back:
// every fourth begins a 128-bit register and goes by that name.
func word(n uint32) uint32 {
	if n%4 == 0 {
		return unix.NFT_REG_1 + n/4
	}
	return unix.NFT_REG32_00 + n
}

// key loads the tuple, from the first register on, and returns the one behind.
func (m flowMap) key() ([]expr.Any, uint32) {
	exprs := slices.Concat(m.match.exprs, onlyTCP.exprs)
	at := uint32(0)
	load := func(base expr.PayloadBase, offset, length uint32) {
		exprs = append(exprs, &expr.Payload{DestRegister: word(at), Base: base, Offset: offset, Len: length})
		at += (length + 3) / 4
	}
	load(expr.PayloadBaseNetworkHeader, m.address.source, 4*m.address.words)
	load(expr.PayloadBaseTransportHeader, 0, 2)
	load(expr.PayloadBaseNetworkHeader, m.address.dest, 4*m.address.words)
	load(expr.PayloadBaseTransportHeader, 2, 2)
	return exprs, word(at)
}

// remember keeps the packet's mark for its connection. It does not hold if the
// map is full.
func (m flowMap) remember() statement {
	exprs, data := m.key()
	return statement{fmt.Sprintf("update @%s { %s : meta mark }", m.name, m.tuple), append(exprs,
		&expr.Meta{Key: expr.MetaKeyMARK, Register: data},
		&expr.Dynset{SetName: m.name, Operation: unix.NFT_DYNSET_OP_UPDATE, SrcRegKey: reg, SrcRegData: data},
	)}
}

// recall sets the mark that was kept. It does not hold if none was.
func (m flowMap) recall() statement {
	exprs, _ := m.key()
	return statement{fmt.Sprintf("meta mark set %s map @%s", m.tuple, m.name), append(exprs,
		&expr.Lookup{SourceRegister: reg, DestRegister: reg, IsDestRegSet: true, SetName: m.name},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg},
	)}
}

func native(v uint32) []byte  { return binaryutil.NativeEndian.PutUint32(v) }
func network(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
