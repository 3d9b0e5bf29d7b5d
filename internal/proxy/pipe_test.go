package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/sock"
	"github.com/sealmesh/sealmesh/test/pki"
)

// tcpPair is the two ends of one TCP connection.
func tcpPair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l := listenTCP(t)
	near, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// lanePair is the two ends of a lane on which a stream has begun.
func lanePair(t *testing.T) (client, server *lane.Conn) {
	t.Helper()
	d := pki.New(t, "demo.local")
	near, far := tcpPair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	config := func(who string) mtls.Config {
		return mtls.Config{Leaf: d.Leaf(d.ID("shop", who)), Bundles: pki.Bundles(d), Protocols: []string{mtls.ALPN}}
	}
	shaken := make(chan error, 1)
	go func() {
		var err error
		server, err = lane.Server(ctx, far, config("web").TLS())
		shaken <- err
	}()
	client, err := lane.Client(ctx, near, config("curl").TLS())
	if err := errors.Join(err, <-shaken); err != nil {
		t.Fatal(err)
	}
	if err := client.Open(lane.Open{Destination: netip.MustParseAddrPort("10.0.0.2:80")}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	t.Cleanup(server.Close)
	return client, server
}

// A lane is ended while its stream waits for an application that takes nothing.
func TestAnApplicationThatTakesNothingHoldsNoEndedLane(t *testing.T) {
	client, server := lanePair(t)
	appEnd, app := tcpPair(t) // appEnd never reads
	conn, err := sock.New(app)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{Conn: client}
	var up, down counters
	done := make(chan error, 1)
	go func() {
		_, broken := l.carry(conn, &up.sent, &down.received)
		done <- broken
	}()
	// The server sends until everything between it and the application is full.
	full := make(chan struct{})
	go func() {
		defer close(full)
		buf := sock.Borrow()
		for server.Write(buf, 4*lane.MaxPayload) == nil {
		}
	}()
	untilStill(func() uint64 { return down.received.Load() })
	select {
	case err := <-done:
		t.Fatalf("the stream has ended by itself: %v", err)
	default:
	}
	l.end(&policy.Refusal{Reason: policy.ReasonDraining})
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the stream still waits for the application")
	}
	<-full
	_ = appEnd.Close()
}

// untilStill waits until a count has stopped growing for half a second.
func untilStill(count func() uint64) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for last := uint64(0); ; {
		<-tick.C
		now := count()
		if now == last && now > 0 {
			return
		}
		last = now
	}
}
