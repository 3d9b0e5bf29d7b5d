package promises

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/redirect"
	"github.com/sealmesh/sealmesh/test/lab"
)

// Programs of the mesh that are started one by one, as on machines of their own.

// reachable makes an address of the test's own machine reachable from the whole
// lab, and returns how it is reached: at the underlay. What passes is carried byte
// for byte.
func (m *mesh) reachable(tb testing.TB, address string) netip.AddrPort {
	tb.Helper()
	there := netip.AddrPortFrom(m.Underlay.Addr4, ports.Control)
	ln, err := m.Underlay.Listen("tcp", there.String())
	must(tb, err)
	tb.Cleanup(func() { ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			go relay(near, address)
		}
	}()
	return there
}

func relay(near net.Conn, address string) {
	defer near.Close()
	var d net.Dialer
	far, err := d.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return
	}
	defer far.Close()
	go func() { _, _ = io.Copy(far, near); far.Close() }()
	_, _ = io.Copy(near, far)
}

// anchorsFile is a file with the mesh's trust anchors.
func (m *mesh) anchorsFile(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "anchors.pem")
	must(tb, os.WriteFile(path, []byte(m.anchors(tb)), 0o600))
	return path
}

// startProxy runs a sealmesh-proxy in a workload by hand, with a token, and
// returns what it says. Its end is that of the test.
func (m *mesh) startProxy(tb testing.TB, w *lab.Workload, control netip.AddrPort, token string) (*lab.Cmd, *lines) {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "token")
	must(tb, os.WriteFile(file, []byte(token+"\n"), 0o600))
	cmd := w.Command(context.Background(), filepath.Join(bin, "sealmesh-proxy"),
		"--control", "https://"+control.String(), "--trust-domain", trustDomain, "--anchors", m.anchorsFile(tb),
		"--token-file", file, "--drain", "1s", "--log-format", "json")
	stderr, err := cmd.StderrPipe()
	must(tb, err)
	must(tb, cmd.Start())
	said := newLines()
	go said.follow(stderr)
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, said
}

// redirectByHand puts the rules of a workload in place that nobody enrols.
func redirectByHand(tb testing.TB, w *lab.Workload, control netip.AddrPort) {
	tb.Helper()
	must(tb, redirect.InNamespace(w.Path(), func() error {
		return redirect.Apply(redirect.Config{
			ProxyUID: ports.ProxyUID, Control: control,
			Workloads: []redirect.Workload{{
				Name: w.Name, Phase: redirect.Redirect,
				Outbound: ports.Outbound, Inbound: ports.Inbound, Admin: ports.Admin,
			}},
		})
	}))
}
