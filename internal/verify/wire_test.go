package verify

// Two workloads on two nodes, captured by tcpdump on the receiver's uplink:
//
//	sender ── n1 ── underlay ── eth0 n2 ── receiver
//	                             └─ tcpdump
//
// What is read from the file is held against what the ends know themselves, and
// against tshark, which shares no code with us.

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/test/lab"
)

// wire carries a line over a captured connection, which wrap may seal, and
// returns the capture's path and the report on it.
func wire(t *testing.T, wrap func(client, server net.Conn) (net.Conn, net.Conn)) (string, *Report) {
	t.Helper()
	l := lab.T(t, lab.Config{Nodes: 2})
	sender, receiver := l.Workload(t, l.Nodes[0], "sender"), l.Workload(t, l.Nodes[1], "receiver")
	path := filepath.Join(t.TempDir(), "wire.pcap")
	running, err := l.Nodes[1].Capture(t.Context(), "eth0", path, "tcp")
	if err != nil {
		t.Fatal(err)
	}
	talk(t, sender, receiver, wrap)
	stats, err := running.Stop()
	if err != nil {
		t.Fatal(err)
	}
	file, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, Summarize(file, stats.Dropped)
}

func talk(t *testing.T, sender, receiver *lab.Workload, wrap func(client, server net.Conn) (net.Conn, net.Conn)) {
	t.Helper()
	ln, err := receiver.Listen("tcp", netip.AddrPortFrom(receiver.Addr4, 2929).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := sender.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer s.Close()
	c, s = wrap(c, s)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, s)
		done <- err
	}()
	if _, err := io.WriteString(c, "this is a test\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "this is a test\n" {
		t.Fatalf("echoed %q, %v", line, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestPlaintextOnTheWireIsFound(t *testing.T) {
	_, report := wire(t, func(c, s net.Conn) (net.Conn, net.Conn) { return c, s })
	if report.Result != Leaked || len(slices.Collect(report.Flows())) != 1 {
		t.Fatalf("report %+v", report)
	}
	found := slices.Collect(report.Flows())[0]
	if found.Evidence == nil || found.Evidence.Text != `this is a test\n` || found.Evidence.Packet != 4 || found.Dst != "10.77.2.11:2929" {
		t.Errorf("found %+v, evidence %+v", found, found.Evidence)
	}
}

func TestTLSOnTheWireIsReadAsTsharkReadsIt(t *testing.T) {
	client, server := configs(t)
	path, report := wire(t, func(c, s net.Conn) (net.Conn, net.Conn) { return tls.Client(c, client), tls.Server(s, server) })
	if report.Result != Sealed || len(slices.Collect(report.Flows())) != 1 {
		t.Fatalf("report %+v", report)
	}
	info := slices.Collect(report.Flows())[0].TLS
	if info.Group != "X25519MLKEM768" || info.Version != "1.3" {
		t.Errorf("info %+v", info)
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("not compared with tshark: it is not installed")
	}
	out, err := exec.CommandContext(t.Context(), tshark, "-r", path, "-d", "tcp.port==2929,tls", "-Y", "tls.handshake.type==1",
		"-T", "fields", "-e", "tls.handshake.random", "-e", "tls.handshake.extensions_server_name").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(out)), info.Random+"\t"+info.SNI; got != want {
		t.Errorf("tshark reads %q, we read %q", got, want)
	}
}
