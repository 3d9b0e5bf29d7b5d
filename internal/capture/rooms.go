package capture

// rooms lends windows out and takes them back, so that a steady stream of flows
// needs no new memory.
type rooms struct {
	free [len(roomSizes)][][]byte
}

// roomSizes are the sizes of windows: most flows say little.
var roomSizes = [...]int{256, 1 << 10, 4 << 10, Window, Window + manyDatagrams*datagramBytes}

// freeRoom bounds the bytes of each size that wait to be used again.
const freeRoom = 2 << 20

// grow returns a window of length n with the content of b, which it takes back.
// What was not in b is not cleared.
func (r *rooms) grow(b []byte, n int) []byte {
	if n <= cap(b) {
		return b[:n]
	}
	class := 0
	for roomSizes[class] < n {
		class++
	}
	var larger []byte
	if free := r.free[class]; len(free) > 0 {
		larger, r.free[class] = free[len(free)-1], free[:len(free)-1]
	} else {
		larger = make([]byte, roomSizes[class])
	}
	copy(larger[:n], b)
	r.release(b)
	return larger[:n]
}

// release takes a window back.
func (r *rooms) release(b []byte) {
	for class, size := range roomSizes {
		if cap(b) == size && (len(r.free[class])+1)*size <= freeRoom {
			r.free[class] = append(r.free[class], b[:0])
		}
	}
}
