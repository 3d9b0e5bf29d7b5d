// Package keylog keeps the session secrets of a proxy's own lanes, while the mesh
// allows it, and tells them to the user who runs the mesh. With them a capture of
// the lanes can be decrypted; nothing else here is as valuable to a thief.
//
//	handshake ──▶ Recorder ──▶ Keeper ──▶ Serve ◀── unix socket ── Ask
//	              until it     forgets    who asks: SO_PEERCRED;
//	              is a lane    all, once  each use is one log line
//	                           denied
//
// Secrets leave a proxy by that socket alone: no log line, no metric and no HTTP
// answer holds one. They are lines of NSS key log format.
package keylog

import (
	"slices"
	"sync"
)

// keepEnded is how many ended lanes' secrets are kept, so that whoever captures
// can ask a moment later: as many as a proxy lists.
const keepEnded = 512

// Random names a session: the random of its ClientHello, as on the wire.
type Random [32]byte

// Recorder gathers the secrets of one handshake. It is a tls.Config's
// KeyLogWriter.
type Recorder struct {
	mu    sync.Mutex
	lines []byte
}

// Write takes one line.
func (r *Recorder) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line...)
	return len(line), nil
}

// take is what was gathered, which the recorder then no longer holds.
func (r *Recorder) take() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// Keeper keeps the secrets of lanes: of all that are open, and of the last that
// have ended. It keeps none while that is denied.
type Keeper struct {
	allowed func() bool

	mu       sync.Mutex // guards below; allowed is asked under it, so that nothing is kept after forgetting
	sessions map[Random]*session
	ended    []Random // ring
	next     int
}

// session is the secrets of one lane.
type session struct {
	lines []byte
	ended bool
}

// NewKeeper makes a keeper that asks allowed before anything is kept or told.
func NewKeeper(allowed func() bool) *Keeper {
	return &Keeper{allowed: allowed, sessions: map[Random]*session{}}
}

// Recorder is where a handshake about to begin leaves its secrets, nil while that
// is denied.
func (k *Keeper) Recorder() *Recorder {
	if !k.allowed() {
		return nil
	}
	return &Recorder{}
}

// Keep keeps what a handshake has left, now that it is a lane. Fails closed: what
// was denied meanwhile is dropped.
func (k *Keeper) Keep(name Random, r *Recorder) {
	if r == nil {
		return
	}
	lines := r.take()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.allowed() {
		clear(lines)
		return
	}
	k.sessions[name] = &session{lines: lines}
}

// End notes that a lane has ended: the oldest ended one is forgotten for it.
func (k *Keeper) End(name Random) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.sessions[name]
	if s == nil || s.ended {
		return
	}
	s.ended = true
	if len(k.ended) < keepEnded {
		k.ended = append(k.ended, name)
		return
	}
	k.forgetLocked(k.ended[k.next])
	k.ended[k.next] = name
	k.next = (k.next + 1) % keepEnded
}

// Review forgets everything if keeping is denied now.
func (k *Keeper) Review() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reviewLocked()
}

func (k *Keeper) reviewLocked() (allowed bool) {
	if k.allowed() {
		return true
	}
	for name := range k.sessions {
		k.forgetLocked(name)
	}
	k.ended, k.next = nil, 0
	return false
}

func (k *Keeper) forgetLocked(name Random) {
	if s := k.sessions[name]; s != nil {
		clear(s.lines)
		delete(k.sessions, name)
	}
}

// Tell is the key log of the sessions named, as far as they are kept, or of all if
// none is named; and how many that are. It is not allowed if keeping is denied now.
func (k *Keeper) Tell(sessions []Random) (text []byte, count int, allowed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.reviewLocked() {
		return nil, 0, false
	}
	if len(sessions) == 0 {
		for name := range k.sessions {
			sessions = append(sessions, name)
		}
	}
	slices.SortFunc(sessions, func(a, b Random) int { return slices.Compare(a[:], b[:]) })
	for _, name := range slices.Compact(sessions) {
		if s := k.sessions[name]; s != nil {
			text = append(text, s.lines...)
			count++
		}
	}
	return text, count, true
}
