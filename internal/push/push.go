// Package push turns the state of the mesh into what its proxies get, and holds
// what they report back:
//
//	platform.State ─ Compile ─▶ View ─ Hub ─▶ one Watch per proxy ─▶ proxies
//	                                                                    │
//	                                    Registry ◀── reports, leaves ───┘
//
// Compile is pure. The Hub keeps only the newest View: a watcher that is slow
// finds the newest when it comes back, and nothing is queued for it. The
// Registry is bounded and forgets proxies that have been gone for a while.
package push

import "sync"

// Hub holds the newest view and wakes those who wait for the next. It has one
// writer and any number of readers.
type Hub struct {
	mu   sync.Mutex // guards both
	view *View
	next chan struct{}
}

// NewHub makes a hub that holds no view yet.
func NewHub() *Hub { return &Hub{next: make(chan struct{})} }

// Publish makes v the newest view and wakes all watchers.
func (h *Hub) Publish(v *View) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view = v
	close(h.next)
	h.next = make(chan struct{})
}

// Load is the newest view, nil before the first, and a channel that is closed
// once there is a newer one.
func (h *Hub) Load() (*View, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.view, h.next
}
