package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// appPort is where the server of every pair listens.
const appPort = 7000

// pair is one client workload and one server workload, on different nodes. Each
// system has a pair of its own, so that all of them can stay up for a round and
// be measured in turns of a few seconds.
type pair struct {
	client, server *lab.Workload
}

// system is one way to get from a client to a server.
type system interface {
	// name of the column.
	name() string
	// start brings the system up on a pair. It ends with ctx at the latest.
	start(ctx context.Context, p pair) (*deployment, error)
}

// deployment is a system that runs.
type deployment struct {
	// target is what the client connects to.
	target netip.AddrPort
	// client and server are the process numbers of the proxy at either end,
	// those of its children not included; zero if there is none.
	client, server int
	// failure says how a part of it has ended; nil while all of it runs.
	failure func() error
	// stop ends it and leaves nothing behind.
	stop func() error
}

// direct is no proxy at all: what the lab itself can do.
type direct struct{}

func (direct) name() string { return "direct" }

func (direct) start(_ context.Context, p pair) (*deployment, error) {
	nothing := func() error { return nil }
	return &deployment{target: netip.AddrPortFrom(p.server.Addr4, appPort), failure: nothing, stop: nothing}, nil
}

// upTime is how long a system may take until it carries a connection.
const upTime = 30 * time.Second

// awaitEcho tries until a message comes back through d.
func awaitEcho(ctx context.Context, p pair, d *deployment) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	for {
		err := echoOnce(ctx, p, d.target)
		if err == nil {
			return nil
		}
		if failure := d.failure(); failure != nil {
			return failure
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("no echo from %v within %v: %v", d.target, upTime, err)
		}
	}
}

// echoOnce sends one message and wants it back, and then the end of the stream.
func echoOnce(ctx context.Context, p pair, target netip.AddrPort) error {
	c, err := p.client.Dial(ctx, "tcp", target.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	message := bytes.Repeat([]byte("o"), 64)
	if _, err := c.Write(message); err != nil {
		return err
	}
	reply, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.Equal(reply, message) {
		return fmt.Errorf("echo of %d bytes is %d bytes, or others", len(message), len(reply))
	}
	return nil
}
