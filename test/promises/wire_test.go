package promises

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/test/lab"
)

// capture is a tcpdump on the uplink of a node.
type capture struct{ *lab.Capture }

// record captures on the uplink of a node, numbered from 1, until stop.
func (m *mesh) record(tb testing.TB, node int, filter string) *capture {
	tb.Helper()
	return recordOn(tb, m.Nodes[node-1].Host, filter)
}

// recordOn captures on the uplink of any host: for a workload that is its own
// link, on which everything it sends is seen.
func recordOn(tb testing.TB, h *lab.Host, filter string) *capture {
	tb.Helper()
	needs(tb, "tcpdump", "tshark")
	c, err := h.Capture(tb.Context(), "eth0", filepath.Join(tb.TempDir(), h.Name+".pcap"), filter)
	must(tb, err)
	return &capture{c}
}

// stop ends a capture. A packet that was not captured would be a hole in the
// proof, so that none may be missing.
func (c *capture) stop(tb testing.TB) *wire {
	tb.Helper()
	stats, err := c.Stop()
	must(tb, err)
	if stats.Dropped > 0 {
		tb.Fatalf("capture: %d packets are missing", stats.Dropped)
	}
	return &wire{file: c.File, packets: stats.Captured}
}

// wire is what was captured.
type wire struct {
	file    string
	packets int
}

// tshark lists the fields of the packets that a display filter selects.
func (w *wire) tshark(tb testing.TB, filter string, fields ...string) [][]string {
	tb.Helper()
	return w.tsharkWith(tb, nil, filter, fields...)
}

func (w *wire) tsharkWith(tb testing.TB, args []string, filter string, fields ...string) [][]string {
	tb.Helper()
	args = append(args, "-n", "-r", w.file, "-Y", filter, "-T", "fields")
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(context.Background(), "tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("tshark: %v: %s", err, stderr.Bytes())
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows
}

// shows reports whether text is in any packet, by tshark's word and by the bytes
// of the file. It must have been sent in one piece.
func (w *wire) shows(tb testing.TB, text string) bool {
	tb.Helper()
	raw, err := os.ReadFile(w.file)
	must(tb, err)
	seen := bytes.Contains(raw, []byte(text))
	judged := len(w.tshark(tb, "frame contains "+colons(text), "frame.number")) > 0
	if seen != judged {
		tb.Fatalf("%q in %s: %v by its bytes, %v by tshark", text, w.file, seen, judged)
	}
	return judged
}

// colons is text as bytes in a display filter: 74:65:73:74.
func colons(text string) string {
	var parts []string
	for _, b := range []byte(text) {
		parts = append(parts, hex.EncodeToString([]byte{b}))
	}
	return strings.Join(parts, ":")
}

// handshake is what tshark reads of one TLS handshake.
type handshake struct{ sni, group, version, cipher string }

// sealed is nil for the only handshake that proxies make with each other:
// X25519MLKEM768, TLS 1.3 and a cipher suite of it.
func (h handshake) sealed(w *lab.Workload) error {
	wanted := handshake{sni: serverName(w), group: "0x11ec", version: "0x0304", cipher: h.cipher}
	if h != wanted || h.cipher != "0x1301" && h.cipher != "0x1303" {
		return fmt.Errorf("handshake is %+v, must be %+v", h, wanted)
	}
	return nil
}

// serverName is the SNI of lanes to a workload.
func serverName(w *lab.Workload) string { return w.Name + "." + namespace + "." + trustDomain }

// handshakes are the TLS handshakes toward a TCP port, in the order of their
// server hellos.
func (w *wire) handshakes(tb testing.TB, port int) []handshake {
	tb.Helper()
	const sni, group, version, cipher = "tls.handshake.extensions_server_name",
		"tls.handshake.extensions_key_share_group", "tls.handshake.extensions.supported_version", "tls.handshake.ciphersuite"
	names := map[string]string{}
	var out []handshake
	// Left to itself tshark would look for mail on port 25.
	decode := []string{"-d", fmt.Sprintf("tcp.port==%d,tls", port)}
	filter := fmt.Sprintf("tcp.port == %d && (tls.handshake.type == 1 || tls.handshake.type == 2)", port)
	for _, row := range w.tsharkWith(tb, decode, filter, "tcp.stream", "tls.handshake.type", sni, group, version, cipher) {
		if row[1] == "1" {
			names[row[0]] = row[2]
			continue
		}
		out = append(out, handshake{sni: names[row[0]], group: hexNumber(row[3]), version: hexNumber(row[4]), cipher: hexNumber(row[5])})
	}
	return out
}

// hexNumber writes a number of tshark's in hex, whichever way it wrote it.
func hexNumber(s string) string {
	var n uint64
	if _, err := fmt.Sscan(s, &n); err != nil {
		return s
	}
	return fmt.Sprintf("0x%04x", n)
}

// wantSealed fails unless all that was sent to a workload's port went in TLS
// handshakes of ours, and none of the secrets is anywhere on the wire.
func (w *wire) wantSealed(tb testing.TB, to *lab.Workload, port int, secrets ...string) {
	tb.Helper()
	shakes := w.handshakes(tb, port)
	if len(shakes) == 0 {
		tb.Errorf("no TLS handshake on port %d", port)
	}
	for _, h := range shakes {
		if err := h.sealed(to); err != nil {
			tb.Errorf("port %d: %v", port, err)
		}
	}
	for _, s := range secrets {
		if w.shows(tb, s) {
			tb.Errorf("%q is on the wire in clear", s)
		}
	}
}
