package sock

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls on non-blocking sockets. They return at once, so Go's scheduler
// need not be told: RawSyscall keeps the processor. Told, its monitor takes the
// processor away from calls of more than 20 µs, which a write through the whole
// network stack is, and wakes threads all the time; docs/performance.md has the
// figures.

// read and write are recv(2) and send(2), which go to the socket without passing
// the file system's layer.

func read(fd uintptr, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	return result(n, e)
}

func write(fd uintptr, b []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return result(n, e)
}

func readv(fd uintptr, v []unix.Iovec) (int, error) {
	n, _, e := syscall.RawSyscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(v))), uintptr(len(v)))
	return result(n, e)
}

func result(n uintptr, e syscall.Errno) (int, error) {
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
