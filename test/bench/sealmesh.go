package main

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"text/template"
	"time"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// The mesh that is measured: the two workloads, strict both ways.
//
//go:embed sealmesh/mesh.yaml
var meshTemplate embed.FS

// sealmesh is the real thing: `sealmesh up` with its defaults, each connection's
// log line included, which goes to a file.
type sealmesh struct {
	bin     string // with the programs
	dir     string // for mesh directories and logs
	profile string // for CPU profiles of the proxies, "" for none
}

func (sealmesh) name() string { return ours }

// start runs `sealmesh up` for the pair. What it prints for each workload that
// is sealed tells which process its proxy is.
func (s sealmesh) start(ctx context.Context, p pair) (*deployment, error) {
	mesh, err := s.writeMesh(p)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(mesh + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	stdout, told, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	up := newProcess(ctx, p.client.Node.Host, filepath.Join(s.bin, "sealmesh"), "up", "-f", mesh, "--drain", "1s")
	up.cmd.Stdout, up.cmd.Stderr = told, log
	if s.profile != "" {
		if err := s.prepareProfiles(); err != nil {
			return nil, err
		}
		up.cmd.Env = append(os.Environ(), "SEALMESH_CPUPROFILE="+s.profile)
	}
	err = up.start()
	told.Close()
	if err != nil {
		stdout.Close()
		return nil, err
	}
	d := &deployment{target: netip.AddrPortFrom(p.server.Addr4, appPort), failure: up.failure, stop: up.stop}
	d.client, d.server, err = awaitSealed(stdout)
	go func() { // until it ends, so that it can go on printing
		_, _ = io.Copy(io.Discard, stdout)
		stdout.Close()
	}()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sealmesh up: %v: %s", err, lastLines(log.Name())), up.stop())
	}
	return d, nil
}

// lastLines of a log, for an error.
func lastLines(file string) []byte {
	const enough = 2000
	content, _ := os.ReadFile(file) // without it the error says less
	return bytes.TrimSpace(content[max(0, len(content)-enough):])
}

// prepareProfiles makes the directory of profiles, for the proxies' user.
func (s sealmesh) prepareProfiles() error {
	if err := os.MkdirAll(s.profile, 0o755); err != nil {
		return err
	}
	return os.Chown(s.profile, ports.ProxyUID, ports.ProxyUID)
}

// writeMesh fills in the mesh directory of a pair.
func (s sealmesh) writeMesh(p pair) (directory string, err error) {
	t, err := template.ParseFS(meshTemplate, "sealmesh/mesh.yaml")
	if err != nil {
		return "", err
	}
	if directory, err = os.MkdirTemp(s.dir, "mesh-"); err != nil {
		return "", err
	}
	file, err := os.Create(filepath.Join(directory, "mesh.yaml"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	return directory, t.Execute(file, struct{ Client, Server any }{p.client, p.server})
}

// sealed is what `sealmesh up` prints when a workload passes nothing unsealed
// any more.
var sealed = regexp.MustCompile(`^sealed bench/(client|server): .*proxy pid ([0-9]+)$`)

// awaitSealed reads until both workloads are sealed.
func awaitSealed(stdout *os.File) (client, server int, err error) {
	if err := stdout.SetReadDeadline(time.Now().Add(upTime)); err != nil {
		return 0, 0, err
	}
	defer stdout.SetReadDeadline(time.Time{}) //nolint:errcheck // it could be set a moment ago
	lines := bufio.NewScanner(stdout)
	for (client == 0 || server == 0) && lines.Scan() {
		m := sealed.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		pid, err := strconv.Atoi(m[2])
		if err != nil {
			return 0, 0, err
		}
		if m[1] == "client" {
			client = pid
		} else {
			server = pid
		}
	}
	if client == 0 || server == 0 {
		return 0, 0, fmt.Errorf("not both workloads were sealed within %v (%v)", upTime, lines.Err())
	}
	return client, server, nil
}
