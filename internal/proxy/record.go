package proxy

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/sealmesh/sealmesh/internal/keylog"
	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
	"github.com/sealmesh/sealmesh/internal/sock"
)

func now() time.Time { return time.Now() }

// begin notes a connection that was accepted. The second result is nil, and the
// connection closed, if it may not be served at all.
func (p *Proxy) begin(d Direction, tcp *net.TCPConn) (*connection, *sock.Conn) {
	c := &connection{
		direction: d,
		client:    sock.AddrPort(tcp.RemoteAddr()),
		server:    sock.AddrPort(tcp.LocalAddr()),
		opened:    now(),
	}
	conn, err := sock.New(tcp)
	if err != nil {
		_ = tcp.Close()
		return nil, nil
	}
	open := p.live.add(c)
	switch port := c.server.Port(); {
	case port == p.own[0] || port == p.own[1]:
		// Not redirected but made to the proxy itself: it would connect in circles.
		c.refusal = refuse(policy.ReasonWrongDestination, c.client.String(), "the port is the proxy's own")
	case open > p.MaxConnections:
		c.refusal = refuse(policy.ReasonOverload, c.client.String(), "too many connections")
	default:
		return c, conn
	}
	conn.Abort()
	p.record(c)
	return nil, nil
}

// beginStream notes a connection that arrived on a lane.
func (p *Proxy) beginStream(l *link, open lane.Open) *connection {
	c := &connection{
		direction: Inbound,
		client:    l.Info().Remote,
		server:    open.Destination,
		opened:    now(),
	}
	p.live.add(c)
	p.carry(c, &carriage{seal: SealMTLS, peer: l.peer, link: l})
	return c
}

// carry notes how a connection is carried. From here on sweeps judge it; the one
// of a snapshot that came since it was decided may have missed it.
func (p *Proxy) carry(c *connection, by *carriage) {
	c.carried.Store(by)
	c.judgePlaintext(p.Snapshots.Load())
	if by.link != nil {
		by.link.busy.Store(true)
	}
	p.edges.begin(c)
	p.Metrics.begin(c)
}

// record ends a connection: one log line, one edge, one set of metrics.
func (p *Proxy) record(c *connection) {
	p.live.remove(c)
	by := c.carried.Load()
	if by != nil {
		if cut := by.ended.Load(); cut != nil {
			c.refusal = cut
		}
		if by.link != nil {
			by.link.busy.Store(false)
		}
	}
	p.edges.end(c)
	p.Metrics.end(c)
	level, attrs := c.describe()
	p.Log.LogAttrs(nil, level, "connection", attrs...) //nolint:staticcheck // no context carries values here
}

// describe is the log line of a connection.
func (c *connection) describe() (slog.Level, []slog.Attr) {
	level := slog.LevelInfo
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String(obs.KeyDirection, string(c.direction)),
		slog.String(obs.KeyClient, c.client.String()),
		slog.String(obs.KeyServer, c.server.String()),
		slog.String(obs.KeySeal, string(c.seal())),
	)
	if by := c.carried.Load(); by != nil && !by.peer.IsZero() {
		attrs = append(attrs, slog.String(obs.KeyPeer, by.peer.String()))
	}
	attrs = append(attrs,
		slog.Uint64(obs.KeySent, c.bytes.sent.Load()),
		slog.Uint64(obs.KeyReceived, c.bytes.received.Load()),
		slog.Duration(obs.KeyDuration, time.Since(c.opened)),
	)
	switch {
	case c.refusal != nil:
		level = slog.LevelWarn
		attrs = append(attrs, slog.String(obs.KeyReason, string(c.refusal.Reason)),
			slog.String(obs.KeyDetail, c.refusal.Error()))
	case c.err != nil && !errors.Is(c.err, net.ErrClosed):
		attrs = append(attrs, slog.String(obs.KeyError, c.err.Error()))
	}
	return level, attrs
}

// secretsOf has a handshake leave its secrets, if the snapshot it is judged by and
// the one in force allow that; nil if not.
func (p *Proxy) secretsOf(under *snapshot.Snapshot, config *mtls.Config) *keylog.Recorder {
	if !under.KeyLog {
		return nil
	}
	r := p.secrets.Recorder()
	if r != nil {
		config.KeyLog = r
	}
	return r
}

// Secrets keeps the session secrets of the proxy's lanes, while the mesh allows it.
func (p *Proxy) Secrets() *keylog.Keeper { return p.secrets }

// openLink notes a lane that was made under a snapshot. From here on sweeps judge
// it; the one of a snapshot that came since may have missed it.
func (p *Proxy) openLink(l *link, under *snapshot.Snapshot) {
	p.live.addLink(l)
	if s := p.Snapshots.Load(); s != under {
		l.apply(s, now())
	}
}

// retire ends an idle lane in order.
func (p *Proxy) retire(l *link) {
	l.Shutdown()
	p.closeLink(l)
}

// closeLink ends a lane and notes that it has ended.
func (p *Proxy) closeLink(l *link) {
	l.Close()
	p.live.removeLink(l, l.report(now()))
	p.secrets.End(l.Info().HelloRandom)
}
