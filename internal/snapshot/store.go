package snapshot

import (
	"sync"
	"sync/atomic"
)

// Store holds the current snapshot behind one atomic pointer.
type Store struct {
	current atomic.Pointer[Snapshot]

	mu      sync.Mutex // guards changed
	changed chan struct{}
}

// NewStore makes a store that holds an empty snapshot: no identity, strict both
// ways, so whatever asks before the first Publish is refused.
func NewStore() *Store {
	st := &Store{changed: make(chan struct{})}
	st.current.Store(&Snapshot{})
	return st
}

// Load is the current snapshot, never nil.
func (st *Store) Load() *Snapshot { return st.current.Load() }

// Publish makes s the current snapshot and wakes everyone who waits on Changed.
func (st *Store) Publish(s *Snapshot) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.current.Store(s)
	close(st.changed)
	st.changed = make(chan struct{})
}

// Changed is closed at the next Publish. Take it before Load so that no change
// is missed.
func (st *Store) Changed() <-chan struct{} {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.changed
}
