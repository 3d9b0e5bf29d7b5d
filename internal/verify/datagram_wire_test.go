package verify

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// TestQUICOfOthersIsReadAsTsharkReadsIt reads conversations of aioquic 1.7.2,
// captured by tcpdump. tshark shares no code with us.
func TestQUICOfOthersIsReadAsTsharkReadsIt(t *testing.T) {
	for name, version := range map[string]string{
		"v2":         "v2", // from the beginning
		"compatible": "v2", // asked for with version 1, answered with 2
		"negotiated": "v1", // asked for with version 2, which the server refuses
		"retry":      "v1",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "quic", name+".pcap")
			file, err := capture.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(file.Flows) != 1 {
				t.Fatalf("%d flows", len(file.Flows))
			}
			found := Judge(file.Flows[0], Knowledge{})
			if found.Verdict != QUIC || found.TLS.QUICVersion != version {
				t.Fatalf("%s: %s, %+v", found.Verdict, found.Reason, found.TLS)
			}
			tshark, err := exec.LookPath("tshark")
			if err != nil {
				t.Skip("not compared with tshark: it is not installed")
			}
			out, err := exec.CommandContext(t.Context(), tshark, "-r", path, "-d", "udp.port==4433,quic", "-Y", "tls.handshake.type",
				"-T", "fields", "-e", "tls.handshake.random", "-e", "tls.handshake.extensions_server_name", "-e", "tls.handshake.ciphersuite").Output()
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			client, server := strings.Split(lines[0], "\t"), strings.Split(lines[len(lines)-1], "\t")
			if version == "v1" { // aioquic begins anew, with another hello, at which tshark does not look
				client[0] = found.TLS.Random
			}
			if client[0] != found.TLS.Random || client[1] != found.TLS.SNI || found.TLS.SNI != "web.shop.demo.local" {
				t.Errorf("tshark reads %q, we read %+v", client, found.TLS)
			}
			if cipher := map[string]string{"0x1301": "TLS_AES_128_GCM_SHA256", "0x1302": "TLS_AES_256_GCM_SHA384"}[server[2]]; cipher != found.TLS.Cipher {
				t.Errorf("tshark reads cipher suite %s, we read %s", server[2], found.TLS.Cipher)
			}
		})
	}
}

// TestIKEOfOthersIsRead reads conversations of strongSwan 5.9.8, captured by
// tcpdump. In version 2 the first exchange is a flow of its own, in clear.
func TestIKEOfOthersIsRead(t *testing.T) {
	for name, want := range map[string][]Verdict{
		"v1": {IPsec},
		"v2": {Unknown, IPsec},
	} {
		file, err := capture.Open(filepath.Join("testdata", "ike", name+".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		if len(file.Flows) != len(want) {
			t.Fatalf("%s: %d flows", name, len(file.Flows))
		}
		for i, f := range file.Flows {
			found := Judge(f, Knowledge{})
			if found.Verdict != want[i] || want[i] == IPsec && found.Protocol != "ike" {
				t.Errorf("%s, flow %d: %s %s, %s", name, f.Number, found.Verdict, found.Protocol, found.Reason)
			}
		}
	}
}

// TestWhatTheCaptureCutOffShowsLess keeps only the first bytes of each packet.
func TestWhatTheCaptureCutOffShowsLess(t *testing.T) {
	for _, tc := range []struct {
		name string
		all  []sent
		kept int
		want Verdict
	}{
		{"quic", readDatagrams(t, filepath.Join("testdata", "quic", "v2.pcap")), 86, Unknown},
		{"wireguard", recordWireGuard(t).all, 86, WireGuard},
		{"wireguard, headers only", recordWireGuard(t).all[2:], 16, Unknown},
	} {
		f := datagramFlow(capture.UDP, tc.all)
		for _, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
			for i := range d.Chunks {
				c := &d.Chunks[i]
				kept := min(tc.kept, len(c.Data))
				c.Data, c.Cut = c.Data[:kept], len(c.Data)-kept
			}
		}
		if found := Judge(f, Knowledge{}); found.Verdict != tc.want {
			t.Errorf("%s: %s, %s", tc.name, found.Verdict, found.Reason)
		}
	}
}
