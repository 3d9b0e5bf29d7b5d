package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// patience is how long a scene may take.
const patience = 60 * time.Second

// maxCapture keeps the repository small: a scene that says more says too much.
const maxCapture = 40 << 10

// stage is where scenes are played: two workloads on one node.
type stage struct {
	*lab.Lab
	client, server *lab.Workload
	dir            string // of certificates
	self, bin      string // this program, and where our others are
}

// record plays scenes, all of them if none is named, and writes their captures.
func record(ctx context.Context, names []string, into string, out io.Writer) (err error) {
	play := scenes
	if len(names) > 0 {
		play = nil
		for _, name := range names {
			s, err := sceneNamed(name)
			if err != nil {
				return err
			}
			play = append(play, s)
		}
	}
	dir, err := os.MkdirTemp("", "captures-")
	if err != nil {
		return fmt.Errorf("record: %v", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := setStage(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	failed := 0
	for _, s := range play {
		file := filepath.Join(into, s.name+".pcap")
		size, err := st.play(ctx, s, file)
		if err != nil {
			failed++
			err = errors.Join(err, os.RemoveAll(file)) // half a capture is none
			fmt.Fprintf(out, "%-32s %v\n", s.name, err)
			continue
		}
		fmt.Fprintf(out, "%-32s %d bytes\n", s.name, size)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d scenes could not be recorded", failed, len(play))
	}
	return nil
}

// setStage builds the lab and the certificates.
func setStage(ctx context.Context, dir string) (*stage, error) {
	l, err := lab.New(ctx, lab.Config{Nodes: 1})
	if err != nil {
		return nil, err
	}
	st := &stage{Lab: l, dir: dir}
	if st.self, err = os.Executable(); err != nil {
		return nil, errors.Join(fmt.Errorf("record: %v", err), l.Close())
	}
	if st.bin, err = filepath.Abs("bin"); err != nil {
		return nil, errors.Join(fmt.Errorf("record: %v", err), l.Close())
	}
	if err := st.furnish(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return st, nil
}

func (st *stage) furnish(ctx context.Context) (err error) {
	if st.client, err = st.AddWorkload(st.Nodes[0], "client"); err != nil {
		return err
	}
	if st.server, err = st.AddWorkload(st.Nodes[0], "server"); err != nil {
		return err
	}
	for _, w := range []*lab.Workload{st.client, st.server} {
		// Packets as they would be on a wire, not joined by the kernel.
		if out, err := w.Command(ctx, "ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off", "tx", "off").CombinedOutput(); err != nil {
			return fmt.Errorf("record: ethtool: %v: %s", err, out)
		}
	}
	// Daemons that give up root must be able to read what they are given.
	if err := os.Chmod(st.dir, 0o755); err != nil {
		return fmt.Errorf("record: %v", err)
	}
	cmd := st.script(ctx, st.server.Host, st.dir, certificates)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("record: certificates: %v: %s", err, out)
	}
	return nil
}

// certificates makes an authority and a certificate for each side.
const certificates = `
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 36500 -subj "/CN=Lab Root"
issue() {
	openssl req -newkey "$2" ${3:+-pkeyopt "$3"} -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1.lab"
	openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 36500 -out "$1.crt" \
		-extfile <(printf 'subjectAltName=DNS:%s.lab,DNS:localhost,IP:%s\n' "$1" "$S")
}
issue server ec ec_paramgen_curve:P-256
issue client ec ec_paramgen_curve:P-256
issue rsa rsa:2048
cat server.crt server.key > server.pem
cat rsa.crt rsa.key > rsa.pem
chmod 644 *
`

// prelude is what every script begins with: until_true waits for what has no
// socket to wait for, end ends what was started in the background.
const prelude = `set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin:/usr/lib/rabbitmq/bin" HOME="$D" TERM=dumb LC_ALL=C
exec {never}<> <(:)
until_true() { local i; for i in {1..600}; do if "$@" >/dev/null 2>&1; then return 0; fi; read -rt 0.05 -u $never || :; done; echo "never true: $*" >&2; return 1; }
end() { kill "$1" 2>/dev/null || :; wait "$1" 2>/dev/null || :; }
`

// script is a bash script in a namespace.
func (st *stage) script(ctx context.Context, h *lab.Host, dir, text string) *lab.Cmd {
	cmd := h.Command(ctx, "bash", "-c", prelude+text)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "D="+dir, "SELF="+st.self, "BIN="+st.bin, "NS_S="+st.server.Host.Name, "NS_C="+st.client.Host.Name,
		"S="+st.server.Addr4.String(), "C="+st.client.Addr4.String(),
		"S6="+st.server.Addr6.String(), "C6="+st.client.Addr6.String())
	return cmd
}

// play plays one scene and returns the size of its capture.
func (st *stage) play(ctx context.Context, s scene, file string) (size int64, err error) {
	for _, program := range s.needs {
		if _, err := exec.LookPath(program); err != nil {
			return 0, fmt.Errorf("%s is not installed (scripts/deps captures)", program)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dir, err := st.copyOfDir(s.name)
	if err != nil {
		return 0, err
	}
	var said strings.Builder
	end := func() error { return nil }
	if s.mesh != "" {
		mesh := st.script(ctx, st.Underlay, dir, s.mesh)
		if err := mesh.Start(); err != nil {
			return 0, err
		}
		end = func() error { return stop(mesh) }
	}
	server := st.script(ctx, st.server.Host, dir, s.server)
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		return 0, err
	}
	defer func() {
		// The mesh first: one that is killed leaves its rules, which let nothing pass.
		err = errors.Join(err, end())
		cancel()
		_ = server.Wait() // killed: how it ended is known
		err = errors.Join(err, st.clear())
	}()
	for _, socket := range s.ready {
		if err := listens(ctx, st.server.Host, socket); err != nil {
			cancel()
			_ = server.Wait()
			return 0, fmt.Errorf("%w; the server said: %s", err, said.String())
		}
	}
	if err := st.watch(ctx, s, dir, file); err != nil {
		return 0, err
	}
	for _, name := range s.keep {
		if err := copyFile(filepath.Join(dir, name), strings.TrimSuffix(file, ".pcap")+"."+name); err != nil {
			return 0, err
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, fmt.Errorf("record: %v", err)
	}
	if info.Size() > maxCapture {
		return 0, fmt.Errorf("a capture of %d bytes: must be at most %d", info.Size(), maxCapture)
	}
	return info.Size(), nil
}

// stop ends a mesh in order: it takes its rules and routes back.
func stop(mesh *lab.Cmd) error {
	if err := mesh.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("record: the mesh has ended before: %v", err)
	}
	_ = mesh.Wait() // its log tells
	return nil
}

// clear ends what is left in the two namespaces: daemons leave process groups.
func (st *stage) clear() error {
	for _, w := range []*lab.Workload{st.client, st.server} {
		home, err := os.Stat(w.Path())
		if err != nil {
			return fmt.Errorf("record: %v", err)
		}
		all, err := filepath.Glob("/proc/[0-9]*/ns/net")
		if err != nil {
			return fmt.Errorf("record: %v", err)
		}
		for _, file := range all {
			pid, err := strconv.Atoi(strings.Split(file, "/")[2])
			if err != nil {
				continue
			}
			if of, err := os.Stat(file); err == nil && os.SameFile(home, of) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
			}
		}
	}
	return nil
}

// watch captures what the client's script does. The server's end is part of it:
// nothing is to be expected from a connection that stays open.
func (st *stage) watch(ctx context.Context, s scene, dir, file string) error {
	c, err := st.client.Capture(ctx, "eth0", file, fmt.Sprintf("host %s or host %s and not icmp6", st.server.Addr4, st.server.Addr6))
	if err != nil {
		return err
	}
	client := st.script(ctx, st.client.Host, dir, s.client)
	said, err := client.CombinedOutput()
	stats, stopErr := c.Stop()
	switch {
	case err != nil && !s.fails:
		return fmt.Errorf("client: %v: %s", err, said)
	case stopErr != nil:
		return stopErr
	case stats.Dropped > 0:
		return fmt.Errorf("%d packets dropped", stats.Dropped)
	case stats.Captured == 0:
		return fmt.Errorf("nothing captured; the client said: %s", said)
	}
	return nil
}

// copyOfDir gives a scene certificates of its own to do with as it likes.
func (st *stage) copyOfDir(name string) (string, error) {
	dir := filepath.Join(st.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("record: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(st.dir, "*.*"))
	if err != nil {
		return "", fmt.Errorf("record: %v", err)
	}
	for _, file := range files {
		if err := copyFile(file, filepath.Join(dir, filepath.Base(file))); err != nil {
			return "", err
		}
	}
	return dir, nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("record: %v", err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		return fmt.Errorf("record: %v", err)
	}
	return nil
}

// listens waits until a host has a socket, written as "tcp/443".
func listens(ctx context.Context, h *lab.Host, socket string) error {
	proto, port, _ := strings.Cut(socket, "/")
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("record: socket %q: must be such as tcp/443", socket)
	}
	state := map[string]string{"tcp": "0A", "udp": "07"}[proto]
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var table []byte
		err := h.Do(func() error {
			for _, family := range []string{"", "6"} {
				b, err := os.ReadFile("/proc/thread-self/net/" + proto + family)
				if err != nil {
					return err
				}
				table = append(table, b...)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("record: %v", err)
		}
		if hasSocket(string(table), number, state) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("record: nothing listens on %s", socket)
		case <-tick.C:
		}
	}
}

// hasSocket looks for a local port in a state, in the kernel's table of sockets.
func hasSocket(table string, port int, state string) bool {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", port)) && fields[3] == state {
			return true
		}
	}
	return false
}
