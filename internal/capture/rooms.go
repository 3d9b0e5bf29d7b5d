package capture

// rooms lends windows out and takes them back, so that a steady stream of flows
// needs no new memory.
type rooms struct {
	free [len(roomSizes)][][]byte
	// total bytes were made, and idle ones of them wait to be used again. What
	// waits is given up rather than that the total exceeds limit.
	total, idle, limit int64
}

// roomSizes are the sizes of windows: most flows say little.
var roomSizes = [...]int{256, 1 << 10, 4 << 10, Window, Window + manyDatagrams*datagramBytes}

// grow returns a window of length n with the content of b, which it takes back.
// What was not in b is not cleared.
func (r *rooms) grow(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	class := 0
	for class < len(roomSizes) && roomSizes[class] < n {
		class++
	}
	if class == len(roomSizes) { // of the few flows that Limits.Keep widens: not lent
		larger := append(make([]byte, 0, max(n, 2*cap(b))), b...)
		r.release(b)
		return larger[:n]
	}
	larger := r.take(class)
	copy(larger[:n], b)
	r.release(b)
	return larger[:n]
}

func (r *rooms) take(class int) []byte {
	size := int64(roomSizes[class])
	if free := r.free[class]; len(free) > 0 {
		r.free[class] = free[:len(free)-1]
		r.idle -= size
		return free[len(free)-1]
	}
	for r.idle > 0 && r.total+size > r.limit {
		r.drop()
	}
	r.total += size
	return make([]byte, size)
}

// drop gives up one of the windows of the size of which most bytes are idle.
func (r *rooms) drop() {
	most, bytes := 0, 0
	for class, free := range r.free {
		if n := len(free) * roomSizes[class]; n > bytes {
			most, bytes = class, n
		}
	}
	free := r.free[most]
	free[len(free)-1] = nil
	r.free[most] = free[:len(free)-1]
	r.total -= int64(roomSizes[most])
	r.idle -= int64(roomSizes[most])
}

// release takes a window back.
func (r *rooms) release(b []byte) {
	for class, size := range roomSizes {
		if cap(b) == size {
			r.free[class] = append(r.free[class], b[:0])
			r.idle += int64(size)
		}
	}
}
