package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	meshv1 "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/test/lab"
)

const (
	trustDomain = "demo.local"
	namespace   = "shop"
	objectsFile = "demo.yaml"
	// stopTime is how long "sealmesh up" may take to drain and clean up.
	stopTime = 10 * time.Second
)

// mesh is a running "sealmesh up".
type mesh struct {
	dir     string // of the objects
	logFile string
	program string

	cmd   *exec.Cmd
	end   context.CancelFunc // SIGTERM, and SIGKILL after stopTime
	said  *journal           // standard output
	log   *journal           // standard error, JSON lines, its own and its proxies'
	ended chan struct{}      // closed when the process has ended
}

// objects are what the mesh is made of: both modes strict, and every workload but
// the stranger.
func objects(nodes []*lab.Node, workloads []*lab.Workload) ([]byte, error) {
	head := func(kind, namespace, name string) meshv1.Header {
		return meshv1.Header{APIVersion: meshv1.GroupVersion, Kind: kind, Metadata: meshv1.Metadata{Namespace: namespace, Name: name}}
	}
	all := []any{meshv1.Mesh{
		Header: head(meshv1.KindMesh, "", "default"),
		Spec:   meshv1.MeshSpec{TrustDomain: trustDomain, MTLS: meshv1.MTLSSpec{Inbound: "Strict", Outbound: "Strict"}},
	}}
	for _, n := range nodes {
		all = append(all, meshv1.Node{
			Header: head(meshv1.KindNode, "", nodeName(n)),
			Spec:   meshv1.NodeSpec{Addresses: addresses(n.Host), NetNS: n.Path()},
		})
	}
	for _, w := range workloads {
		all = append(all, meshv1.Workload{
			Header: head(meshv1.KindWorkload, namespace, w.Name),
			Spec: meshv1.WorkloadSpec{
				Node: nodeName(w.Node), NetNS: w.Path(),
				Addresses: addresses(w.Host),
			},
		})
	}
	var out bytes.Buffer
	for _, o := range all {
		b, err := yaml.Marshal(o)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "---\n%s", b)
	}
	return out.Bytes(), nil
}

func addresses(h *lab.Host) []string {
	all := []string{h.Addr4.String()}
	if h.Addr6.IsValid() {
		all = append(all, h.Addr6.String())
	}
	return all
}

func nodeName(n *lab.Node) string { return fmt.Sprintf("n%d", n.Number) }

// startMesh writes the objects and starts "sealmesh up" on them, which runs until
// it is stopped.
func (s *stage) startMesh(ctx context.Context) (*mesh, error) {
	m := &mesh{
		dir: filepath.Join(s.dir, "mesh"), logFile: filepath.Join(s.dir, "up.log"), program: s.config.Program,
		said: newJournal(), log: newJournal(), ended: make(chan struct{}),
	}
	content, err := objects(s.lab.Nodes, []*lab.Workload{s.sender, s.receiver, s.thief})
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(m.dir, 0o700); err != nil { // one that exists is not ours to remove
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(m.dir, objectsFile), content, 0o600); err != nil {
		return nil, err
	}
	ctx, m.end = context.WithCancel(context.WithoutCancel(ctx))
	m.cmd = exec.CommandContext(ctx, m.program, m.command()...)
	m.cmd.Cancel = func() error { return m.cmd.Process.Signal(syscall.SIGTERM) }
	m.cmd.WaitDelay = stopTime
	if s.config.Proxy != "" {
		m.cmd.Args = append(m.cmd.Args, "--proxy", s.config.Proxy)
	}
	// A process group of its own: Ctrl-C is for us, who tell it when to end. If we
	// are killed, it ends in order by itself.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := m.start(); err != nil {
		m.end()
		return nil, errors.Join(err, os.RemoveAll(m.dir))
	}
	return m, nil
}

// command is the arguments of "sealmesh up".
func (m *mesh) command() []string {
	return []string{"up", "-f", m.dir, "--log-format", "json", "--drain", "1s"}
}

// start starts the process. Pdeathsig goes by the thread that forks, not by the
// process: that thread stays with the child until its end.
func (m *mesh) start() error {
	file, err := os.Create(m.logFile)
	if err != nil {
		return err
	}
	m.cmd.Stdout, m.cmd.Stderr = m.said, io.MultiWriter(file, m.log)
	started := make(chan error, 1)
	go func() {
		defer close(m.ended)
		defer file.Close()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait() // how it ended is in its log
		}
	}()
	return <-started
}

// stop ends the process in order, and removes its objects and keys.
func (m *mesh) stop() error {
	m.end()
	<-m.ended
	return os.RemoveAll(m.dir)
}

// wait waits for a line on standard output, but no longer than the process lives.
func (m *mesh) wait(ctx context.Context, match func(string) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-m.ended:
			cancel(errors.New("sealmesh up has ended"))
		case <-ctx.Done():
		}
	}()
	if _, err := m.said.wait(ctx, 0, match); err != nil {
		return fmt.Errorf("%w; its log ends with %s", err, m.log.last())
	}
	return nil
}

// ask runs a sealmesh command on the mesh and reads its answer.
func (m *mesh) ask(ctx context.Context, what string, answer any) error {
	var stderr bytes.Buffer
	c := exec.CommandContext(ctx, m.program, what, "-f", m.dir, "-o", "json")
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("sealmesh %s: %w: %s", what, err, strings.TrimSpace(stderr.String()))
	}
	if err := json.Unmarshal(out, answer); err != nil {
		return fmt.Errorf("sealmesh %s: %w", what, err)
	}
	return nil
}

// identity is one item of "sealmesh identity".
type identity struct {
	Workload  string    `json:"workload"`
	Identity  string    `json:"identity"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// status is one item of "sealmesh status".
type status struct {
	Workload string `json:"workload"`
	PID      int    `json:"pid"`
	Rules    int    `json:"rules"`
	Admin    uint16 `json:"admin"`
}

// lane is one item of a proxy's /connections.
type lane struct {
	Local       string `json:"local"`
	Peer        string `json:"peer"`
	HelloRandom string `json:"client_hello_random"`
}

// lanes asks a proxy, from inside its workload, for the lanes it attests.
func lanes(ctx context.Context, w *lab.Workload, admin uint16) ([]lane, error) {
	inside := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.Dial(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/connections", admin), http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := inside.Do(req)
	if err != nil {
		return nil, fmt.Errorf("proxy of %s: %w", w.Name, err)
	}
	defer resp.Body.Close()
	var report struct {
		Lanes []lane `json:"lanes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
		return nil, fmt.Errorf("proxy of %s: %w", w.Name, err)
	}
	return report.Lanes, nil
}

// connection is a proxy's log line about one connection, written at its end.
type connection struct {
	Message   string `json:"msg"`
	Direction string `json:"direction"`
	Client    string `json:"client"`
	Reason    string `json:"reason"`
	Detail    string `json:"detail"`
}

// connection waits for the log line, from index from on, of a connection that a
// workload made.
func (m *mesh) connection(ctx context.Context, from int, direction string, client *lab.Workload) (connection, error) {
	var found connection
	_, err := m.log.wait(ctx, from, func(line string) bool {
		var c connection
		if json.Unmarshal([]byte(line), &c) != nil || c.Message != "connection" || c.Direction != direction {
			return false
		}
		host, _, err := net.SplitHostPort(c.Client)
		found = c
		return err == nil && host == client.Addr4.String()
	})
	return found, err
}
