// Package promises tests what Sealmesh promises, one file each, named for the
// promise. Everything in them is real: the two programs as a user runs them, the
// kernel's own network, programs of others, and tcpdump and tshark, which know
// nothing of us, as the judges of what was on the wire.
//
//	    node n1                                      node n2
//	┌──────────────────┐      capture: uplink    ┌──────────────────┐
//	│ sender  10.77.1.11 ────────── eth0 ──────────── receiver 10.77.2.11
//	│ stranger …       │                         │ …                │
//	└──────────────────┘                         └──────────────────┘
//	            one `sealmesh up -f mesh/` seals the workloads of both
//
// Each protection stands beside its broken twin: the same experiment without it
// must show the secret, or it would prove nothing.
//
// The harness:
//
//	harness_test.go   builds the programs, and waits for what is to come
//	mesh_test.go      a lab, a directory of objects, a running `sealmesh up`
//	logs_test.go      what it and its proxies say, line by line
//	objects_test.go   editing the directory, until all proxies have taken it
//	admin_test.go     metrics and connections of a proxy
//	wire_test.go      captures, and the verdict of tshark
//	apps_test.go      programs at both ends
package promises
