package main

import (
	"math"
	"runtime"
	"time"

	"github.com/sealmesh/sealmesh/test/bench/load"
	"github.com/sealmesh/sealmesh/test/bench/usage"
)

// observation is everything that was seen of one system in one measurement.
type observation struct {
	client, server load.Report
	// proxies is the processor time of both proxies together.
	proxies time.Duration
	// machine is what all processors did in elapsed.
	machine usage.Machine
	elapsed time.Duration
	// proxied is false for direct: there is no proxy to tell anything of.
	proxied bool
	// idle and held are the memory of either proxy, before and with connections.
	idle, held [2]usage.Memory
}

// measurement is one kind of load and the figures read from it.
type measurement struct {
	name    string
	plan    load.Plan
	figures []figure
}

// figure is one row of the table.
type figure struct {
	title, unit    string
	digits         int
	higherIsBetter bool
	target         target
	value          func(o observation) float64
}

// target is what sealmesh is to reach.
type target struct {
	kind  targetKind
	value float64
	// aim is further than the target, zero if there is none.
	aim float64
}

// targetKind says what a target's value is compared with.
type targetKind uint8

const (
	// noTarget: the figure is only told.
	noTarget targetKind = iota
	// ofBetterPeer: a multiple of the better one of haproxy and nginx.
	ofBetterPeer
	// atMost: a limit of its own.
	atMost
)

// heldConnections are open, and idle, while memory is read.
const heldConnections = 5000

// pacedRate is the fixed rate at which latency is measured, per second.
const pacedRate = 1500

// measurements in the order they are made. Memory is first: a proxy is idle in
// the sense of a fresh start only once.
var measurements = []measurement{
	{
		name: "memory",
		plan: load.Plan{Kind: load.Idle, Connections: heldConnections},
		figures: []figure{
			{title: "resident memory, idle, per proxy", unit: "MB", digits: 1, target: target{kind: atMost, value: 15}, value: idleMemory},
			{title: "  shared pages shared out (PSS)", unit: "MB", digits: 1, value: proportionalMemory},
			{title: "  more for each idle connection", unit: "KB", digits: 1, target: target{kind: atMost, value: 30}, value: memoryPerConnection},
		},
	},
	throughput("throughput1", "throughput, 1 stream", 1),
	throughput("throughput8", "throughput, 8 streams", 8),
	{
		name: "requests",
		plan: load.Plan{Kind: load.Requests, Connections: 32},
		figures: []figure{
			{title: "keep-alive requests", unit: "1/s", higherIsBetter: true, target: target{kind: ofBetterPeer, value: 1}, value: operationRate},
			{title: "  proxies' CPU per request", unit: "µs", digits: 1, value: cpuPerOperation},
		},
	},
	{
		name: "latency",
		plan: load.Plan{Kind: load.Paced, Connections: 32, Rate: pacedRate},
		figures: []figure{
			{title: "latency at 1,500 requests/s, p50", unit: "µs", value: func(o observation) float64 { return microseconds(o.client.P50) }},
			{title: "  p99", unit: "µs", target: target{kind: ofBetterPeer, value: 1}, value: func(o observation) float64 { return microseconds(o.client.P99) }},
			{title: "  proxies' CPU per request", unit: "µs", digits: 1, value: cpuPerOperation},
		},
	},
	{
		name: "conns",
		plan: load.Plan{Kind: load.Connections, Connections: 32},
		figures: []figure{
			{title: "new connections", unit: "1/s", higherIsBetter: true, target: target{kind: ofBetterPeer, value: 4, aim: 6}, value: operationRate},
			{title: "  proxies' CPU per connection", unit: "µs", digits: 1, value: cpuPerOperation},
		},
	},
}

// throughput is the measurement of a number of bulk streams.
func throughput(name, title string, streams int) measurement {
	return measurement{
		name: name,
		plan: load.Plan{Kind: load.Bulk, Connections: streams},
		figures: []figure{
			{title: title, unit: "Gbit/s", digits: 2, higherIsBetter: true, target: target{kind: ofBetterPeer, value: 1, aim: 1.3}, value: gigabits},
			{title: "  proxies' CPU per GB", unit: "s", digits: 3, target: target{kind: ofBetterPeer, value: 1, aim: 0.75}, value: cpuPerGigabyte},
		},
	}
}

// gigabits per second that arrived.
func gigabits(o observation) float64 {
	return float64(o.server.Bytes) * 8 / 1e9 / o.server.Elapsed.Seconds()
}

// cpuPerGigabyte is what both proxies used for each GB that arrived, in seconds.
func cpuPerGigabyte(o observation) float64 {
	if !o.proxied {
		return math.NaN()
	}
	return o.proxies.Seconds() / (float64(o.server.Bytes) / 1e9)
}

// operationRate is operations per second.
func operationRate(o observation) float64 {
	return float64(o.client.Operations) / o.client.Elapsed.Seconds()
}

// cpuPerOperation is what both proxies used for each operation, in microseconds.
func cpuPerOperation(o observation) float64 {
	if !o.proxied {
		return math.NaN()
	}
	return microseconds(o.proxies) / float64(o.client.Operations)
}

// idleMemory is the resident size of the larger proxy after its start, in MB.
func idleMemory(o observation) float64 {
	if !o.proxied {
		return math.NaN()
	}
	return float64(max(o.idle[0].Resident, o.idle[1].Resident)) / 1e6
}

// proportionalMemory is the proportional size of the larger proxy, in MB.
func proportionalMemory(o observation) float64 {
	if !o.proxied {
		return math.NaN()
	}
	return float64(max(o.idle[0].Proportional, o.idle[1].Proportional)) / 1e6
}

// memoryPerConnection is what the proxy that grew more has grown by with the
// held connections, for each of them, in KB.
func memoryPerConnection(o observation) float64 {
	if !o.proxied {
		return math.NaN()
	}
	grown := max(o.held[0].Resident-o.idle[0].Resident, o.held[1].Resident-o.idle[1].Resident)
	return float64(grown) / 1e3 / heldConnections
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// share is where the processors' time went during a measurement; the four add
// up to 1, but for the few milliseconds by which their windows differ.
type share struct {
	proxies, generator, idle float64
	// rest is the kernel's work that belongs to no process, and other programs.
	rest float64
}

// shareOf splits the time of all processors. Idle time is counted by the kernel
// to the microsecond, busy time by sampling: the former can be relied on.
func shareOf(o observation) share {
	whole := o.elapsed.Seconds() * float64(runtime.NumCPU())
	if whole <= 0 {
		return share{}
	}
	s := share{
		proxies:   o.proxies.Seconds() / whole,
		generator: (o.client.CPU + o.server.CPU).Seconds() / whole,
		idle:      o.machine.Idle.Seconds() / whole,
	}
	s.rest = max(0, 1-s.proxies-s.generator-s.idle)
	return s
}

// measurementNames are the values of -figures.
func measurementNames() (names []string) {
	for _, m := range measurements {
		names = append(names, m.name)
	}
	return names
}
