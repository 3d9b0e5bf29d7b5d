package redirect

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// InNamespace runs fn with its thread in the network namespace at path, such as
// /run/netns/web; an empty path is the caller's own. Sockets that fn opens stay
// in the namespace; goroutines that it starts are not in it. The thread is used
// for nothing else and ends with fn, so that no other code can find itself in
// the wrong namespace.
func InNamespace(path string, fn func() error) error {
	if path == "" {
		return fn()
	}
	result := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with its goroutine.
		runtime.LockOSThread()
		err := errors.New("ended early") // by runtime.Goexit, as tests do
		defer func() { result <- err }()
		if err = Enter(path); err == nil {
			err = fn()
		}
	}()
	return <-result
}

// Enter moves the calling thread, which the caller has locked and gives up, into
// the network namespace at path.
func Enter(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}
