package enrol

import (
	"reflect"
	"strings"
	"testing"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
)

func TestOnlyLocalWorkloadsAreEnrolled(t *testing.T) {
	object := func(s mesh.WorkloadSpec) mesh.Workload {
		return mesh.Workload{Header: mesh.Header{Metadata: mesh.Metadata{Namespace: "shop", Name: "web"}}, Spec: s}
	}
	for _, c := range []struct {
		name string
		spec mesh.WorkloadSpec
		want *Workload
	}{
		{"enrolled elsewhere", mesh.WorkloadSpec{Ports: []uint16{80}}, nil},
		{"not to be sealed", mesh.WorkloadSpec{NetNS: "/run/netns/web", Seal: "Disabled"}, nil},
		{"a whole namespace", mesh.WorkloadSpec{NetNS: "/run/netns/web", Ports: []uint16{80}, SkipPorts: []uint16{22}},
			&Workload{Namespace: "shop", Name: "web", NetNS: "/run/netns/web", SkipPorts: []uint16{22}}},
		{"a user", mesh.WorkloadSpec{User: "www", Ports: []uint16{80}, Seal: "Enabled"},
			&Workload{Namespace: "shop", Name: "web", User: "www", Ports: []uint16{80}}},
		{"a cgroup", mesh.WorkloadSpec{Cgroup: "system.slice/web.service"},
			&Workload{Namespace: "shop", Name: "web", Cgroup: "system.slice/web.service"}},
	} {
		got, local := FromObject(object(c.spec))
		if local != (c.want != nil) || local && !reflect.DeepEqual(got, *c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, got, local, c.want)
		}
	}
}

func TestABadListIsRefusedWithEveryReason(t *testing.T) {
	web := Workload{Namespace: "shop", Name: "web", NetNS: "/run/netns/web"}
	for _, c := range []struct {
		name string
		list []Workload
		want []string
	}{
		{"good", []Workload{web, {Namespace: "shop", Name: "db", User: "1"}, {Namespace: "shop", Name: "job", Cgroup: "job"}}, nil},
		{"twice", []Workload{web, web}, []string{"shop/web is listed twice"}},
		{"shared", []Workload{web, {Namespace: "shop", Name: "db", NetNS: web.NetNS, User: "1"}}, []string{"shop/db: network namespace /run/netns/web is all of shop/web"}},
		{"nothing given", []Workload{{Name: "web"}}, []string{"namespace and name must be given", "netns, user or cgroup must be given"}},
		{"both", []Workload{{Namespace: "shop", Name: "web", User: "1", Cgroup: "web"}}, []string{"must be one"}},
	} {
		err := validate(c.list)
		if (err == nil) != (len(c.want) == 0) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", c.name, err, want)
			}
		}
	}
}

func TestConfigIsRefusedWithEveryReason(t *testing.T) {
	_, err := New(Config{})
	if err == nil {
		t.Fatal("an empty configuration is accepted")
	}
	for _, want := range []string{"proxy program", "join tokens", "drain", "log"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	for attempt, most := range []time.Duration{
		200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, 1600 * time.Millisecond,
		3200 * time.Millisecond, 6400 * time.Millisecond, 12800 * time.Millisecond, 25600 * time.Millisecond, longest, longest,
	} {
		for range 100 {
			if d := backoff(attempt); d > most || d < most/2 {
				t.Fatalf("attempt %d waits %s, want %s to %s", attempt, d, most/2, most)
			}
		}
	}
	if d := backoff(1 << 30); d > longest {
		t.Errorf("waits %s", d)
	}
}
