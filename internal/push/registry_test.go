package push_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/push"
)

// clock is a clock that stands still until it is moved.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func newRegistry() (*push.Registry, *clock) {
	c := &clock{time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	return push.NewRegistry(c.now), c
}

func leafOf(t *testing.T, account string, c *clock) push.Leaf {
	t.Helper()
	i, err := id.Parse("spiffe://demo.local/ns/shop/sa/" + account)
	if err != nil {
		t.Fatal(err)
	}
	return push.Leaf{Workload: "shop/" + account, Identity: i, Serial: "2a", NotBefore: c.t, NotAfter: c.t.Add(24 * time.Hour)}
}

func connect(t *testing.T, r *push.Registry, leaf push.Leaf, instance string) func() {
	t.Helper()
	disconnect, err := r.Connect(leaf, instance)
	if err != nil {
		t.Fatal(err)
	}
	return disconnect
}

func report(t *testing.T, r *push.Registry, workload, instance string, edges ...*controlv1.Edge) {
	t.Helper()
	err := r.Report(workload, &controlv1.ReportRequest{
		Instance: instance, SnapshotVersion: "v-" + instance,
		BundleVersions: map[string]string{"demo.local": "b1"}, Edges: edges,
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStatusesFollowTheProxy(t *testing.T) {
	r, c := newRegistry()
	leaf := leafOf(t, "web", c)
	r.Issued(leaf)
	if s := r.Statuses(); len(s) != 1 || s[0].Connected || s[0].Serial != "2a" {
		t.Fatalf("after issuing: %+v", s)
	}
	disconnect := connect(t, r, leaf, "one")
	report(t, r, "shop/web", "one")
	if s := r.Statuses()[0]; !s.Connected || s.SnapshotVersion != "v-one" || s.BundleVersions["demo.local"] != "b1" {
		t.Errorf("connected: %+v", s)
	}
	renewed := leaf
	renewed.Serial, renewed.NotAfter = "2b", leaf.NotAfter.Add(time.Hour)
	r.Issued(renewed)
	reconnect := connect(t, r, leaf, "one") // still with the old leaf
	if s := r.Statuses()[0]; s.Serial != "2b" {
		t.Errorf("an older leaf displaced the newer one: %+v", s)
	}
	disconnect()
	disconnect()
	if n := r.Connected(); n != 1 {
		t.Errorf("%d connected, want 1: disconnecting twice counts once", n)
	}
	reconnect()
	if s := r.Statuses()[0]; s.Connected || r.Connected() != 0 {
		t.Errorf("disconnected: %+v", s)
	}
}

func TestProxiesAreForgottenTenMinutesAfterTheyHaveGone(t *testing.T) {
	r, c := newRegistry()
	leaf := leafOf(t, "web", c)
	edge := &controlv1.Edge{Peer: "10.1.0.9", Port: 80, Seal: "plaintext", Connections: 1, Open: 1}
	disconnect := connect(t, r, leaf, "one")
	report(t, r, "shop/web", "one", edge)
	c.t = c.t.Add(time.Hour)
	if len(r.Edges()) != 1 {
		t.Fatal("a proxy that is connected was forgotten")
	}
	disconnect()
	c.t = c.t.Add(push.Memory - time.Second)
	if e := r.Edges(); len(e) != 1 || e[0].Edge.Open != 0 {
		t.Fatalf("just before: %v, want the edge, with nothing open", e)
	}
	c.t = c.t.Add(time.Minute)
	if e := r.Edges(); len(e) != 0 {
		t.Errorf("after: %v", e)
	}
	if len(r.Statuses()) != 1 {
		t.Error("the leaf was forgotten while it is valid")
	}
	c.t = leaf.NotAfter.Add(time.Minute)
	if s := r.Statuses(); len(s) != 0 {
		t.Errorf("the leaf outlived its validity: %+v", s)
	}
}

func TestEdgesOfOneWorkloadsProxiesAreSummed(t *testing.T) {
	r, c := newRegistry()
	leaf := leafOf(t, "web", c)
	connect(t, r, leaf, "new")
	connect(t, r, leaf, "old")()
	edge := func(n uint64) *controlv1.Edge {
		return &controlv1.Edge{
			Direction: controlv1.Edge_DIRECTION_INBOUND, Peer: "spiffe://demo.local/ns/shop/sa/curl", Port: 80,
			Seal: "mtls", Connections: n, BytesSent: 10 * n, BytesReceived: 20 * n, Open: n, Refused: n,
		}
	}
	report(t, r, "shop/web", "old", edge(3))
	report(t, r, "shop/web", "new", edge(4))
	report(t, r, "shop/web", "new", edge(5)) // counters go on, they do not add up
	got := r.Edges()
	if len(got) != 1 {
		t.Fatalf("%d edges, want 1", len(got))
	}
	e := got[0].Edge
	if e.Connections != 8 || e.BytesSent != 80 || e.BytesReceived != 160 || e.Refused != 8 || e.Open != 5 {
		t.Errorf("sum %v", e)
	}
}

func TestTheRegistryIsBounded(t *testing.T) {
	r, c := newRegistry()
	leaf := leafOf(t, "web", c)
	var first func()
	for n := range push.MaxInstances {
		disconnect := connect(t, r, leaf, fmt.Sprint(n))
		if n == 0 {
			first = disconnect
		}
	}
	if _, err := r.Connect(leaf, "one more"); !errors.Is(err, push.ErrTooMany) {
		t.Errorf("error %v, want ErrTooMany", err)
	}
	first()
	connect(t, r, leaf, "in place of the one that has gone")

	edges := make([]*controlv1.Edge, 2*push.MaxEdges)
	for n := range edges {
		edges[n] = &controlv1.Edge{Peer: fmt.Sprintf("10.1.%d.%d", n/256, n%256), Seal: "mtls"}
	}
	report(t, r, "shop/web", "1", edges...)
	if n := len(r.Edges()); n != push.MaxEdges {
		t.Errorf("%d edges kept, want %d", n, push.MaxEdges)
	}
}

func TestReportsNeedAWatch(t *testing.T) {
	r, c := newRegistry()
	connect(t, r, leafOf(t, "web", c), "one")
	for _, tt := range []struct{ workload, instance string }{{"shop/web", "two"}, {"shop/db", "one"}} {
		err := r.Report(tt.workload, &controlv1.ReportRequest{Instance: tt.instance})
		if !errors.Is(err, push.ErrNotWatching) {
			t.Errorf("%+v: error %v, want ErrNotWatching", tt, err)
		}
	}
}

func TestWhatDoesNotReadAsAnEdgeIsDropped(t *testing.T) {
	r, c := newRegistry()
	connect(t, r, leafOf(t, "web", c), "one")
	report(t, r, "shop/web", "one",
		&controlv1.Edge{Peer: "10.1.0.9", Port: 80, Seal: "plaintext", LastRefusal: "plaintext"},
		&controlv1.Edge{Peer: "\x1b[2J", Port: 80, Seal: "mtls"},
		&controlv1.Edge{Peer: "10.1.0.9", Port: 70000, Seal: "mtls"},
		&controlv1.Edge{Peer: "10.1.0.9", Port: 80, Seal: "magic"},
		&controlv1.Edge{Peer: "10.1.0.8", Port: 80, Seal: "mtls", LastRefusal: "a\x1b[0m"},
	)
	if e := r.Edges(); len(e) != 1 || e[0].Edge.LastRefusal != "plaintext" {
		t.Errorf("kept %v, want the first alone", e)
	}
}
