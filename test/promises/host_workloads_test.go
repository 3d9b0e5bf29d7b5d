package promises

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	api "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/test/lab"
)

// Workloads may be the processes of a user, or of a cgroup, and share the network
// of a machine with others. Theirs is sealed, and nobody else's is touched.
//
//	 node n1, where `sealmesh up` runs               node n2
//	┌──────────────────────────────────┐            ┌────────────────────────┐
//	│ web   user 4001, ports 2929 to … │            │ receiver  (netns)      │
//	│ db    user 4002, port 3306       ├─── eth0 ───┤                        │
//	│ batch a cgroup,  port 4000       │            │ outsider  (a stranger) │
//	│ other user 4003, not in the mesh │            └────────────────────────┘
//	│ sender (netns, behind the node)  │
//	└──────────────────────────────────┘
//
// Broken twin: the same experiments as other, whose words are on the wire.
func TestHostWorkloads(t *testing.T) {
	needs(t, "nc", "curl")
	m := newMachine(t)
	m.startThere(t)

	for _, p := range []path{
		{"any TCP to the user by IPv4", m.Receiver, m.web, m.web.Addr4, 0}, // strict: or it fails
		{"any TCP of the user by IPv6", m.web, m.Receiver, m.Receiver.Addr6, 0},
	} {
		t.Run(p.name, func(t *testing.T) { p.behaves(t) })
	}
	t.Run("programs", m.programs)
	t.Run("beside a workload of the same node", m.sameNode)
	t.Run("two users of one machine", m.twoUsers)
	t.Run("other users", m.otherUsers)
	t.Run("refused", m.refusals)
	t.Run("a port that is not listed", m.unlistedPort)
	t.Run("a cgroup", m.ofCgroup)
	t.Run("removed", m.removed)
}

// machine is a mesh that runs on its first node, with workloads that are users.
type machine struct {
	*mesh
	web, db, other *lab.Workload // users of node n1
	outsider       *lab.Workload // of node n2
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{mesh: newMesh(t)}
	m.outsider = m.add(t, 2, "outsider", stranger)
	m.bridgesAreBridges(t, 1)
	m.web, m.db, m.other = m.user(1, "web", 4001), m.user(1, "db", 4002), m.user(1, "other", 4003)
	var ports []uint16
	for p := uint16(appPort); p < appPort+50; p++ {
		ports = append(ports, p)
	}
	m.addUser(m.web, "4001", ports...)
	m.addUser(m.db, "4002", 3306)
	m.write(t)
	return m
}

// bridgesAreBridges has a node run none of its IP rules before a packet has left
// the bridge: the kernel would forget which socket they chose (docs/linux.md).
func (m *mesh) bridgesAreBridges(t *testing.T, node int) {
	t.Helper()
	must(t, m.Nodes[node-1].Do(func() error {
		for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
			err := os.WriteFile("/proc/sys/net/bridge/"+name, []byte("0"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // br_netfilter is not loaded
				return err
			}
		}
		return nil
	}))
}

// user is a user of a node, who is not in the mesh yet.
func (m *mesh) user(node int, name string, uid uint32) *lab.Workload {
	n := m.Nodes[node-1]
	return &lab.Workload{Name: name, Node: n, Host: n.As(uid)}
}

// addUser adds the object of a workload that is a user.
func (m *mesh) addUser(w *lab.Workload, uid string, ports ...uint16) {
	m.objects.workloads = append(m.objects.workloads, api.Workload{
		Header: header(api.KindWorkload, w.Name, namespace),
		Spec:   api.WorkloadSpec{User: uid, Addresses: []string{w.Addr4.String(), w.Addr6.String()}, Ports: ports},
	})
}

// startThere starts `sealmesh up` on node n1.
func (m *mesh) startThere(t *testing.T) {
	t.Helper()
	m.home = m.Nodes[0].Host
	m.start(t)
}

// sends has nc of one workload send text to nc of another, on a port, and
// returns what was on the uplink of a node.
func (m *mesh) sends(t *testing.T, node int, from, to *lab.Workload, port int, text string) *wire {
	t.Helper()
	uplink := m.record(t, node, "tcp")
	sendsBy(t, from.Command, to.Command, at(to, uint16(port)), text)
	return uplink.stop(t)
}

// starter makes a command somewhere.
type starter func(ctx context.Context, name string, args ...string) *lab.Cmd

// sendsBy is a text from nc to nc, and back.
func sendsBy(t *testing.T, client, server starter, to netip.AddrPort, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	port := strconv.Itoa(int(to.Port()))
	listener := server(ctx, "nc", "-l", "-n", "-v", "-N", "-p", port)
	var heard strings.Builder
	listener.Stdout = &heard
	listener.Stdin = strings.NewReader(text + " answered")
	said, err := listener.StderrPipe()
	must(t, err)
	must(t, listener.Start())
	for lines := bufio.NewScanner(said); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "Listening") {
			break
		}
	}
	caller := client(ctx, "nc", "-n", "-N", to.Addr().String(), port)
	caller.Stdin = strings.NewReader(text)
	out, err := caller.Output()
	if err != nil || string(out) != text+" answered" {
		t.Fatalf("the client of %q heard %q, %v", text, out, err)
	}
	_, _ = io.Copy(io.Discard, said)
	must(t, listener.Wait())
	if heard.String() != text {
		t.Fatalf("the server heard %q, sent was %q", heard.String(), text)
	}
}

// programs are real ones, at both ends.
func (m *machine) programs(t *testing.T) {
	const port = appPort + 49 // to which there is no lane yet
	m.sends(t, 2, m.web, m.Receiver, port, "secret of web").wantSealed(t, m.Receiver, port, "secret of web")
	m.sends(t, 2, m.Receiver, m.web, port, "secret for web").wantSealed(t, m.web, port, "secret for web")

	uplink := m.record(t, 2, "tcp")
	ln, err := m.Receiver.Listen("tcp", ":8000")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "page for ", r.RemoteAddr)
	})}
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	out, err := m.db.Command(t.Context(), "curl", "-gs", "--max-time", "20", "http://"+at6(m.Receiver, 8000).String()).Output()
	must(t, err)
	if want := "page for [" + m.db.Addr6.String() + "]:"; !strings.HasPrefix(string(out), want) {
		t.Errorf("curl printed %q, want %q", out, want)
	}
	uplink.stop(t).wantSealed(t, m.Receiver, 8000, "page for")
}

// sameNode: the netns workload has a link of its own, on which all is seen.
func (m *machine) sameNode(t *testing.T) {
	link := recordOn(t, m.Sender.Host, "tcp")
	sendsBy(t, m.Sender.Command, m.web.Command, at(m.web, appPort), "secret to the node")
	link.stop(t).wantSealed(t, m.web, appPort, "secret to the node")
	link = recordOn(t, m.Sender.Host, "tcp")
	sendsBy(t, m.db.Command, m.Sender.Command, at(m.Sender, appPort), "secret from the node")
	link.stop(t).wantSealed(t, m.Sender, appPort, "secret from the node")
}

// twoUsers of a machine meet on its loopback device, of which nothing leaves it.
func (m *machine) twoUsers(t *testing.T) {
	if seen := m.sends(t, 1, m.web, m.db, 3306, "from user to user"); seen.shows(t, "from user") {
		t.Error("it left the machine")
	}
}

// otherUsers are not in the mesh and go on as before.
func (m *machine) otherUsers(t *testing.T) {
	for _, twin := range []struct {
		name     string
		from, to *lab.Workload
	}{{"out", m.other, m.outsider}, {"in", m.outsider, m.other}} {
		text := "clear " + twin.name
		if !m.sends(t, 2, twin.from, twin.to, 8081, text).shows(t, text) {
			t.Errorf("%s: what another user says is not seen: the experiment proves nothing", twin.name)
		}
	}
}

// refusals under strict: what cannot be sealed does not come about.
func (m *machine) refusals(t *testing.T) {
	serve(t, m.outsider, 8081, echo)
	serve(t, m.other, 8081, echo)
	serve(t, m.web, appPort, echo)
	for _, c := range []struct {
		name     string
		from, to *lab.Workload
		port     uint16
		refused  bool
	}{
		{"the user to a stranger", m.web, m.outsider, 8081, true},
		{"another user to a stranger", m.other, m.outsider, 8081, false},
		{"a stranger to the user", m.outsider, m.web, appPort, true},
		{"a stranger to another user", m.outsider, m.other, 8081, false},
		{"a sealed workload to another user", m.Receiver, m.other, 8081, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := tryEcho(t, c.from, c.to, c.port); (err != nil) != c.refused {
				t.Errorf("echo: %v, must be refused: %v", err, c.refused)
			}
		})
	}
}

// unlistedPort: nobody else can tell whose port it is, so that it is not sealed.
// The answer of a workload never leaves it in clear all the same.
func (m *machine) unlistedPort(t *testing.T) {
	const port = 9999
	serve(t, m.web, port, func(c *net.TCPConn) { _, _ = io.WriteString(c, "an answer in clear") })
	serve(t, m.other, port+1, func(c *net.TCPConn) { _, _ = io.WriteString(c, "the twin's answer") })
	uplink := m.record(t, 2, "tcp")
	c := dial(t, m.outsider, at(m.other, port+1))
	if got, err := io.ReadAll(c); err != nil || len(got) == 0 {
		t.Fatalf("another user's answer: %q, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if conn, err := m.outsider.Dial(ctx, "tcp", at(m.web, port).String()); err == nil {
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		got, _ := io.ReadAll(conn)
		conn.Close()
		if len(got) > 0 {
			t.Errorf("an answer came: %q", got)
		}
	}
	seen := uplink.stop(t)
	if seen.shows(t, "an answer in clear") || !seen.shows(t, "the twin's answer") {
		t.Error("the answer is on the wire, or the twin's is not")
	}
}

// ofCgroup is a workload that is a cgroup, added while the mesh runs.
func (m *machine) ofCgroup(t *testing.T) {
	name, root := newCgroup(t, m.Prefix)
	batch := &lab.Workload{Name: "batch", Node: m.Nodes[0], Host: m.Nodes[0].Host}
	m.change(t, func(o *objects) {
		o.workloads = append(o.workloads, api.Workload{
			Header: header(api.KindWorkload, "batch", namespace),
			Spec:   api.WorkloadSpec{Cgroup: name, Addresses: []string{batch.Addr4.String(), batch.Addr6.String()}, Ports: []uint16{4000}},
		})
	})
	within := func(ctx context.Context, program string, args ...string) *lab.Cmd {
		cmd := batch.Command(ctx, program, args...)
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(root.Fd())
		return cmd
	}
	uplink := m.record(t, 2, "tcp")
	sendsBy(t, within, m.Receiver.Command, at(m.Receiver, appPort), "secret of a cgroup")
	sendsBy(t, m.Receiver.Command, within, at(batch, 4000), "secret for a cgroup")
	sendsBy(t, batch.Command, m.outsider.Command, at(m.outsider, 8082), "clear by root") // the twin: not in the cgroup
	seen := uplink.stop(t)
	seen.wantSealed(t, m.Receiver, appPort, "secret of a cgroup", "secret for a cgroup")
	seen.wantSealed(t, batch, 4000)
	if !seen.shows(t, "clear by root") {
		t.Error("the twin's words are not seen: the experiment proves nothing")
	}
	m.change(t, func(o *objects) { o.removeWorkload(batch) })
}

// newCgroup makes a cgroup v2 that lives as long as the test, and returns its
// path below the mount and its directory.
func newCgroup(t *testing.T, name string) (string, *os.File) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	must(t, err)
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != "cgroup2" {
			continue
		}
		path := filepath.Join(fields[1], name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Skipf("not run: no cgroup can be made: %v", err)
		}
		dir, err := os.Open(path)
		must(t, err)
		t.Cleanup(func() {
			dir.Close()
			eventually(t, "end of the cgroup", func() bool { return os.Remove(path) == nil })
		})
		return name, dir
	}
	t.Skip("not run: cgroup v2 is not mounted")
	return "", nil
}

// removed workloads speak in clear again, which is the twin of all of the above,
// and the end of `sealmesh up` leaves nothing in the network of the machine.
func (m *machine) removed(t *testing.T) {
	m.setModes(t, permissive, permissive)
	m.change(t, func(o *objects) {
		for _, w := range []*lab.Workload{m.web, m.Receiver} {
			o.workload(w).Spec.Seal = "Disabled"
		}
	})
	for _, w := range []*lab.Workload{m.web, m.Receiver} {
		m.awaitUnsealed(t, w)
	}
	if !m.sends(t, 2, m.web, m.Receiver, appPort, "no secret").shows(t, "no secret") {
		t.Error("without seal nothing is seen: the experiments prove nothing")
	}
	m.stop(t)
	for _, look := range [][]string{{"nft", "list", "tables"}, {"ip", "rule", "show", "priority", "24225"}, {"ip", "-6", "rule", "show", "priority", "24225"}} {
		out, err := m.Nodes[0].Command(t.Context(), look[0], look[1:]...).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "" {
			t.Errorf("%s: %q, %v", strings.Join(look, " "), out, err)
		}
	}
}

// awaitUnsealed waits until a workload is no longer redirected.
func (m *mesh) awaitUnsealed(t *testing.T, w *lab.Workload) {
	t.Helper()
	m.waitLog(t, 0, w.Name+" unsealed", has("msg", "unsealed", "workload", namespace+"/"+w.Name))
}
