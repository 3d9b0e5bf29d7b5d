package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// Direction is seen from the workload.
type Direction string

// The two directions of a connection.
const (
	Outbound Direction = "outbound"
	Inbound  Direction = "inbound"
)

// Seal is how a connection is carried between the two machines.
type Seal string

// What a connection can be carried in.
const (
	SealNone      Seal = "none" // ended before it was carried at all
	SealMTLS      Seal = "mtls"
	SealPlaintext Seal = "plaintext"
)

// connection is one application connection, from its acceptance to its end. The
// goroutine that serves it owns the fields; others read what does not change, the
// atomic ones, and those set by carry.
type connection struct {
	direction Direction
	client    netip.AddrPort // who connected
	server    netip.AddrPort // where the client meant to go
	opened    time.Time
	bytes     counters

	carried atomic.Pointer[carriage]

	refusal *policy.Refusal // why it was refused or cut
	err     error           // how it ended, if it failed
}

// carriage is how a connection is carried, once that is decided.
type carriage struct {
	seal Seal
	peer id.Identity
	link *link          // nil for plaintext
	to   netip.AddrPort // where an outbound connection was led
	// judge and cut serve plaintext connections, which no lane answers for: judge
	// says whether they still pass, cut ends them.
	judge func(*snapshot.Snapshot) *policy.Refusal
	cut   func()
	ended atomic.Pointer[policy.Refusal] // why it was cut
}

// seal is how the connection is, or was, carried.
func (c *connection) seal() Seal {
	if by := c.carried.Load(); by != nil {
		return by.seal
	}
	return SealNone
}

// fail notes why a connection ended: an error that is a refusal explains itself.
func (c *connection) fail(err error) {
	if refusal, ok := errors.AsType[*policy.Refusal](err); ok {
		c.refusal = refusal
		return
	}
	c.err = err
}

// judgePlaintext cuts a plaintext connection that a new snapshot does not admit.
func (c *connection) judgePlaintext(s *snapshot.Snapshot) {
	by := c.carried.Load()
	if by == nil || by.judge == nil {
		return
	}
	if r := by.judge(s); r != nil && by.ended.CompareAndSwap(nil, r) {
		by.cut()
	}
}

// link is one lane as the proxy keeps it.
type link struct {
	*lane.Conn
	role    Direction        // outbound: we are its client
	to      destination      // what it leads to, if we are its client
	peer    id.Identity      // who is at the other end
	leaf    *tls.Certificate // our own certificate on it
	opened  time.Time
	expires time.Time     // when the first of the two leaves ends
	streams atomic.Uint64 // begun so far
	busy    atomic.Bool   // carries a stream
	drained atomic.Bool   // takes no further stream
	ended   atomic.Pointer[policy.Refusal]
	app     atomic.Pointer[sock.Conn] // the application's end of the stream it carries
	idleAt  time.Time                 // since when, owned by the pool
}

// destination is what idle lanes are found by.
type destination struct {
	address  netip.AddrPort
	identity id.Identity
}

func newLink(conn *lane.Conn, role Direction, peer id.Identity, leaf *tls.Certificate) *link {
	return &link{
		Conn: conn, role: role, peer: peer, leaf: leaf,
		opened:  time.Now(),
		expires: mtls.LeafExpiry(leaf.Leaf, conn.Info().PeerChain[0]),
	}
}

// end closes the lane, and resets the application's end of the stream on it, for a
// reason. An application that takes nothing more would hold the stream otherwise.
func (l *link) end(r *policy.Refusal) {
	if !l.ended.CompareAndSwap(nil, r) {
		return
	}
	l.Close()
	if app := l.app.Load(); app != nil {
		app.Abort()
	}
}

// carry carries the stream that was begun between the lane and an application.
func (l *link) carry(app *sock.Conn, up, down *atomic.Uint64) (reset error, broken error) {
	l.app.Store(app)
	defer l.app.Store(nil)
	if l.ended.Load() != nil { // before end could see app
		app.Abort()
	}
	return carrySealed(app, l.Conn, up, down)
}

// apply ends a lane that may not go on under a new snapshot. One that shows our
// old certificate takes no further stream, so that the next gets the new one.
func (l *link) apply(s *snapshot.Snapshot, now time.Time) {
	if r := l.judge(s, now); r != nil {
		l.end(r)
	} else if l.role == Inbound && l.leaf != s.Leaf && l.drained.CompareAndSwap(false, true) {
		go func() { _ = l.Drain() }()
	}
}

// judge says whether a lane may go on under a new snapshot: the peer's
// certificate still verifies, its identity is still admitted, and it is still the
// one expected at the destination.
func (l *link) judge(s *snapshot.Snapshot, now time.Time) *policy.Refusal {
	if !now.Before(l.expires) {
		return refuse(policy.ReasonUntrusted, l.peer.String(), "a certificate of the lane has expired")
	}
	if _, err := mtls.Verify(l.Info().PeerChain, s.Bundles, now); err != nil {
		var r *policy.Refusal
		errors.As(err, &r)
		return r
	}
	if l.role == Outbound {
		if e, known := s.Endpoint(l.to.address); !known || e.Identity != l.to.identity {
			return refuse(policy.ReasonWrongIdentity, l.peer.String(), "it is no longer expected at "+l.to.address.String())
		}
	}
	return decidePeer(s, l.peer)
}
