package promises

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// A workload that is to be sealed passes nothing, in or out, by whatever protocol,
// until its proxy is ready.
//
//	 node n1                                   node n2
//	┌────────────────────────┐               ┌─────────────────────┐
//	│ sender                 │ ─── TCP ────▶ │ outsider            │
//	│   beside a proxy that  │ ─── UDP ────▶ │                     │
//	│   is never ready       │ ─── ICMP ───▶ │                     │
//	│                        │ ◀── all ───── │                     │
//	└────────────────────────┘ ▲           ▲ └─────────────────────┘
//	                           tcpdump on both links
//
// Broken twin: the same before `sealmesh up`.
func TestFailClosedUntilReady(t *testing.T) {
	t.Parallel() // mostly waits
	m := newMesh(t)
	outsider := m.add(t, 2, "outsider", stranger)

	sent, received := m.contact(t, m.Sender, outsider)
	if all := []string{"ICMP", "ICMPv6", "TCP", "UDP"}; !slices.Equal(sent, all) || received != "TCP TCP UDP UDP" {
		t.Fatalf("before: sent %v, received %q: the experiment proves nothing", sent, received)
	}

	m.launch(t, "--proxy", neverReady(t))
	eventually(t, "both workloads are guarded", func() bool {
		return m.count(t, func(s status) bool { return s.Phase == "guard" && s.Admin != 0 }) == 2
	})
	sent, received = m.contact(t, m.Sender, outsider)
	if len(sent) > 0 || received != "" {
		t.Errorf("before its proxy was ready the workload sent %v and received %q", sent, received)
	}
	if m.count(t, func(s status) bool { return s.PID != 0 }) > 0 {
		t.Error("the proxy was ready after all")
	}
}

// neverReady is a proxy program that does nothing for ever.
func neverReady(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sealmesh-proxy")
	must(t, os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 3600\n"), 0o755)) //nolint:gosec // a program
	return program
}

// status is one row of `sealmesh status -o json`.
type status struct {
	Workload, Phase string
	PID             int
	Admin           int
}

// count is how many workloads stand as wanted.
func (m *mesh) count(t *testing.T, wanted func(status) bool) int {
	t.Helper()
	out, err := m.sealmesh(t.Context(), "status", "-o", "json")
	if err != nil {
		return 0 // it has only begun
	}
	var all []status
	must(t, json.Unmarshal([]byte(out), &all))
	return len(slices.DeleteFunc(all, func(s status) bool { return !wanted(s) }))
}

// contact has a workload and an outsider try all protocols and both families on
// each other. It says which protocols of the workload reached the outsider's link,
// and what of the outsider reached a program in the workload.
func (m *mesh) contact(t *testing.T, w, outsider *lab.Workload) (sent []string, received string) {
	t.Helper()
	inside, outside := listenAll(t, w), listenAll(t, outsider)
	near, far := recordOn(t, w.Host, ""), recordOn(t, outsider.Host, "")
	var tries sync.WaitGroup
	tries.Go(func() { tryAll(t, w, outsider) })
	tries.Go(func() { tryAll(t, outsider, w) })
	tries.Wait()

	// Whatever came has passed the workload's link by now: it has been received, or
	// never will be.
	arrived := near.stop(t).tshark(t, from(outsider)+" && udp", "frame.number")
	if len(arrived) < 2 {
		t.Fatalf("%d datagrams of the outsider arrived at the workload's link", len(arrived))
	}
	for _, p := range far.stop(t).tshark(t, from(w), "_ws.col.Protocol") {
		sent = append(sent, p[0])
	}
	slices.Sort(sent)
	outside(t)
	return slices.Compact(sent), inside(t)
}

// from is a display filter: what an address of a workload sent, but for finding
// neighbours.
func from(w *lab.Workload) string {
	return "(ip.src == " + w.Addr4.String() + " || ipv6.src == " + w.Addr6.String() + ") && !(icmpv6.type >= 133 && icmpv6.type <= 136)"
}

// listenAll serves TCP and UDP in a workload until the test ends. The function it
// returns says what came so far, and ends it.
func listenAll(t *testing.T, w *lab.Workload) (received func(*testing.T) string) {
	t.Helper()
	address := net.JoinHostPort("::", strconv.Itoa(appPort))
	tcp, err := w.Listen("tcp", address)
	must(t, err)
	udp, err := w.ListenPacket("udp", address)
	must(t, err)
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	var mu sync.Mutex
	var seen []string
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, what)
	}
	own := make(chan struct{})
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			note("TCP")
			c.Close()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, _, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			if string(b[:n]) == "own" {
				close(own)
				return
			}
			note("UDP")
		}
	}()
	return func(t *testing.T) string {
		t.Helper()
		// What the workload says to itself is never held up, and comes last.
		send(t, w, "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(appPort)), []byte("own"))
		take(t, own)
		tcp.Close()
		udp.Close()
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(seen)
		return strings.Join(seen, " ")
	}
}

// tryAll tries TCP, UDP and ICMP by both families.
func tryAll(t *testing.T, from, to *lab.Workload) {
	var tries sync.WaitGroup
	for _, target := range []netip.AddrPort{at(to, appPort), at6(to, appPort)} {
		tries.Go(func() {
			// A SYN that is dropped is never answered: somewhen one must give up.
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if c, err := from.Dial(ctx, "tcp", target.String()); err == nil {
				c.Close()
			}
		})
		send(t, from, "udp", target.String(), []byte("datagram"))
	}
	send(t, from, "ip4:icmp", to.Addr4.String(), []byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1})
	send(t, from, "ip6:ipv6-icmp", to.Addr6.String(), []byte{128, 0, 0, 0, 0, 1, 0, 1})
	tries.Wait()
}

// send sends one packet. Dropped on the way out is an error of the call, and as
// good as sent.
func send(t *testing.T, from *lab.Workload, network, to string, packet []byte) {
	err := from.Do(func() error {
		c, err := net.Dial(network, to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(packet)
		return err
	})
	if err != nil && !errors.Is(err, syscall.EPERM) {
		t.Error(err)
	}
}

// A proxy that is killed, and does not come back, leaves its workload without a
// way, not without a seal: who connects waits, and nothing is said in clear,
// neither out nor in.
//
//	sender ─▶ (no proxy)                  ▲ tcpdump
//	          (no proxy) ◀── in clear ── outsider
//
// Positive control: when the proxy is back, those who waited are served.
func TestNothingPassesWithoutAProxy(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 1, "outsider", stranger)
	program, nothing := filepath.Join(t.TempDir(), "sealmesh-proxy"), neverReady(t)
	install(t, filepath.Join(bin, "sealmesh-proxy"), program)
	m.start(t, "--proxy", program)
	heard := make(chan string, 100)
	serve(t, m.Receiver, appPort, func(c *net.TCPConn) {
		b := make([]byte, 100)
		n, _ := c.Read(b)
		heard <- string(b[:n])
		_, _ = c.Write(b[:n])
	})

	uplink := m.record(t, 1, "tcp")
	told := m.stdout.count()
	install(t, nothing, program)
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		m.killProxy(t, w)
	}
	eventually(t, "two proxies that do nothing", func() bool { return len(m.asleep()) == 2 })
	out, in := dial(t, m.Sender, at(m.Receiver, appPort)), dial(t, outsider, at(m.Receiver, appPort))
	say(t, out, "out, without a proxy")
	say(t, in, "in, without a proxy")
	if n := m.count(t, func(s status) bool { return s.PID != 0 }); n != 0 {
		t.Errorf("%d proxies are ready", n)
	}
	select {
	case text := <-heard:
		t.Errorf("the application heard %q while there was no proxy", text)
	default:
	}

	install(t, filepath.Join(bin, "sealmesh-proxy"), program)
	for _, pid := range m.asleep() {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	for _, name := range m.objects.sealedNames() {
		m.awaitSealed(t, name, told)
	}
	hear(t, out, "out, without a proxy")
	wantReset(t, "outsider", readOn(in)) // strict
	if text := take(t, heard); text != "out, without a proxy" || len(heard) > 0 {
		t.Errorf("the application heard %q, and %d more", text, len(heard))
	}
	uplink.stop(t).wantSealed(t, m.Receiver, appPort, "out, without a proxy")
}

// asleep are the processes in the mesh that are neverReady.
func (m *mesh) asleep() []int {
	return slices.DeleteFunc(m.inside(), func(pid int) bool {
		name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		return strings.TrimSpace(string(name)) != "sleep"
	})
}
