package main

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/gopacket/gopacket/layers"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// variant is what may happen to a capture on its way to the judge.
type variant struct {
	name string
	kind kind
	make func([]capture.Frame, *rand.Rand) []capture.Frame
}

// kind says what must hold for a variant.
type kind int

const (
	// lossless: all bytes are still there, so that the verdict must be the same.
	lossless kind = iota
	// losing: something is missing, so that it may be unknown.
	losing
	// ofClear is made of flows in clear only: of a sealed one it would tell nothing.
	ofClear
)

// fixed is a variant without chance.
func fixed(f func([]capture.Frame) []capture.Frame) func([]capture.Frame, *rand.Rand) []capture.Frame {
	return func(frames []capture.Frame, _ *rand.Rand) []capture.Frame { return f(frames) }
}

// variants are made of every golden.
var variants = []variant{
	{"VLAN", lossless, fixed(every(tagged(0x8100_0064)))},
	{"QinQ", lossless, fixed(every(tagged(0x88a8_0064, 0x8100_0007)))},
	{"VXLAN", lossless, fixed(every(vxlan))},
	{"Geneve", lossless, fixed(every(geneve))},
	{"GRE", lossless, fixed(every(gre))},
	{"GRE tap", lossless, fixed(every(greTap))},
	{"IP in IP", lossless, fixed(every(ipip))},
	{"VXLAN in VLAN in GRE tap", lossless, fixed(func(f []capture.Frame) []capture.Frame {
		return every(greTap)(every(tagged(0x8100_0064))(every(vxlan)(f)))
	})},
	{"fragments of IP", lossless, fixed(every(pieces))},
	{"cooked", lossless, fixed(relinked(layers.LinkTypeLinuxSLL, cooked))},
	{"cooked v2", lossless, fixed(relinked(layers.LinkTypeLinuxSLL2, cooked2))},
	{"raw IP", lossless, fixed(relinked(layers.LinkTypeRaw, bare))},
	{"reordered", lossless, reordered},
	{"duplicated", lossless, duplicated},
	{"snaplen 128", losing, fixed(snapped(128))},
	{"snaplen 256", losing, fixed(snapped(256))},
	{"no SYN", losing, fixed(without(0))},
	{"first packet lost", losing, fixed(without(1))},
	{"first 2 lost", losing, fixed(without(2))},
	{"first 4 lost", losing, fixed(without(4))},
	{"first 6 lost", losing, fixed(without(6))},
	{"first 8 lost", losing, fixed(without(8))},
	{"first 12 lost", losing, fixed(without(12))},
	{"client only", losing, fixed(oneWay(true))},
	{"server only", losing, fixed(oneWay(false))},
	{"client only, first 3 lost", losing, fixed(func(f []capture.Frame) []capture.Frame { return oneWay(true)(without(3)(f)) })},
	{"server only, first 3 lost", losing, fixed(func(f []capture.Frame) []capture.Frame { return oneWay(false)(without(3)(f)) })},
	{"1 % lost", losing, lossy(0.01)},
	{"10 % lost", losing, lossy(0.10)},
	{"40 % lost", losing, lossy(0.40)},
	{"ended early", losing, fixed(func(f []capture.Frame) []capture.Frame { return f[:len(f)*2/3] })},
	{"high-entropy bodies", ofClear, noisy},
	{"IPsec that only signs", ofClear, fixed(nullESP(true, false))},
	{"the same without a tunnel", ofClear, fixed(nullESP(false, false))},
	{"the same in UDP", ofClear, fixed(nullESP(true, true))},
}

// reordered lets a packet come up to 4 places late.
func reordered(frames []capture.Frame, chance *rand.Rand) []capture.Frame {
	const reach = 4
	type placed struct {
		at int
		capture.Frame
	}
	all := make([]placed, len(frames))
	for i, f := range frames {
		all[i] = placed{i + chance.IntN(reach), f}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.at - b.at })
	out := make([]capture.Frame, len(frames))
	for i, p := range all {
		out[i] = p.Frame
		out[i].Time = frames[i].Time // clocks do not run backwards
	}
	return out
}

// duplicated repeats every third packet, some of them later.
func duplicated(frames []capture.Frame, chance *rand.Rand) []capture.Frame {
	var all, late []capture.Frame
	for _, f := range frames {
		all = append(all, f)
		switch chance.IntN(6) {
		case 0:
			all = append(all, f)
		case 1:
			late = append(late, f)
		}
		if len(late) > 2 {
			all, late = append(all, late[0]), late[1:]
		}
	}
	return all
}

// snapped keeps the first bytes of each packet.
func snapped(n int) func([]capture.Frame) []capture.Frame {
	return func(frames []capture.Frame) []capture.Frame {
		all := slices.Clone(frames)
		for i := range all {
			all[i].Data = all[i].Data[:min(n, len(all[i].Data))]
		}
		return all
	}
}

// without loses everything of each flow before its packet n of those with
// payload, counted from 0.
func without(n int) func([]capture.Frame) []capture.Frame {
	return func(frames []capture.Frame) []capture.Frame {
		var all []capture.Frame
		said := map[ends]int{}
		for _, f := range frames {
			p := dissect(f.Data)
			before := said[p.flow()]
			if p.says() {
				said[p.flow()]++
			}
			if before > n || before == n && p.says() {
				all = append(all, f)
			}
		}
		return all
	}
}

// oneWay keeps what the client of each flow sent, or the server. The client is
// who speaks first.
func oneWay(client bool) func([]capture.Frame) []capture.Frame {
	return func(frames []capture.Frame) []capture.Frame {
		if len(frames) == 0 {
			return nil
		}
		first := dissect(frames[0].Data).src.Addr()
		var all []capture.Frame
		for _, f := range frames {
			if (dissect(f.Data).src.Addr() == first) == client {
				all = append(all, f)
			}
		}
		return all
	}
}

// lossy loses packets by chance.
func lossy(share float64) func([]capture.Frame, *rand.Rand) []capture.Frame {
	return func(frames []capture.Frame, chance *rand.Rand) []capture.Frame {
		return slices.DeleteFunc(slices.Clone(frames), func(capture.Frame) bool { return chance.Float64() < share })
	}
}

// noisy replaces the payload of every packet behind the first of each direction
// by random bytes.
func noisy(frames []capture.Frame, chance *rand.Rand) []capture.Frame {
	type half struct {
		ends
		forward bool
	}
	all, began := clone(frames), map[half]bool{}
	for i := range all {
		p := dissect(all[i].Data)
		if !p.says() {
			continue
		}
		h := half{p.flow(), p.src.Compare(p.dst) < 0}
		if began[h] {
			fill(all[i].Data[p.payload:p.end], chance)
		}
		began[h] = true
	}
	return all
}

func fill(b []byte, chance *rand.Rand) {
	for i := range b {
		b[i] = byte(chance.UintN(256))
	}
}

// readdressed moves a scene to addresses of its own, so that many fit into one
// file.
func readdressed(frames []capture.Frame, number int) []capture.Frame {
	all := clone(frames)
	for _, f := range all {
		p := dissect(f.Data)
		switch p.etherType {
		case typeIP4:
			ip := f.Data[ethernetHeader:]
			binary.BigEndian.PutUint16(ip[13:], uint16(number))
			binary.BigEndian.PutUint16(ip[17:], uint16(number))
			ip[10], ip[11] = 0, 0
			binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ip4Header]))
		case typeIP6:
			ip := f.Data[ethernetHeader:]
			binary.BigEndian.PutUint16(ip[10:], uint16(number))
			binary.BigEndian.PutUint16(ip[26:], uint16(number))
		}
	}
	return all
}
