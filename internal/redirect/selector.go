package redirect

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

type kind uint8

const (
	everything kind = iota
	byUID
	byCgroup
)

// Selector says which processes of a namespace are a workload. The zero value
// is all of them.
type Selector struct {
	kind   kind
	uid    uint32
	cgroup string // path below the mount, without leading slash
	id     uint64 // of the cgroup, which a cgroup made anew does not share
}

// ByUID selects the processes of a user, by the user who opened the socket.
func ByUID(uid uint32) Selector { return Selector{kind: byUID, uid: uid} }

// ByCgroup selects the processes of a cgroup v2 and of those below it, by its
// path below the mount, such as system.slice/web.service. The cgroup must exist:
// the kernel matches the cgroup itself, so one that was made anew at the same
// path must be selected anew.
func ByCgroup(path string) (Selector, error) {
	mount, err := cgroupMount()
	if err != nil {
		return Selector{}, err
	}
	return byCgroupUnder(mount, path)
}

func byCgroupUnder(mount, path string) (Selector, error) {
	if path == "." || !filepath.IsLocal(path) || filepath.Clean(path) != path {
		return Selector{}, fmt.Errorf("cgroup %q: must be a path below %s, such as system.slice/web.service", path, mount)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(mount, path), &st); err != nil {
		return Selector{}, fmt.Errorf("cgroup %q below %s: %w", path, mount, err)
	}
	return Selector{kind: byCgroup, cgroup: path, id: st.Ino}, nil
}

// cgroupMount finds where cgroup v2 is mounted.
func cgroupMount() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if field := strings.Fields(lines.Text()); len(field) > 2 && field[2] == "cgroup2" {
			return field[1], nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted: select the workload by user instead")
}

// String is the selector for a person: "the whole namespace", "uid 1000" or
// "cgroup system.slice/web.service".
func (s Selector) String() string {
	switch s.kind {
	case byUID:
		return fmt.Sprintf("uid %d", s.uid)
	case byCgroup:
		return "cgroup " + s.cgroup
	}
	return "the whole namespace"
}

// match is the selector as a statement of the output hook.
func (s Selector) match() statement {
	switch s.kind {
	case byUID:
		return skuid("", cmpEq, s.uid)
	case byCgroup:
		return cgroup(s.cgroup, s.id)
	}
	return statement{}
}
