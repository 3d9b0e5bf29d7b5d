package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/enrol"
)

var update = flag.Bool("update", false, "write the golden files anew")

var moment = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func identities() []identity {
	return []identity{
		{
			Workload: "shop/curl", Identity: "spiffe://demo.local/ns/shop/sa/curl", Serial: "554847054355517bacfdc4475f84cf44",
			NotBefore: moment.Add(-time.Hour), NotAfter: moment.Add(23 * time.Hour), Issuer: "CN=demo.local issuer 9716d717,O=Sealmesh",
			IssuerSerial: "9716d7178057c8a4", Connected: true, Node: "n1", Snapshot: "a6b17d148989ffee", Bundles: map[string]string{"demo.local": "0f0f0f0f0f0f0f0f"},
		},
		{
			Workload: "shop/web", Identity: "spiffe://demo.local/ns/shop/sa/web", Serial: "07",
			NotBefore: moment.Add(-48 * time.Hour), NotAfter: moment.Add(-time.Minute), Issuer: "CN=demo.local issuer 9716d717,O=Sealmesh", IssuerSerial: "9716d7178057c8a4",
		},
	}
}

func reports() []*controlv1.WorkloadEdge {
	out := func(peer string, e *controlv1.Edge) *controlv1.WorkloadEdge {
		e.Direction = controlv1.Edge_DIRECTION_OUTBOUND
		return &controlv1.WorkloadEdge{Workload: "shop/curl", PeerWorkload: peer, Edge: e}
	}
	in := func(peer string, e *controlv1.Edge) *controlv1.WorkloadEdge {
		e.Direction = controlv1.Edge_DIRECTION_INBOUND
		return &controlv1.WorkloadEdge{Workload: "shop/web", PeerWorkload: peer, Edge: e}
	}
	return []*controlv1.WorkloadEdge{
		out("shop/web", &controlv1.Edge{Port: 80, Seal: "mtls", Connections: 12, Open: 1, BytesSent: 1_234, BytesReceived: 5_678_901}),
		in("shop/curl", &controlv1.Edge{Port: 80, Seal: "mtls", Connections: 11, Open: 1, BytesSent: 1_200, BytesReceived: 5_678_000}),
		out("", &controlv1.Edge{Peer: "192.0.2.7", Port: 25, Seal: "plaintext", Connections: 3, BytesSent: 999, BytesReceived: 1_000}),
		out("", &controlv1.Edge{Peer: "192.0.2.8", Port: 443, Refused: 2, LastRefusal: "unknown_destination"}),
	}
}

func statuses() []enrol.Status {
	return []enrol.Status{
		{Workload: "shop/curl", PID: 4711, Phase: "redirect", Rules: 19, Since: moment.Add(-90 * time.Second), Admin: 15090},
		{Workload: "shop/web", Phase: "guard", Rules: 6, Since: moment.Add(-3 * time.Second), Failures: 2, Error: "proxy ended: exit status 1"},
	}
}

func TestTablesAreAsTheyWere(t *testing.T) {
	for _, f := range []format{formatTable, formatWide, formatJSON, formatYAML} {
		t.Run(string(f), func(t *testing.T) {
			var b bytes.Buffer
			b.WriteString("# sealmesh identity\n")
			check(t, render(&b, f, identities(), func(l []identity) table { return identityTable(l, moment) }))
			b.WriteString("# sealmesh edges\n")
			check(t, render(&b, f, mergeEdges(reports()), edgesTable))
			b.WriteString("# sealmesh status\n")
			check(t, render(&b, f, statuses(), func(l []enrol.Status) table { return statusTable(l, moment) }))
			golden(t, string(f)+".golden", b.Bytes())
		})
	}
}

func TestNothingIsAnEmptyListNotNull(t *testing.T) {
	var b bytes.Buffer
	check(t, render(&b, formatJSON, []edge(nil), edgesTable))
	if b.String() != "[]\n" {
		t.Errorf("printed %q", b.String())
	}
}

func TestSizesAndSpansReadWell(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1_000: "1.0 KB", 999_949: "999.9 KB", 999_950: "1.0 MB", 1<<64 - 1: "18.4 EB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 24*time.Hour - time.Second: "23h59m", 50 * time.Hour: "2d2h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		check(t, os.WriteFile(path, got, 0o644)) //nolint:gosec // a golden file is for everyone
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (write it anew with -update):\n%s", path, got)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
