package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// netnsDir is where `ip netns` keeps the names of namespaces.
	netnsDir = "/run/netns"
	// ownersDir holds one file per lab: its name is the lab's prefix, its
	// content the owner's process number and start time. Processes get the
	// numbers of others that ended; with the start time they are unique.
	ownersDir = "/run/sealmesh-lab"
)

// shareMounts prepares netnsDir exactly as `ip netns add` does: shared with
// other mount namespaces, so that a name removed here is gone everywhere.
func shareMounts() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	dir, err := os.Open(netnsDir)
	if err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lab: lock %s: %v", netnsDir, err)
	}
	err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err = unix.Mount(netnsDir, netnsDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", netnsDir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("lab: share mounts below %s: %v", netnsDir, err)
	}
	return nil
}

// claim writes down that this process owns prefix. It does so before the first
// namespace exists and all at once, so that nothing is ever without an owner.
func claim(prefix string) error {
	if err := os.MkdirAll(ownersDir, 0o755); err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	pid := os.Getpid()
	start, err := startTime(pid)
	if err != nil {
		return fmt.Errorf("lab: own start time: %v", err)
	}
	draft := filepath.Join(ownersDir, "."+prefix)
	if err := os.WriteFile(draft, fmt.Appendf(nil, "%d %s\n", pid, start), 0o644); err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	if err := os.Rename(draft, filepath.Join(ownersDir, prefix)); err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	return nil
}

// sweep removes the labs whose owner is no more.
func sweep() error {
	owners, err := os.ReadDir(ownersDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	var errs []error
	for _, o := range owners {
		prefix := o.Name()
		if !strings.HasPrefix(prefix, "sm") {
			continue // a draft
		}
		content, err := os.ReadFile(filepath.Join(ownersDir, prefix))
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed, or swept by somebody else, meanwhile
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("lab: %v", err))
			continue
		}
		if !ownerLives(string(content)) {
			errs = append(errs, remove(prefix))
		}
	}
	return errors.Join(errs...)
}

// ownerLives reports whether the process that an owner's file names still runs.
func ownerLives(content string) bool {
	pid, start, _ := strings.Cut(strings.TrimSpace(content), " ")
	number, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	now, err := startTime(number)
	return err == nil && now == start
}

// startTime is when a process started, in clock ticks since boot: field 22 of
// its stat file (proc_pid_stat(5)), counted behind the name, which may hold
// anything.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	content := string(stat)
	fields := strings.Fields(content[strings.LastIndexByte(content, ')')+1:])
	const behindName = 22 - 3
	if len(fields) <= behindName {
		return "", fmt.Errorf("/proc/%d/stat: %d fields behind the name", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[behindName], nil
}

// remove deletes the namespaces of a prefix, ends the processes still in them,
// and gives up its claim. What is gone already is no error.
func remove(prefix string) error {
	paths, err := filepath.Glob(filepath.Join(netnsDir, prefix+"-*"))
	if err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	errs := []error{killInside(paths)}
	for _, path := range paths {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("lab: unmount %s: %v", path, err))
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("lab: %v", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(ownersDir, prefix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab: %v", err)
	}
	return nil
}

// killInside ends every process, other than this one, in one of the
// namespaces. They are ours: nobody else has a reason to be in there.
func killInside(paths []string) error {
	var inside []fs.FileInfo
	for _, path := range paths {
		if ns, err := os.Stat(path); err == nil { // else it was removed meanwhile
			inside = append(inside, ns)
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Errorf("lab: %v", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		own, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			continue // ended meanwhile
		}
		if slices.ContainsFunc(inside, func(ns fs.FileInfo) bool { return os.SameFile(ns, own) }) {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		}
	}
	return nil
}
