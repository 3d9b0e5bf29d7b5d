package promises

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// How much one connection carries, and how many are idle at once. The race
// detector makes everything slow.
var (
	bulk = flag.Int64("bulk", pick(1<<30, 200<<20), "bytes, each way, that TestOneConnectionOfManyBytes carries")
	idle = flag.Int("idle", int(pick(2000, 400)), "connections that TestIdleConnectionsAllAnswer holds")
)

// pick chooses by whether the race detector is on.
func pick(plain, withRace int64) int64 {
	if raced {
		return withRace
	}
	return plain
}

// One connection carries as much as anybody wants, both ways at once, and every
// byte of it (go test ./test/promises -bulk 10000000000 is 10 GB).
//
//	sender ══ 1 GB ══▶ receiver
//	       ◀══ 1 GB ══
func TestOneConnectionOfManyBytes(t *testing.T) {
	m := startMesh(t)
	served := make(chan error, 1)
	serve(t, m.Receiver, appPort, func(c *net.TCPConn) { served <- bothWays(c, 2, 1) })
	c := dial(t, m.Sender, at(m.Receiver, appPort))
	must(t, bothWays(c, 1, 2))
	must(t, <-served)
	for _, l := range connections(t, m.Sender).Lanes {
		if l.Sent < uint64(*bulk) || l.Received < uint64(*bulk) {
			t.Errorf("the lane carried %d and %d bytes", l.Sent, l.Received)
		}
	}
}

// bothWays sends the bytes of one seed, and wants those of another, to the end.
func bothWays(c *net.TCPConn, ours, theirs uint64) error {
	_ = c.SetDeadline(time.Time{}) // how long it takes is anybody's choice
	var sending sync.WaitGroup
	var sent error
	sending.Go(func() {
		if _, sent = io.CopyN(c, rand.NewChaCha8(seed(ours)), *bulk); sent == nil {
			sent = c.CloseWrite()
		}
	})
	got, expected := sha256.New(), sha256.New()
	n, err := io.Copy(got, c)
	sending.Wait()
	if err != nil || sent != nil {
		return fmt.Errorf("received %d bytes: %w, sent: %w", n, err, sent)
	}
	_, _ = io.CopyN(expected, rand.NewChaCha8(seed(theirs)), *bulk)
	return same(n, got, expected)
}

func same(n int64, got, expected hash.Hash) error {
	if n != *bulk || !bytes.Equal(got.Sum(nil), expected.Sum(nil)) {
		return fmt.Errorf("received %d bytes of %d, SHA-256 %x, must be %x", n, *bulk, got.Sum(nil), expected.Sum(nil))
	}
	return nil
}

func seed(n uint64) (s [32]byte) {
	binary.BigEndian.PutUint64(s[:], n)
	return s
}

// Thousands of connections on which nobody says anything stay, and then all
// answer.
func TestIdleConnectionsAllAnswer(t *testing.T) {
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	conns := make([]*net.TCPConn, *idle)
	each := func(what string, do func(i int) error) {
		var failed sync.Map
		var clients sync.WaitGroup
		const atOnce = 50
		for first := range atOnce {
			clients.Go(func() {
				for i := first; i < len(conns); i += atOnce {
					if err := do(i); err != nil {
						failed.Store(i, err)
					}
				}
			})
		}
		clients.Wait()
		failed.Range(func(i, err any) bool { t.Errorf("%s, connection %d: %v", what, i, err); return false })
	}
	talk := func(i int) error {
		text := fmt.Sprintf("I am %d", i)
		if _, err := io.WriteString(conns[i], text); err != nil {
			return err
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(conns[i], got); err != nil || string(got) != text {
			return fmt.Errorf("heard %q: %w", got, err)
		}
		return nil
	}
	each("begin", func(i int) (err error) {
		if conns[i], err = tryDial(t.Context(), m.Sender, at(m.Receiver, appPort)); err != nil {
			return err
		}
		t.Cleanup(func() { conns[i].Close() })
		return talk(i)
	})
	if t.Failed() {
		return
	}
	if n := len(connections(t, m.Receiver).Connections); n != len(conns) {
		t.Errorf("the receiver's proxy has %d connections, expected %d", n, len(conns))
	}
	each("after being idle", func(i int) error {
		_ = conns[i].SetDeadline(time.Now().Add(patience))
		return talk(i)
	})
}
