package proxy

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// serveOutbound carries one connection that the workload has made.
func (p *Proxy) serveOutbound(ctx context.Context, tcp *net.TCPConn) {
	c, app := p.begin(Outbound, tcp)
	if app == nil {
		return
	}
	defer p.record(c)
	app.Guard()
	snap := p.Snapshots.Load()
	way, refusal := decideOutbound(snap, c.server, p.pick)
	if refusal != nil {
		app.Abort()
		c.fail(refusal)
		return
	}
	if !way.sealed() {
		p.forwardPlain(ctx, c, app, way)
		return
	}
	l, err := p.lane(ctx, snap, way)
	if err != nil {
		app.Abort()
		c.fail(err)
		return
	}
	p.forwardSealed(c, app, l)
}

// lane finds an idle lane or makes one.
func (p *Proxy) lane(ctx context.Context, snap *snapshot.Snapshot, way route) (*link, error) {
	to := destination{way.to, way.identity}
	if l := p.pool.take(to, snap.Leaf); l != nil {
		p.Metrics.reused.Inc()
		return l, nil
	}
	return p.dialLane(ctx, snap, to)
}

// dialLane makes a lane: the peer proves the identity expected at the
// destination, and we prove ours.
func (p *Proxy) dialLane(ctx context.Context, snap *snapshot.Snapshot, to destination) (*link, error) {
	release, err := p.dialing.take(ctx, to.address.Addr())
	if err != nil {
		return nil, err
	}
	defer release()
	tcp, err := p.reach(ctx, func(ctx context.Context) (*net.TCPConn, error) { return p.dial.Lane(ctx, to.address) })
	if err != nil {
		return nil, unreachable(to.address.String(), err)
	}
	config := mtls.Config{
		Leaf:       snap.Leaf,
		Bundles:    snap.Bundles,
		Authorize:  mtls.Expect(to.identity),
		ServerName: to.identity.ServerName(),
		Protocols:  []string{mtls.ALPN},
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	secrets := p.secretsOf(snap, &config)
	done := p.Metrics.handshake(Outbound)
	conn, err := lane.Client(ctx, tcp, config.TLS())
	done(err)
	if err != nil {
		return nil, handshakeFailed(to.identity.String(), err)
	}
	l := newLink(conn, Outbound, to.identity, snap.Leaf)
	l.to = to
	p.secrets.Keep(l.Info().HelloRandom, secrets)
	p.openLink(l, snap)
	return l, nil
}

// forwardSealed carries a connection on a lane, and gives the lane back.
func (p *Proxy) forwardSealed(c *connection, app *sock.Conn, l *link) {
	p.carry(c, &carriage{seal: SealMTLS, peer: l.peer, link: l, to: l.to.address})
	// What the application has already said leaves together with OPEN. An end of
	// file is not news yet: a client that says nothing is a connection too, whose
	// end carrySealed reads again.
	buf, n, err := app.Receive(lane.HeaderLen, sock.NoWait)
	if err != nil && !errors.Is(err, sock.ErrWouldBlock) && !errors.Is(err, io.EOF) {
		app.Abort()
		p.release(l, nil) // nothing was begun on it
		c.fail(err)
		return
	}
	l.streams.Add(1)
	err = l.Open(lane.Open{Destination: l.to.address}, buf, n)
	sock.Return(buf)
	c.bytes.sent.Add(uint64(n))
	if err != nil {
		app.Abort()
		p.release(l, err)
		c.fail(outcome(l, nil, err))
		return
	}
	reset, broken := l.carry(app, &c.bytes.sent, &c.bytes.received)
	p.release(l, broken)
	c.fail(outcome(l, reset, broken))
}

// release gives an idle lane back to the pool, or ends a broken one.
func (p *Proxy) release(l *link, broken error) {
	if broken == nil && l.Ended() && l.ended.Load() == nil {
		p.pool.put(l, now())
		return
	}
	p.closeLink(l)
}

// forwardPlain carries a connection to a destination that is not sealed.
func (p *Proxy) forwardPlain(ctx context.Context, c *connection, app *sock.Conn, way route) {
	tcp, err := p.reach(ctx, func(ctx context.Context) (*net.TCPConn, error) { return p.dial.Lane(ctx, way.to) })
	if err != nil {
		app.Abort()
		c.fail(unreachable(way.to.String(), err))
		return
	}
	next, err := sock.New(tcp)
	if err != nil {
		app.Abort()
		c.fail(err)
		return
	}
	next.Guard()
	p.carry(c, plaintext(app, next, func(s *snapshot.Snapshot) *policy.Refusal {
		return decideUnsealed(s, way.to)
	}))
	c.fail(carryPlain(app, next, &c.bytes))
}

// plaintext is the carriage of a connection between two sockets, which is ended
// by resetting both once judge no longer admits it.
func plaintext(a, b *sock.Conn, judge func(*snapshot.Snapshot) *policy.Refusal) *carriage {
	return &carriage{seal: SealPlaintext, judge: judge, cut: func() {
		a.Abort()
		b.Abort()
	}}
}

func unreachable(peer string, err error) *policy.Refusal {
	if exhausted(err) {
		return refuse(policy.ReasonOverload, peer, err.Error())
	}
	return refuse(policy.ReasonUnreachable, peer, err.Error())
}

// handshakeFailed keeps a refusal of our own as it is, and says of anything else
// that the handshake failed.
func handshakeFailed(peer string, err error) error {
	if refusal, ok := errors.AsType[*policy.Refusal](err); ok {
		return refusal
	}
	if alert, ok := alertOf(err); ok {
		return refuse(policy.ReasonRefusedByPeer, peer, "peer ended the handshake: "+alert)
	}
	return refuse(policy.ReasonHandshake, peer, err.Error())
}

// alertOf is the TLS alert by which the peer ended a connection. crypto/tls has no
// type for it: tls.AlertError is of QUIC alone.
func alertOf(err error) (alert string, ok bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return "", false
	}
	return op.Err.Error(), true
}

// outcome explains how a stream ended: nil if in order.
func outcome(l *link, reset, broken error) error {
	if r := l.ended.Load(); r != nil && broken != nil {
		return r
	}
	var byPeer *lane.ResetError
	alert, alerted := alertOf(broken)
	switch {
	case errors.As(reset, &byPeer) && byPeer.Code == lane.CodeRefused:
		return refuse(policy.ReasonRefusedByPeer, l.peer.String(), "peer refused the stream")
	case errors.As(reset, &byPeer) && byPeer.Code == lane.CodeUnreachable:
		return refuse(policy.ReasonUnreachable, l.peer.String(), "peer could not reach the application")
	case alerted:
		// In TLS 1.3 a client learns only after its handshake that the server
		// does not accept its certificate.
		return refuse(policy.ReasonRefusedByPeer, l.peer.String(), "peer refused our certificate: "+alert)
	case lane.IsProtocolError(broken):
		return refuse(policy.ReasonProtocol, l.peer.String(), broken.Error())
	case broken != nil:
		return broken
	}
	return reset
}
