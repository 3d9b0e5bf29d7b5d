// Package usage reads what processes and the machine use: processor time to the
// nanosecond (the kernel's own clock of each process, not the ticks of
// /proc/PID/stat) and memory by its resident and its proportional size.
package usage

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree is pid and everything it started that is still alive, pid first.
func Tree(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, file := range stats {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended since
		}
		child, parent, err := parseStat(string(content))
		if err != nil {
			return nil, fmt.Errorf("%s: %v", file, err)
		}
		children[parent] = append(children[parent], child)
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// parseStat reads process and parent from a line of /proc/PID/stat. The name
// between them, in parentheses, may hold anything.
func parseStat(line string) (pid, parent int, err error) {
	open, closing := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || closing < open {
		return 0, 0, fmt.Errorf("no name in parentheses: %q", line)
	}
	fields := strings.Fields(line[closing+1:])
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("no parent: %q", line)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(line[:open])); err != nil {
		return 0, 0, fmt.Errorf("process: %v", err)
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return 0, 0, fmt.Errorf("parent: %v", err)
	}
	return pid, parent, nil
}

// CPU is what the processes have used since each began: user and system, all
// their threads, those that have ended too, but not other processes they started.
func CPU(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		// The clock of a process is its number, inverted, above three bits that
		// select it and the scheduler's count (clock_getcpuclockid(3)).
		const schedulerClock = 2
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid)<<3|schedulerClock, &ts); err != nil {
			return 0, fmt.Errorf("processor time of process %d: %v", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// Memory of processes, in bytes.
type Memory struct {
	// Resident counts every page that is in memory; shared ones once for each process.
	Resident int64
	// Proportional counts a page shared by n processes as 1/n.
	Proportional int64
}

// Sizes sums the memory of processes.
func Sizes(pids []int) (sum Memory, err error) {
	for _, pid := range pids {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return Memory{}, fmt.Errorf("memory of process %d: %v", pid, err)
		}
		m, err := parseRollup(content)
		if err != nil {
			return Memory{}, fmt.Errorf("memory of process %d: %v", pid, err)
		}
		sum.Resident += m.Resident
		sum.Proportional += m.Proportional
	}
	return sum, nil
}

// parseRollup reads the two lines of smaps_rollup that matter.
func parseRollup(content []byte) (m Memory, err error) {
	found := 0
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		var into *int64
		switch fields[0] {
		case "Rss:":
			into = &m.Resident
		case "Pss:":
			into = &m.Proportional
		default:
			continue
		}
		kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("%s %v", fields[0], err)
		}
		*into = kilobytes << 10
		found++
	}
	if found != 2 {
		return Memory{}, fmt.Errorf("smaps_rollup has %d of Rss and Pss", found)
	}
	return m, nil
}

// Machine is the time all processors together spent since boot.
type Machine struct {
	// Busy with anything, including work that could not be told apart from ours.
	Busy time.Duration
	// Idle, or waiting for a disk.
	Idle time.Duration
	// Stolen by other guests of the same host.
	Stolen time.Duration
}

// ReadMachine reads /proc/stat.
func ReadMachine() (Machine, error) {
	content, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, err
	}
	return parseMachine(string(content))
}

// parseMachine reads the first line of /proc/stat (proc_stat(5)): user nice
// system idle iowait irq softirq steal, in hundredths of a second.
func parseMachine(content string) (m Machine, err error) {
	const userHZ = 100
	line, _, _ := strings.Cut(content, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return Machine{}, fmt.Errorf("/proc/stat: unexpected first line %q", line)
	}
	for i, field := range fields[1:9] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return Machine{}, fmt.Errorf("/proc/stat: %v", err)
		}
		spent := time.Duration(ticks) * time.Second / userHZ
		switch i {
		case 3, 4:
			m.Idle += spent
		case 7:
			m.Stolen += spent
		default:
			m.Busy += spent
		}
	}
	return m, nil
}

// Sub is what was spent between earlier and m.
func (m Machine) Sub(earlier Machine) Machine {
	return Machine{Busy: m.Busy - earlier.Busy, Idle: m.Idle - earlier.Idle, Stolen: m.Stolen - earlier.Stolen}
}
