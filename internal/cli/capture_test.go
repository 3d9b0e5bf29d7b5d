package cli

import (
	"bufio"
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCaptureShowsNamesDirectionsAndVerdicts(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "shop.pcapng")
	r := start(t, nil, "capture", "shop/web", "workload/shop/cart", "-f", s.mesh, "-w", file).await("capturing shop/web/eth0, shop/cart/eth0")
	s.sealed(t)
	s.clear(t, "GET / HTTP/1.1\r\nHost: web\r\n\r\n")
	said := r.stop(0)
	for _, want := range []string{"loopback is left out", "shop/web/eth0 ", "0 dropped by the kernel", "wrote " + file} {
		if !strings.Contains(said, want) {
			t.Errorf("never said %q:\n%s", want, said)
		}
	}
	syn := tshark(t, file, "tcp.dstport==2929 && tcp.flags.syn==1", "frame.interface_name", "ip.src_host", "ip.dst_host", "frame.packet_flags_direction")
	lines := strings.Split(strings.TrimSpace(syn), "\n")
	slices.Sort(lines)
	want := []string{"shop/cart/eth0|cart.shop|web.shop|0x00000002", "shop/web/eth0|cart.shop|web.shop|0x00000001"}
	if !slices.Equal(lines, want) {
		t.Errorf("tshark reads %q, want %q", lines, want)
	}
	comments := tshark(t, file, "frame.comment", "frame.interface_name", "frame.comment")
	for _, iface := range []string{"shop/web/eth0", "shop/cart/eth0"} {
		for _, want := range []string{
			"|sealmesh: tls 1.3 TLS_AES_256_GCM_SHA384 ", ", web.shop.demo.local\n", "|sealmesh: plaintext http: GET / HTTP/1.1",
		} {
			if !strings.Contains(comments, want) {
				t.Errorf("no comment %s %q in\n%s", iface, want, comments)
			}
		}
	}
	if n := strings.Count(comments, "\n"); n != 4 {
		t.Errorf("%d comments, want one for each flow at either end:\n%s", n, comments)
	}
	if other := tshark(t, file, "frame.interface_description contains \"spiffe://demo.local/ns/shop/sa/cart, on node n1; inbound is toward it\"", "frame.number"); other == "" {
		t.Error("no description says who cart is")
	}
}

func TestCaptureTakesLoopbackOnlyWhenAsked(t *testing.T) {
	s := newShop(t)
	pc, err := s.web.ListenPacket("udp", ":4001")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, ""},
		{[]string{"--loopback"}, "shop/web/lo|127.0.0.1\n"},
		{[]string{"--loopback", "--not-loopback"}, ""},
	} {
		file := filepath.Join(t.TempDir(), "lo.pcapng")
		r := start(t, nil, append([]string{"capture", "shop/web", "-f", s.mesh, "-w", file}, tc.args...)...).await("capturing")
		c, err := s.web.Dial(t.Context(), "udp", "127.0.0.1:4001")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("inside")); err != nil {
			t.Fatal(err)
		}
		c.Close()
		said := r.stop(0)
		if got := tshark(t, file, "udp.port==4001", "frame.interface_name", "ip.src"); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.args, got, tc.want)
		}
		if left := strings.Contains(said, "loopback is left out"); left != (tc.args == nil) {
			t.Errorf("%q: said\n%s", tc.args, said)
		}
	}
}

func TestCaptureFilters(t *testing.T) {
	s := newShop(t)
	for _, tc := range []struct {
		args []string
		any  bool
	}{
		{[]string{"--port", "2929", "--proto", "tcp", "--peer", "shop/web"}, true},
		{[]string{"--peer", s.cart.Addr4.String()}, true},
		{[]string{"--port", "2930"}, false},
		{[]string{"--peer", "192.0.2.0/24"}, false},
		{[]string{"--proto", "esp,sctp"}, false},
	} {
		file := filepath.Join(t.TempDir(), "filtered.pcapng")
		r := start(t, nil, append([]string{"capture", "shop/web", "-f", s.mesh, "-w", file}, tc.args...)...).await("capturing")
		s.clear(t, "hello")
		r.stop(0)
		if n := packets(t, file); n > 0 != tc.any {
			t.Errorf("%q: %d packets", tc.args, n)
		}
	}
}

func TestCaptureEndsWhenItHasEnough(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "few.pcapng")
	r := start(t, nil, "capture", "shop/web", "-f", s.mesh, "-w", file, "--count", "3", "--port", "2929").await("capturing")
	s.clear(t, "hello")
	if code, said := r.wait(); code != 0 || packets(t, file) != 3 {
		t.Errorf("exit code %d, %d packets:\n%s", code, packets(t, file), said)
	}
	if code, said := start(t, nil, "capture", "shop/web", "-f", s.mesh, "-w", file, "--for", "1ms").wait(); code != 0 {
		t.Errorf("exit code %d:\n%s", code, said)
	}
}

func TestCaptureOfANodeIsItsUplinks(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "node.pcapng")
	start(t, nil, "capture", "node/n1", "-f", s.mesh, "-w", file).await("capturing n1/eth0\n").stop(0)
	start(t, nil, "capture", "netns/"+s.web.Host.Name, "netns/"+s.web.Path(), "-w", file).await("capturing " + s.web.Host.Name + "/eth0\n").stop(0)
}

func TestCaptureOfAWorkloadThatGoesAwayIsNotWhole(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "cut.pcapng")
	r := start(t, nil, "capture", "shop/web", "-f", s.mesh, "-w", file).await("capturing")
	run(t, s.web.Host, "", "ip", "link", "del", "eth0")
	if code, said := r.wait(); code != 2 || !strings.Contains(said, "the capture is not whole: capture shop/web/eth0: the interface went away") {
		t.Errorf("exit code %d:\n%s", code, said)
	}
	packets(t, file) // it can be read
	// And whoever judges the file knows.
	again := start(t, nil, "verify", "--read", file, "-o", "json")
	if code, said := again.wait(); code != 3 || !strings.Contains(again.out.String(), "has no end: its capture was killed or lost an interface") {
		t.Errorf("exit code %d:\n%s\n%s", code, said, again.out.String())
	}
}

func TestCaptureSaysWhatItMissed(t *testing.T) {
	s := newShop(t)
	file := filepath.Join(t.TempDir(), "more.pcapng")
	r := start(t, nil, "capture", "shop/web", "-f", s.mesh, "-w", file).await("capturing")
	run(t, s.web.Host, "", "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
	run(t, s.web.Host, "", "ip", "link", "set", "eth1", "up")
	if said := r.stop(2); !strings.Contains(said, "shop/web/eth1 came up during the capture, and was not captured") {
		t.Errorf("said\n%s", said)
	}
}

// A reader at the other end of a pipe sees packets while the capture runs.
func TestCaptureStreamsAsItGoes(t *testing.T) {
	need(t, "tshark")
	s := newShop(t)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader := exec.CommandContext(t.Context(), "tshark", "-l", "-i", "-", "-N", "n", "-T", "fields", "-e", "frame.comment", "-e", "ip.src_host", "-Y", "frame.comment")
	reader.Stdin = in
	lines, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	r := start(t, out, "capture", "shop/web", "-f", s.mesh, "-w", "-").await("capturing")
	s.clear(t, "GET /live HTTP/1.1\r\n\r\n")
	line, err := bufio.NewReader(lines).ReadString('\n')
	if err != nil || !strings.Contains(line, "plaintext http: GET /live HTTP/1.1") {
		t.Errorf("tshark said %q, %v", line, err)
	}
	// Nobody reads any more: the capture ends in order.
	_ = reader.Process.Kill()
	_ = reader.Wait()
	s.clear(t, "once more")
	r.stop(0)
	out.Close()
}

func TestCaptureGoesRound(t *testing.T) {
	s := newShop(t)
	dir := t.TempDir()
	r := start(t, nil, "capture", "shop/web", "-f", s.mesh, "-w", filepath.Join(dir, "ring.pcapng"), "--file-size", "64KiB", "--files", "2").await("capturing")
	pc, err := s.web.ListenPacket("udp", ":4001")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c, err := s.cart.Dial(t.Context(), "udp", netip.AddrPortFrom(s.web.Addr4, 4001).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 300 {
		if _, err := c.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	r.stop(0)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 || filepath.Base(files[1]) == "ring_00002.pcapng" {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		if got := tshark(t, file, "udp.port==4001 && ip.src_host==\"cart.shop\"", "frame.number"); got == "" {
			t.Errorf("%s: no packet of cart by its name", file)
		}
	}
}

func TestCaptureRefusesWhatMakesNoSense(t *testing.T) {
	s := newShop(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"web", "-w", "x"}, `target "web": must be workload/NAMESPACE/NAME, node/NAME`},
		{[]string{"workload/web", "-w", "x"}, `must be workload/NAMESPACE/NAME`},
		{[]string{"node/", "-w", "x"}, `the name is missing`},
		{[]string{"shop/nobody", "-w", "x"}, "workload shop/nobody: there is none in"},
		{[]string{"node/n9", "-w", "x"}, "node n9: there is none in"},
		{[]string{"iface/nosuch0", "-w", "x"}, "nosuch0"},
		{[]string{"netns/no-such", "-w", "x"}, "no-such"},
		{[]string{"shop/web"}, "-w: no file is named"},
		{[]string{"shop/web", "-w", "x", "--port", "http"}, `port "http": must be 1 to 65535`},
		{[]string{"shop/web", "-w", "x", "--proto", "tpc"}, `protocol "tpc": must be one of esp, icmp`},
		{[]string{"shop/web", "-w", "x", "--peer", "nobody"}, `peer "nobody": must be an address`},
		{[]string{"shop/web", "-w", "x", "--files", "3"}, "number of files without a file size"},
		{[]string{"shop/web", "-w", "x", "--file-size", "10parsec"}, "must be a size such as"},
		{[]string{"shop/web", "-w", "-", "--file-size", "10MB"}, "standard output is one stream"},
		{[]string{"shop/web", "-w", "x", "--snaplen", "-1"}, "--snaplen -1: must be 1 to"},
		{[]string{"shop/web", "-w", filepath.Join(s.mesh, "no", "such")}, "no such file or directory"},
	} {
		r := start(t, nil, append([]string{"capture", "-f", s.mesh}, tc.args...)...)
		if code, said := r.wait(); code != 2 || !strings.Contains(said, tc.want) {
			t.Errorf("%q: exit code %d, want 2 and %q:\n%s", tc.args, code, tc.want, said)
		}
	}
}

// The keys of a session come into the file before its packets, so that Wireshark
// reads what was said; nobody else's keys do.
func TestCaptureHoldsKeysBeforeWhatTheyOpen(t *testing.T) {
	need(t, "openssl", "tshark")
	s := newShop(t)
	keyLog, file := filepath.Join(t.TempDir(), "keys.log"), filepath.Join(t.TempDir(), "open.pcapng")
	r := &runningCommand{t: t, code: make(chan int, 1), said: make(chan struct{})}
	var asked []string
	o := captureOptions{
		targets: []target{{targetWorkload, "shop/web"}}, dir: s.mesh, write: file, comments: true, stdout: io.Discard, stderr: r,
		decrypt: func(context.Context, atlas) (askKeys, error) {
			return func(_ context.Context, randoms []string) ([]byte, error) {
				asked = append(asked, randoms...)
				b, _ := os.ReadFile(keyLog)
				return b, nil
			}, nil
		},
	}
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.run(ctx) }()
	r.await("capturing")
	s.certificate(t)
	serve(t, s.web.Host, "ACCEPT", "openssl", "s_server", "-accept", "4433", "-cert", s.cert, "-key", s.key, "-naccept", "1", "-rev")
	run(t, s.cart.Host, "GET /secret HTTP/1.1\r\nHost: web\r\n\r\n", "openssl", "s_client", "-connect", s.web.Addr4.String()+":4433", "-keylogfile", keyLog, "-alpn", "sealmesh/1")
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	said, _ := r.told()
	if !strings.Contains(said, "holds the keys of 1 session:") {
		t.Errorf("asked for %q, said\n%s", asked, said)
	}
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", file, "-d", "tls.port==4433,http", "-Y", "http.request", "-T", "fields", "-e", "http.request.uri").Output()
	if err != nil || string(out) != "/secret\n" {
		t.Errorf("tshark reads %q, %v", out, err)
	}
}
