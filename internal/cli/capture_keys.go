package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture/pcapng"
)

// askKeys returns the key log of those TLS sessions that it knows, in the format
// of NSS. Sessions are named by the randoms of their ClientHellos, in hex.
type askKeys func(ctx context.Context, randoms []string) (keyLog []byte, err error)

// keyring puts the keys of sessions into a file before their packets: readers
// decrypt with what they have met so far. Packets wait for keys a while.
//
//	packet ──► held, 750 ms ──► file
//	   └─► random of a session ──► asked for every 250 ms, for 2 s ──► file, at once
type keyring struct {
	ask    askKeys
	ctx    context.Context
	file   *pcapng.File
	wanted map[string]time.Time // randoms, and since when
	asked  time.Time
	held   []heldPacket
	size   int // bytes of them
	found  int // sessions
}

// heldPacket is a packet that waits, with bytes of its own.
type heldPacket struct {
	pcapng.Packet
	since time.Time
}

// Bounds of waiting.
const (
	keysEvery    = 250 * time.Millisecond
	keysHold     = 3 * keysEvery
	keysPatience = 2 * time.Second
	keysHeld     = 64 << 20 // bytes of packets, beyond which they go into the file without
	keysAtOnce   = 4 << 10  // sessions
)

// want notes a session whose keys are to be found.
func (k *keyring) want(random string) {
	if random != "" && len(k.wanted) < keysAtOnce {
		k.wanted[random] = time.Now()
	}
}

// packet takes a packet for the file.
func (k *keyring) packet(p *pcapng.Packet) error {
	own := *p
	own.Data = bytes.Clone(p.Data)
	k.held = append(k.held, heldPacket{own, time.Now()})
	k.size += len(own.Data)
	return k.turn()
}

// turn asks if it is time, and lets go of packets that have waited.
func (k *keyring) turn() error {
	now := time.Now()
	if now.Sub(k.asked) >= keysEvery {
		if err := k.collect(now); err != nil {
			return err
		}
	}
	return k.release(func(p heldPacket) bool { return now.Sub(p.since) < keysHold && k.size < keysHeld })
}

// collect asks for the keys that are wanted.
func (k *keyring) collect(now time.Time) error {
	k.asked = now
	if len(k.wanted) == 0 {
		return nil
	}
	var randoms []string
	for random := range k.wanted {
		randoms = append(randoms, random)
	}
	slices.Sort(randoms)
	keyLog, err := k.ask(k.ctx, randoms)
	if err != nil {
		return err
	}
	before := k.found
	for line := range bytes.Lines(keyLog) { // label, random, secret
		if fields := bytes.Fields(line); len(fields) == 3 {
			if _, ok := k.wanted[string(fields[1])]; ok {
				k.found++
				delete(k.wanted, string(fields[1]))
			}
		}
	}
	for random, since := range k.wanted {
		if now.Sub(since) > keysPatience {
			delete(k.wanted, random) // a session of others
		}
	}
	if len(keyLog) == 0 {
		return nil
	}
	if n := k.found - before; n > 0 && len(k.held) > 0 {
		p := &k.held[0]
		p.Comment = strings.TrimPrefix(p.Comment+"\nsealmesh: "+embedded(n), "\n")
	}
	return k.file.Secrets(keyLog)
}

// release writes packets up to the first that must still wait.
func (k *keyring) release(wait func(heldPacket) bool) error {
	for len(k.held) > 0 && !wait(k.held[0]) {
		p := k.held[0]
		k.held = k.held[1:]
		k.size -= len(p.Data)
		if err := k.file.Packet(&p.Packet); err != nil {
			return err
		}
	}
	return nil
}

// end asks a last time and writes all that waits.
func (k *keyring) end() error {
	if err := k.collect(time.Now()); err != nil {
		return err
	}
	return k.release(func(heldPacket) bool { return false })
}
