// Package load is the benchmark's own traffic: a server, and a client with five
// kinds of load. Both are one thread over one epoll instance, because the two
// cores of a small machine are shared with the proxies that are to be measured:
// what the generator takes, the proxies lack.
//
//	harness ──stdin──▶ client ══ connections ══▶ proxies ══▶ server ◀──stdin── harness
//	        ◀─stdout──   one JSON line per "begin" and "end"    ──stdout──▶
//
// A process first prints "ready" (every connection it needs is open), answers
// "begin" by resetting its counters and "end" by printing a Report, and stops
// when its standard input is closed. Any connection that fails ends the client
// with an error: a figure with failures in it is not a figure.
//
// The first byte a client sends says what the server does with the connection:
// swallow (Bulk), echo (Requests, Paced, Idle), or echo one message and close
// (Connections). The server closes first, as most servers of short
// connections do, so the client's port is free again at once and TIME_WAIT
// stays where it holds nothing back.
package load

import "time"

// MessageSize is the length of one request and of one reply, in bytes.
const MessageSize = 64

// Kind names a kind of load.
type Kind string

// The kinds of load.
const (
	// Bulk sends as much as the connections take.
	Bulk Kind = "bulk"
	// Requests sends a message on each connection as soon as the last reply is there.
	Requests Kind = "requests"
	// Paced sends messages at a fixed rate, whether or not replies keep up.
	Paced Kind = "paced"
	// Connections opens, sends one message, reads the reply and the end, closes.
	Connections Kind = "connections"
	// Idle opens connections, sends one message on each, and holds them.
	Idle Kind = "idle"
)

// Kinds are all kinds of load.
var Kinds = []Kind{Bulk, Requests, Paced, Connections, Idle}

// What the first byte of a connection asks of the server.
const (
	modeSwallow = 's'
	modeEcho    = 'e'
	modeOnce    = 'o'
)

// Report is what a client or a server saw between "begin" and "end".
type Report struct {
	// Elapsed is the time between the two, by the clock of the reporter.
	Elapsed time.Duration `json:"elapsed"`
	// CPU is what the reporting process used, user and system.
	CPU time.Duration `json:"cpu"`
	// Bytes were received by the server, or sent by a Bulk client.
	Bytes int64 `json:"bytes"`
	// Operations are replies received (Requests, Paced) or connections completed
	// (Connections). A server reports none.
	Operations int64 `json:"operations"`
	// P50 and P99 are latencies from the intended start (Paced only).
	P50 time.Duration `json:"p50"`
	P99 time.Duration `json:"p99"`
}
