package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// serveInbound serves one connection made to the workload: a lane with its
// streams, or plaintext.
func (p *Proxy) serveInbound(ctx context.Context, tcp *net.TCPConn) {
	c, conn := p.begin(Inbound, tcp)
	if conn == nil {
		return
	}
	snap := p.Snapshots.Load()
	who := decideCaller(snap, c.client.Addr())
	sealed, refusal := p.seals(ctx, conn, c.client.Addr(), who, snap.Inbound)
	if refusal != nil {
		conn.Abort()
		c.fail(refusal)
		p.record(c)
		return
	}
	if !sealed {
		p.servePlain(ctx, snap, c, conn, who)
		return
	}
	l, err := p.acceptLane(ctx, snap, c, tcp, who)
	if err != nil {
		c.fail(err)
		p.record(c)
		return
	}
	p.live.remove(c) // a lane is no connection of its own: its streams are
	p.serveLane(ctx, l)
}

// seals says whether a caller speaks the wire of a lane. A known caller does by
// what it is, without waiting; an unknown one may speak first. Fails closed: who
// is wrongly taken to seal fails the handshake, and who is wrongly taken not to is
// refused under strict. Reading a hello is a part of a handshake, and takes its slot.
func (p *Proxy) seals(ctx context.Context, conn *sock.Conn, client netip.Addr, who caller, mode policy.Mode) (bool, *policy.Refusal) {
	if who != callerUnknown {
		return who == callerSealed, nil
	}
	patience := speakFirst
	if mode == policy.Strict {
		patience = handshakeTime // plaintext is refused anyway
	}
	var first [1]byte
	_ = conn.SetReadDeadline(now().Add(patience))
	n, err := conn.Peek(first[:], func([]byte) bool { return true })
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	if err != nil || n == 0 || first[0] != recordHandshake {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	release, err := p.accepting.take(ctx, client)
	if err != nil {
		return false, overloaded(client)
	}
	defer release()
	hello := make([]byte, maxHello)
	var protocols []string
	deadline, _ := ctx.Deadline() // the wait for its turn counts too
	_ = conn.SetReadDeadline(deadline)
	_, _ = conn.Peek(hello, func(b []byte) bool {
		offered, complete := helloProtocols(b)
		protocols = offered
		return complete
	})
	return slices.Contains(protocols, mtls.ALPN), nil
}

func overloaded(client netip.Addr) *policy.Refusal {
	return refuse(policy.ReasonOverload, client.String(), "too many handshakes under way")
}

const (
	// recordHandshake is the first byte of a TLS handshake record.
	recordHandshake = 22
	// maxHello is how much of a ClientHello is looked at: one record of full size.
	maxHello = 16<<10 + 5
)

// acceptLane performs the server's handshake.
func (p *Proxy) acceptLane(ctx context.Context, snap *snapshot.Snapshot, c *connection, tcp *net.TCPConn, who caller) (*link, error) {
	if snap.Leaf == nil {
		_ = tcp.Close()
		return nil, refuse(policy.ReasonNotReady, c.client.String(), "this proxy has no certificate yet")
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	release, err := p.accepting.take(ctx, c.client.Addr())
	if err != nil {
		_ = tcp.Close()
		return nil, overloaded(c.client.Addr())
	}
	defer release()
	config := mtls.Config{
		Leaf:    snap.Leaf,
		Bundles: snap.Bundles,
		Authorize: func(peer id.Identity) error {
			if r := decidePeer(snap, peer); r != nil {
				return r
			}
			return nil
		},
		Protocols: []string{mtls.ALPN},
	}
	secrets := p.secretsOf(snap, &config)
	done := p.Metrics.handshake(Inbound)
	conn, err := lane.Server(ctx, tcp, config.TLS())
	done(err)
	if err != nil {
		return nil, notSealed(c.client.String(), who, err)
	}
	peer, err := id.FromCertificate(conn.Info().PeerChain[0])
	if err != nil {
		conn.Close()
		return nil, err
	}
	l := newLink(conn, Inbound, peer, snap.Leaf)
	p.secrets.Keep(l.Info().HelloRandom, secrets)
	p.openLink(l, snap)
	return l, nil
}

// notSealed explains a failed handshake: a sealed workload that does not even
// speak TLS has lost its proxy.
func notSealed(client string, who caller, err error) error {
	var notTLS tls.RecordHeaderError
	if who == callerSealed && errors.As(err, &notTLS) {
		return refuse(policy.ReasonExpectedSeal, client, "a sealed workload connected without sealing")
	}
	return handshakeFailed(client, err)
}

// serveLane serves the streams of a lane, one after another, until it ends.
func (p *Proxy) serveLane(ctx context.Context, l *link) {
	defer p.closeLink(l)
	for {
		open, err := l.Accept()
		if err != nil {
			if lane.IsProtocolError(err) {
				p.Log.Warn("lane ended: peer broke the protocol", "peer", l.peer.String(), "error", err.Error())
			}
			return
		}
		l.streams.Add(1)
		l.busy.Store(true)
		usable := p.serveStream(ctx, l, open)
		l.busy.Store(false)
		if !usable {
			return
		}
	}
}

// serveStream carries one stream to the application. It reports whether the lane
// can be used again.
func (p *Proxy) serveStream(ctx context.Context, l *link, open lane.Open) bool {
	c := p.beginStream(l, open)
	defer p.record(c)
	snap := p.Snapshots.Load()
	if r := decideStream(snap, l.peer, l.Info().Local, open.Destination); r != nil {
		c.fail(r)
		return l.Reset(lane.CodeRefused) == nil && l.Discard(discardLimit) == nil
	}
	app, err := p.dialApp(ctx, c)
	if err != nil {
		c.fail(unreachable(c.server.String(), err))
		return l.Reset(lane.CodeUnreachable) == nil && l.Discard(discardLimit) == nil
	}
	reset, broken := l.carry(app, &c.bytes.received, &c.bytes.sent)
	c.fail(outcome(l, reset, broken))
	return broken == nil && l.Ended()
}

// servePlain carries a connection that is not sealed, if it may pass.
func (p *Proxy) servePlain(ctx context.Context, snap *snapshot.Snapshot, c *connection, conn *sock.Conn, who caller) {
	defer p.record(c)
	if r := decidePlaintext(snap, who, c.client); r != nil {
		conn.Abort()
		c.fail(r)
		return
	}
	conn.Guard()
	app, err := p.dialApp(ctx, c)
	if err != nil {
		conn.Abort()
		c.fail(unreachable(c.server.String(), err))
		return
	}
	p.carry(c, plaintext(conn, app, func(s *snapshot.Snapshot) *policy.Refusal {
		return decidePlaintext(s, decideCaller(s, c.client.Addr()), c.client)
	}))
	c.fail(carryPlain(conn, app, &c.bytes))
}

// dialApp reaches the application behind this proxy, from the client's address
// where that is allowed.
func (p *Proxy) dialApp(ctx context.Context, c *connection) (*sock.Conn, error) {
	tcp, err := p.reach(ctx, func(ctx context.Context) (*net.TCPConn, error) {
		return p.dial.App(ctx, c.client.Addr(), c.server)
	})
	if err != nil {
		return nil, err
	}
	app, err := sock.New(tcp)
	if err != nil {
		return nil, err
	}
	app.Guard()
	return app, nil
}

// errStop ends a handshake that was only begun to read its hello.
var errStop = errors.New("hello read")

// helloProtocols reads the ALPN names a ClientHello offers. complete is false
// while more of it must arrive. It lets crypto/tls parse, so that what it accepts
// is what a handshake would.
func helloProtocols(b []byte) (protocols []string, complete bool) {
	read := &readOnly{rest: b}
	err := tls.Server(read, mtls.Inspect(func(hello *tls.ClientHelloInfo) error {
		protocols = slices.Clone(hello.SupportedProtos)
		return errStop
	})).Handshake() //nolint:noctx // reads from memory and never waits
	return protocols, errors.Is(err, errStop) || !read.short
}

// readOnly is a connection that holds some bytes and swallows what is written.
type readOnly struct {
	net.Conn
	rest  []byte
	short bool // more was wanted than there is
}

func (r *readOnly) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		r.short = true
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *readOnly) Write(b []byte) (int, error)      { return len(b), nil }
func (r *readOnly) SetWriteDeadline(time.Time) error { return nil }
func (r *readOnly) Close() error                     { return nil }
