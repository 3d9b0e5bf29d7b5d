package proxy

import (
	"sync"
)

// keepEnded is how many ended lanes are still listed, so that a verifier that
// looks a moment later can join them to what it saw.
const keepEnded = 512

// live is every connection and every lane there is, and the last that ended.
type live struct {
	mu          sync.Mutex
	count       uint64 // connections begun
	connections map[*connection]struct{}
	links       map[*link]struct{}
	ended       []LaneReport // ring
	next        int
	empty       chan struct{} // closed when no connection is left, see idle
}

func newLive() *live {
	return &live{connections: map[*connection]struct{}{}, links: map[*link]struct{}{}}
}

// add adds a connection and returns how much there is now, lanes included: a peer
// that opens lanes and no streams is bounded too.
func (v *live) add(c *connection) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.connections[c] = struct{}{}
	v.count++
	return len(v.connections) + len(v.links)
}

// begun is how many connections there have been.
func (v *live) begun() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.count
}

func (v *live) remove(c *connection) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.connections, c)
	v.notify()
}

func (v *live) addLink(l *link) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.links[l] = struct{}{}
}

// removeLink takes an ended lane off, and remembers it for a while.
func (v *live) removeLink(l *link, report LaneReport) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.links[l]; !ok {
		return
	}
	delete(v.links, l)
	if len(v.ended) < keepEnded {
		v.ended = append(v.ended, report)
	} else {
		v.ended[v.next] = report
		v.next = (v.next + 1) % keepEnded
	}
	v.notify()
}

// idle returns a channel that is closed once there is neither a connection nor a
// lane.
func (v *live) idle() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.empty == nil {
		v.empty = make(chan struct{})
	}
	empty := v.empty
	v.notify()
	return empty
}

func (v *live) notify() {
	if v.empty != nil && len(v.connections) == 0 && len(v.links) == 0 {
		close(v.empty)
		v.empty = nil
	}
}

// all copies out what there is, so that callers act without the lock.
func (v *live) all() (connections []*connection, links []*link) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.connections {
		connections = append(connections, c)
	}
	for l := range v.links {
		links = append(links, l)
	}
	return connections, links
}
