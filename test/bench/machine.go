package main

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fact is one line of what a reader needs to know of the machine.
type fact struct{ name, value string }

// describeMachine tells hardware, kernel and the versions of what is compared.
func describeMachine(ctx context.Context) []fact {
	facts := []fact{
		{"processor", cpuModel() + ", " + strconv.Itoa(runtime.NumCPU()) + " cores seen"},
		{"memory", memorySize()},
		{"kernel", kernelRelease()},
		{"Go", runtime.Version()},
	}
	for _, v := range []struct {
		name, program, flag string
		version             *regexp.Regexp
	}{
		{"haproxy", "haproxy", "-v", regexp.MustCompile(`version (\S+)`)},
		{"nginx", "nginx", "-v", regexp.MustCompile(`nginx/(\S+)`)},
		{"OpenSSL of both", "openssl", "version", regexp.MustCompile(`^OpenSSL (\S+)`)},
	} {
		facts = append(facts, fact{v.name, programVersion(ctx, v.program, v.flag, v.version)})
	}
	return facts
}

const unknown = "unknown"

// cpuModel is the name of the first processor.
func cpuModel() string {
	content, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	model := regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`).FindSubmatch(content)
	if model == nil {
		return runtime.GOARCH
	}
	return string(model[1])
}

// memorySize is the memory of the machine.
func memorySize() string {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return unknown
	}
	return strconv.FormatUint(info.Totalram*uint64(info.Unit)/1e9, 10) + " GB"
}

// kernelRelease is what uname -r prints.
func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return unknown
	}
	return "Linux " + unix.ByteSliceToString(name.Release[:])
}

// programVersion is the first group of pattern in what the program says of itself.
func programVersion(ctx context.Context, program, flag string, pattern *regexp.Regexp) string {
	path, err := find(program)
	if err != nil {
		return "not installed"
	}
	output, err := exec.CommandContext(ctx, path, flag).CombinedOutput()
	if err != nil {
		return unknown
	}
	version := pattern.FindStringSubmatch(strings.TrimSpace(string(output)))
	if version == nil {
		return unknown
	}
	return version[1]
}
