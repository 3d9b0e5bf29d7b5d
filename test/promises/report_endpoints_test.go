package promises

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/proxy"
	"github.com/sealmesh/sealmesh/test/lab"
)

// What a proxy tells of itself it tells the workload, and nobody else more than
// that it lives and is ready.
func TestEndpointsTellStrangersAlmostNothing(t *testing.T) {
	m := newMesh(t)
	outsider := m.add(t, 1, "outsider", stranger)
	m.start(t)
	for _, c := range []struct {
		path, body string // a part of the body
		beyond     int    // status beyond loopback
	}{
		{"/live", "live\n", http.StatusOK},
		{"/ready", "ready\n", http.StatusOK},
		{"/admin/ping", "pong\n", http.StatusForbidden},
		{"/metrics", "\nsealmesh_lanes_open 0\n", http.StatusForbidden},
		{"/connections", `"identity": "spiffe://` + trustDomain + `/ns/demo/sa/receiver"`, http.StatusForbidden},
		{"/debug/pprof/", "", http.StatusForbidden},
	} {
		status, body := ask(t, m.Receiver, c.path)
		if want := http.StatusOK; c.body != "" && (status != want || !strings.Contains(string(body), c.body)) {
			t.Errorf("%s says %d %.300s", c.path, status, body)
		}
		if c.body == "" && status != http.StatusNotFound {
			t.Errorf("%s says %d", c.path, status)
		}
		for _, from := range []*lab.Workload{m.Sender, outsider} {
			if got := askFrom(t, from, m.Receiver, c.path); got != c.beyond {
				t.Errorf("%s says %d to %s, want %d", c.path, got, from.Name, c.beyond)
			}
		}
	}
}

// askFrom gets a page of the admin endpoint of another workload's proxy and
// returns the status.
func askFrom(tb testing.TB, from, to *lab.Workload, path string) int {
	tb.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: from.Dial}}
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, "http://"+at(to, ports.Admin).String()+path, http.NoBody)
	must(tb, err)
	res, err := client.Do(req)
	must(tb, err)
	defer res.Body.Close()
	return res.StatusCode
}

// What /connections says of a lane is what was on the wire: whoever has a capture
// can find the identities of both ends in it.
//
//	sender ── lane ─┬─▶ receiver
//	                └ tshark: addresses and ports, random of the ClientHello
func TestConnectionsMatchTheWire(t *testing.T) {
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	seen := m.record(t, 2, "tcp port 2929")
	c := converse(t, m.Sender, m.Receiver)
	reports := map[string]*lab.Workload{"outbound": m.Sender, "inbound": m.Receiver}
	lanes := map[string]string{}
	for direction, w := range reports {
		var r proxy.Report
		// Bytes are counted once they are on their way, which the client may see first.
		eventually(t, w.Name+" has counted both ways", func() bool {
			r = connections(t, w)
			if len(r.Connections) != 1 || len(r.Lanes) != 1 {
				t.Fatalf("%s lists %d connections and %d lanes", w.Name, len(r.Connections), len(r.Lanes))
			}
			return r.Connections[0].Sent > 0 && r.Connections[0].Received > 0
		})
		conn, lane := r.Connections[0], r.Lanes[0]
		if string(conn.Direction) != direction || conn.Seal != "mtls" || conn.Sent != 4 || conn.Received != 4 || conn.Lane != lane.HelloRandom {
			t.Errorf("%s says of the connection: %+v", w.Name, conn)
		}
		if direction == "outbound" && conn.Client.String() != c.LocalAddr().String() || conn.Server != at(m.Receiver, appPort) {
			t.Errorf("%s says it goes from %s to %s", w.Name, conn.Client, conn.Server)
		}
		if lane.Cipher != "TLS_AES_128_GCM_SHA256" && lane.Cipher != "TLS_CHACHA20_POLY1305_SHA256" || lane.Group != "X25519MLKEM768" || !lane.Busy || lane.Streams != 1 {
			t.Errorf("%s says of the lane: %+v", w.Name, lane)
		}
		ends := []string{lane.Local, lane.Peer}
		slices.Sort(ends)
		if want := []string{"receiver", "sender"}; ends[0] != "spiffe://"+trustDomain+"/ns/demo/sa/"+want[0] || ends[1] != "spiffe://"+trustDomain+"/ns/demo/sa/"+want[1] {
			t.Errorf("%s says that %s", w.Name, ends)
		}
		lanes[direction] = fmt.Sprintf("%s -> %s %s", lane.Client, lane.Server, lane.HelloRandom)
		if serial := connections(t, other(m, w)).Lanes[0].PeerSerial; serial != m.serialOf(t, w.Name) {
			t.Errorf("the peer of %s saw certificate %s, its own is %s", w.Name, serial, m.serialOf(t, w.Name))
		}
	}
	if lanes["outbound"] != lanes["inbound"] {
		t.Errorf("the ends do not agree: %v", lanes)
	}
	must(t, c.Close())
	rows := seen.stop(t).tshark(t, "tls.handshake.type == 1", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", "tls.handshake.random")
	if len(rows) != 1 {
		t.Fatalf("%d ClientHellos on the wire: %v", len(rows), rows)
	}
	row := rows[0]
	random, err := hex.DecodeString(strings.ReplaceAll(row[4], ":", ""))
	must(t, err)
	if wire := fmt.Sprintf("%s:%s -> %s:%s %x", row[0], row[1], row[2], row[3], random); wire != lanes["outbound"] {
		t.Errorf("on the wire: %s\nthe proxies say: %s", wire, lanes["outbound"])
	}
}

// other is the workload of the two that w is not.
func other(m *mesh, w *lab.Workload) *lab.Workload {
	if w == m.Sender {
		return m.Receiver
	}
	return m.Sender
}

// Each connection leaves one line in the log of each proxy on its way, at its end,
// with the keys of internal/obs; and one row, on both sides, in `sealmesh edges`.
func TestEachConnectionIsOneLine(t *testing.T) {
	t.Parallel() // most of it is waiting for reports
	m := newMesh(t)
	outsider := m.add(t, 2, "outsider", stranger)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	from := m.mark()
	const count = 5
	for range count {
		must(t, tryEcho(t, m.Sender, m.Receiver, appPort))
	}
	if tryEcho(t, m.Sender, outsider, appPort) == nil || tryEcho(t, outsider, m.Receiver, appPort) == nil {
		t.Fatal("strict lets strangers pass")
	}
	ended := func(direction string) func(entry) bool { return has("msg", "connection", "direction", direction) }
	for _, direction := range []string{"outbound", "inbound"} {
		eventually(t, "lines of "+direction, func() bool { return len(m.logged(from, ended(direction))) == count+1 })
		for _, e := range m.logged(from, ended(direction)) {
			keys := slices.Sorted(maps.Keys(e))
			want := []string{"bytes_received", "bytes_sent", "client", "direction", "duration", "level", "msg", "peer", "seal", "server", "time"}
			if e.text("reason") != "" {
				want = []string{"bytes_received", "bytes_sent", "client", "detail", "direction", "duration", "level", "msg", "reason", "seal", "server", "time"}
			}
			if !slices.Equal(keys, want) {
				t.Errorf("%s: keys are %v, want %v", direction, keys, want)
			}
		}
	}
	served := m.logged(from, has("msg", "connection", "seal", "mtls", "bytes_sent", "4", "bytes_received", "4"))
	served = append(served, m.logged(from, has("msg", "connection", "seal", "mtls", "bytes_sent", "8", "bytes_received", "8"))...)
	if len(served) != 2*count {
		t.Errorf("%d lines tell of what was carried, want %d", len(served), 2*count)
	}
	for _, want := range []string{
		`(?m)^demo/sender +demo/receiver +2929 +mutual TLS +5 +0 +40 B +40 B +0$`,
		`(?m)^demo/sender +` + outsider.Addr4.String() + ` +2929 +refused +0 +0 +0 B +0 B +1$`,
		`(?m)^` + outsider.Addr4.String() + ` +demo/receiver +2929 +refused +0 +0 +0 B +0 B +1$`,
	} {
		table := ""
		eventually(t, "edges like "+want, func() bool {
			var err error
			table, err = m.sealmesh(t.Context(), "edges")
			must(t, err)
			return regexp.MustCompile(want).MatchString(table)
		})
	}
}

// metricRow is a row of a table of docs/metrics.md, up to its labels.
var metricRow = regexp.MustCompile("(?m)^\\| `(sealmesh_[a-z_]+)` \\| (counter|gauge|histogram) \\|([^|\n]*)\\|")

// The metrics are those that docs/metrics.md lists, with those labels, and no peer
// that comes makes them more.
func TestMetricsAreThoseOfTheirPage(t *testing.T) {
	m := newMesh(t)
	var crowd []*lab.Workload
	for n := range 12 {
		crowd = append(crowd, m.add(t, 1, "outsider"+strconv.Itoa(n), stranger))
	}
	m.objects.mesh.Spec.MTLS.Inbound = permissive
	m.write(t)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	visit := func(w *lab.Workload) {
		must(t, tryEcho(t, w, m.Receiver, appPort))
		_ = tryEcho(t, m.Sender, w, appPort) // refused: outbound is strict
	}
	must(t, tryEcho(t, m.Sender, m.Receiver, appPort))
	visit(crowd[0])

	page, err := os.ReadFile("../../docs/metrics.md")
	must(t, err)
	proxies, _, _ := strings.Cut(string(page), "## The control plane")
	documented := map[string]string{}
	for _, row := range metricRow.FindAllStringSubmatch(proxies, -1) {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return strings.ContainsRune(" ,`", r) })
		slices.Sort(labels)
		documented[row[1]] = strings.Join(labels, " ")
	}
	for name, labels := range documented {
		found := false
		for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
			for series := range metrics(t, w) {
				found = found || metricName(series) == name
			}
		}
		if !found {
			t.Errorf("%s{%s} is documented, and there is none", name, labels)
		}
	}
	few := map[*lab.Workload]int{}
	for _, w := range []*lab.Workload{m.Sender, m.Receiver} {
		for series := range metrics(t, w) {
			few[w]++
			name := metricName(series)
			if !strings.HasPrefix(name, "sealmesh_") {
				continue // of the process itself
			}
			labels, listed := documented[name]
			if got := metricLabels(series); !listed || got != labels {
				t.Errorf("%s has labels %q, documented are %q (listed %v)", name, got, labels, listed)
			}
		}
	}
	for _, w := range crowd[1:] {
		visit(w)
	}
	for w, before := range few {
		if now := len(metrics(t, w)); now != before {
			t.Errorf("%s has %d series, and %d after %d more peers", w.Name, before, now, len(crowd)-1)
		}
	}
}

// metricName is the name of a series as its page has it: that of a histogram
// stands for its parts.
func metricName(series string) string {
	name, _, _ := strings.Cut(series, "{")
	if strings.Contains(name, "_seconds_") {
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			name = strings.TrimSuffix(name, part)
		}
	}
	return name
}

var labelName = regexp.MustCompile(`([a-z_]+)="`)

// metricLabels are the names of a series' labels, without that of a bucket.
func metricLabels(series string) string {
	var names []string
	for _, found := range labelName.FindAllStringSubmatch(series, -1) {
		if found[1] != "le" {
			names = append(names, found[1])
		}
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}
