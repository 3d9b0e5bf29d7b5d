package verify

import (
	"bufio"
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/test/lab"
)

// wgTunnel is a conversation of text over wireguard-go, between two workloads on
// two nodes, as tcpdump saw it between the nodes:
//
//	sender ══ wg ══ n1 ── underlay ── eth0 n2 ══ wg ══ receiver
//	                                   └─ tcpdump
type wgTunnel struct {
	all  []sent
	keys Knowledge
}

// wgRecorded records one for all tests.
var wgRecorded sync.Map

func recordWireGuard(t *testing.T) wgTunnel {
	t.Helper()
	if kept, ok := wgRecorded.Load("tunnel"); ok {
		return kept.(wgTunnel)
	}
	for _, program := range []string{"wireguard-go", "wg"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("not run: %v", err)
		}
	}
	l := lab.T(t, lab.Config{Nodes: 2})
	sender, receiver := l.Workload(t, l.Nodes[0], "sender"), l.Workload(t, l.Nodes[1], "receiver")
	path := filepath.Join(t.TempDir(), "wg.pcap")
	running, err := l.Nodes[1].Capture(t.Context(), "eth0", path, "udp port 51820")
	if err != nil {
		t.Fatal(err)
	}
	tunnel := wgTunnel{keys: Knowledge{WireGuardKeys: map[string][32]byte{}}}
	private := map[string]*ecdh.PrivateKey{}
	for _, name := range []string{"sender", "receiver", "another"} {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private[name] = key
		tunnel.keys.WireGuardKeys[name] = [32]byte(key.PublicKey().Bytes())
	}
	wgEnd(t, sender, private["sender"], private["receiver"].PublicKey(), "10.9.0.1/24", "10.9.0.2/32", receiver.Addr4.String()+":51820")
	wgEnd(t, receiver, private["receiver"], private["sender"].PublicKey(), "10.9.0.2/24", "10.9.0.1/32", "")
	wgTalk(t, sender, receiver)
	if _, err := running.Stop(); err != nil {
		t.Fatal(err)
	}
	tunnel.all = readDatagrams(t, path)
	wgRecorded.Store("tunnel", tunnel)
	return tunnel
}

// wgEnd makes one end of the tunnel in a workload.
func wgEnd(t *testing.T, w *lab.Workload, key *ecdh.PrivateKey, peer *ecdh.PublicKey, address, allowed, endpoint string) {
	t.Helper()
	name := fmt.Sprintf("wg%d%.3s", os.Getpid()%100000, w.Name) // of its socket too, which all workloads see
	device := w.Command(t.Context(), "wireguard-go", "-f", name)
	device.Env = append(os.Environ(), "LOG_LEVEL=error")
	if err := device.Start(); err != nil {
		t.Fatal(err)
	}
	for socket := "/var/run/wireguard/" + name + ".sock"; ; {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("wireguard-go does not come up")
		}
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key.Bytes())), 0o600); err != nil {
		t.Fatal(err)
	}
	set := []string{"set", name, "listen-port", "51820", "private-key", file,
		"peer", base64.StdEncoding.EncodeToString(peer.Bytes()), "allowed-ips", allowed}
	if endpoint != "" {
		set = append(set, "endpoint", endpoint)
	}
	for _, args := range [][]string{
		append([]string{"wg"}, set...),
		{"ip", "address", "add", address, "dev", name},
		{"ip", "link", "set", name, "up", "mtu", "1400"},
	} {
		if out, err := w.Command(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", args, err, out)
		}
	}
}

// wgTalk sends lines through the tunnel and back.
func wgTalk(t *testing.T, sender, receiver *lab.Workload) {
	t.Helper()
	ln, err := receiver.Listen("tcp", "10.9.0.2:2929")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	var c net.Conn
	if c, err = sender.Dial(t.Context(), "tcp", "10.9.0.2:2929"); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echo := bufio.NewReader(c)
	for i := range 12 {
		line := fmt.Sprintf("line %d is cleartext\n", i)
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
		if got, err := echo.ReadString('\n'); got != line {
			t.Fatalf("echoed %q, %v", got, err)
		}
	}
}

// readDatagrams are those of the only flow of a file, in the order of time.
func readDatagrams(t testing.TB, path string) (all []sent) {
	t.Helper()
	file, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Flows) != 1 || file.Flows[0].Proto != capture.UDP {
		t.Fatalf("%d flows", len(file.Flows))
	}
	up, down := file.Flows[0].ToServer.Chunks, file.Flows[0].ToClient.Chunks
	for len(up)+len(down) > 0 {
		if len(down) == 0 || len(up) > 0 && up[0].Packet(0) < down[0].Packet(0) {
			all, up = append(all, sent{false, bytes.Clone(up[0].Data)}), up[1:]
		} else {
			all, down = append(all, sent{true, bytes.Clone(down[0].Data)}), down[1:]
		}
	}
	return all
}

// TestWireGuardIsRead drops parts of a real conversation, or adds to it.
func TestWireGuardIsRead(t *testing.T) {
	tunnel := recordWireGuard(t)
	all := tunnel.all
	if len(all) < 20 || len(all[0].data) != 148 || len(all[1].data) != 92 {
		t.Fatalf("%d messages", len(all))
	}
	data := all[2:]
	with := func(i int, change func(b []byte) []byte) []sent {
		other := append([]sent(nil), all...)
		other[i].data = change(bytes.Clone(other[i].data))
		return other
	}
	add := func(b ...byte) []sent { return append(append([]sent(nil), all...), sent{true, b}) }
	text := func(b []byte) []byte { return append(b[:16], strings.Repeat("cleartext 123456", 3)...) }
	late := append([]sent(nil), data...)
	late[1], late[4] = late[4], late[1]
	for _, tc := range []struct {
		name           string
		all            []sent
		knows          bool
		want           Verdict
		handshake      string
		client, server string
		says           string
	}{
		{"whole", all, true, WireGuard, "seen", "sender", "receiver", ""},
		{"whole, keys not known", all, false, WireGuard, "seen", "", "", ""},
		{"handshake not captured", data, true, WireGuard, "unseen", "", "", ""},
		{"handshake only", all[:2], false, WireGuard, "seen", "", "", ""},
		{"initiation only, to a known key", all[:1], true, WireGuard, "unseen", "", "receiver", ""},
		{"initiation only", all[:1], false, Unknown, "", "", "", "not completed"},
		{"response that answers nothing", append([]sent{all[0]}, with(1, func(b []byte) []byte { b[8]++; return b })[1]), false, Unknown, "", "", "", "not completed"},
		{"mac1 changed", with(0, func(b []byte) []byte { b[120] ^= 1; return b })[:1], true, Unknown, "", "", "", "not completed"},
		{"one direction", only(all, false), false, WireGuard, "unseen", "", "", ""},
		{"overtaken", late, false, WireGuard, "unseen", "", "", ""},
		{"captured twice", append(append([]sent(nil), all...), data[0], data[2]), false, WireGuard, "seen", "", "", ""},
		{"two messages", data[:2], false, Unknown, "", "", "", "too few"},
		{"a counter used twice", append(append([]sent(nil), all...), with(2, func(b []byte) []byte { b[40] ^= 1; return b })[2]), false, Unknown, "", "", "", "twice"},
		{"another message", add(5, 0, 0, 0, 1, 2, 3, 4), true, Unknown, "", "", "", "type 0x5"},
		{"another length", add(append([]byte{4, 0, 0, 0}, make([]byte, 29)...)...), true, Unknown, "", "", "", "33 bytes"},
		{"reserved bytes", with(5, func(b []byte) []byte { b[1] = 1; return b }), true, Unknown, "", "", "", "0x104"},
		{"a counter by chance", with(5, func(b []byte) []byte { b[15] = 1; return b }), true, Unknown, "", "", "", "counter"},
		{"text sent too", add([]byte("this is a test\n")...), true, Plaintext, "", "", "", "this is a test"},
		{"text inside", with(5, text), true, Plaintext, "", "", "", "cleartext"},
		{"zeros inside", with(5, func(b []byte) []byte { return append(b[:16], make([]byte, 64)...) }), true, Unknown, "", "", "", "random"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var knows Knowledge
			if tc.knows {
				knows = tunnel.keys
			}
			found := Judge(datagramFlow(capture.UDP, tc.all), knows)
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || (found.Seal == "wireguard") != (tc.want == WireGuard) || !strings.Contains(said, tc.says) {
				t.Fatalf("%s, sealed by %q, saying %q", found.Verdict, found.Seal, said)
			}
			if tc.want != WireGuard {
				return
			}
			if w := found.WireGuard; w.Handshake != tc.handshake || w.Client != tc.client || w.Server != tc.server {
				t.Errorf("found %+v", w)
			}
		})
	}
}

// TestWireGuardWithoutItsHandshake: what is drawn looks like packets that are
// sealed; the numbers before it have to tell.
func TestWireGuardWithoutItsHandshake(t *testing.T) {
	noise := fixedNoise(9000)
	message := func(index, counter byte, size int) []byte {
		at := (int(index)*40 + int(counter)) * 80
		return append([]byte{4, 0, 0, 0, index, 2, 3, 4, counter, 0, 0, 0, 0, 0, 0, 0}, noise[at:at+size]...)
	}
	var ordinary, batches, same []sent
	for i := range byte(8) {
		ordinary = append(ordinary, sent{i%2 == 1, message(i%2, i, 64)})
		batches = append(batches, sent{i%2 == 1, append(append(message(i%2, 4*i, 64), message(i%2, 4*i+1, 64)...), message(i%2, 4*i+2, 32)...)})
		same = append(same, sent{i%2 == 1, message(0, i, 64)})
	}
	for name, tc := range map[string]struct {
		all  []sent
		want Verdict
	}{
		"in turn":                         {ordinary, WireGuard},
		"in batches":                      {batches, WireGuard},
		"one index for both directions":   {same, Unknown},
		"in batches, with others between": {append(batches[:4:4], ordinary[7], sent{false, []byte{9, 0, 0, 0}}), Unknown},
	} {
		if found := judgeSent(capture.UDP, tc.all); found.Verdict != tc.want {
			t.Errorf("%s: %s, %s", name, found.Verdict, found.Reason)
		}
	}
}
