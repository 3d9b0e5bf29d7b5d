package lab

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// As is the same host for a user who is not root: sockets that are opened through
// it, and programs that are started, are that user's.
func (h *Host) As(uid uint32) *Host {
	other := *h
	other.uid = uid
	return &other
}

// asUser runs f on the calling thread, which the caller has locked, with what f
// opens owned by a user. The thread keeps all other privileges.
func asUser(uid uint32, f func() error) error {
	if uid == 0 {
		return f()
	}
	const ask = -1 // changes nothing
	root, err := unix.SetfsuidRetUid(int(uid))
	if err != nil {
		return fmt.Errorf("lab: user %d: %v", uid, err)
	}
	defer func() { _, _ = unix.SetfsuidRetUid(root) }()
	if now, err := unix.SetfsuidRetUid(ask); err != nil || now != int(uid) { // a refusal has no error number
		return fmt.Errorf("lab: user %d: not permitted", uid)
	}
	return f()
}
