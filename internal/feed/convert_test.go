package feed

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

var domain = must(id.ParseTrustDomain("demo.local"))

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// goodSnapshot holds one of everything.
func goodSnapshot(anchors []byte) *controlv1.Snapshot {
	return &controlv1.Snapshot{
		Version:  "v1",
		Bundles:  []*controlv1.Bundle{{TrustDomain: "demo.local", AnchorsPem: anchors}},
		Inbound:  controlv1.Mode_MODE_STRICT,
		Outbound: controlv1.Mode_MODE_PERMISSIVE,
		Endpoints: []*controlv1.Endpoint{
			{Workload: "shop/web", Identity: "spiffe://demo.local/ns/shop/sa/web", Addresses: []string{"10.1.0.2", "fd00::2"}},
			{Workload: "shop/db", Identity: "spiffe://demo.local/ns/shop/sa/db", Addresses: []string{"10.1.0.3"}, Ports: []uint32{5432}},
			{Workload: "shop/legacy", Addresses: []string{"::ffff:10.1.0.9"}},
		},
		Services: []*controlv1.Service{
			{Name: "shop/web", Addresses: []string{"10.96.0.1:80"}, Targets: []string{"10.1.0.2:8080"}},
			{Name: "shop/web", Addresses: []string{"[fd00:96::1]:80"}, Targets: []string{"[fd00::2]:8080"}},
		},
		Identities: []string{"spiffe://demo.local/ns/shop/sa/db", "spiffe://demo.local/ns/shop/sa/web"},
	}
}

func anchorPEM() []byte {
	anchor := must(ca.NewAnchor(domain, time.Now()))
	return must(snapshot.NewBundle(domain, []*certificate{anchor.Cert})).PEM()
}

func TestASnapshotSaysWhatItsMessageSaid(t *testing.T) {
	s, err := convert(goodSnapshot(anchorPEM()), domain)
	if err != nil {
		t.Fatal(err)
	}
	web := must(id.Parse("spiffe://demo.local/ns/shop/sa/web"))
	if s.Version != "v1" || s.Inbound != policy.Strict || s.Outbound != policy.Permissive || len(s.Bundles) != 1 || !s.Identities[web] {
		t.Errorf("snapshot %+v", s)
	}
	if s.KeyLog {
		t.Error("the key log is allowed by a message that does not say so")
	}
	allowed := goodSnapshot(anchorPEM())
	allowed.KeyLog = true
	if s, err := convert(allowed, domain); err != nil || !s.KeyLog {
		t.Errorf("the key log that is allowed: %v, %v", s, err)
	}
	for at, want := range map[string]string{
		"10.1.0.2:1": "shop/web", "[fd00::2]:9": "shop/web", "10.1.0.3:5432": "shop/db", "10.1.0.9:80": "shop/legacy",
		"10.1.0.3:80": "", "10.1.0.4:80": "",
	} {
		if e, _ := s.Endpoint(netip.MustParseAddrPort(at)); e.Workload != want {
			t.Errorf("at %s is %q, want %q", at, e.Workload, want)
		}
	}
	if v := s.Services[netip.MustParseAddrPort("[fd00:96::1]:80")]; v.Name != "shop/web" || len(v.Targets) != 1 {
		t.Errorf("service %+v", v)
	}
}

func TestWhatIsMalformedIsRefusedByName(t *testing.T) {
	anchors := anchorPEM()
	tests := map[string]struct {
		spoil func(*controlv1.Snapshot)
		want  string
	}{
		"no version":            {func(s *controlv1.Snapshot) { s.Version = "" }, "no version"},
		"no inbound mode":       {func(s *controlv1.Snapshot) { s.Inbound = 0 }, "inbound mode"},
		"outbound mode":         {func(s *controlv1.Snapshot) { s.Outbound = 9 }, "outbound mode 9"},
		"no bundle":             {func(s *controlv1.Snapshot) { s.Bundles = nil }, "no trust bundle for the own trust domain demo.local"},
		"two bundles":           {func(s *controlv1.Snapshot) { s.Bundles = append(s.Bundles, s.Bundles[0]) }, "two bundles"},
		"bundle without anchor": {func(s *controlv1.Snapshot) { s.Bundles[0].AnchorsPem = nil }, "holds no anchor"},
		"bundle of nobody":      {func(s *controlv1.Snapshot) { s.Bundles[0].TrustDomain = "a/b" }, `trust domain "a/b"`},
		"nil bundle":            {func(s *controlv1.Snapshot) { s.Bundles[0] = nil }, "trust domain"},
		"identity":              {func(s *controlv1.Snapshot) { s.Identities[0] = "web" }, `identity "web"`},
		"foreign identity":      {func(s *controlv1.Snapshot) { s.Identities[0] = "spiffe://other/ns/a/sa/b" }, "must be of the own trust domain"},
		"nameless endpoint":     {func(s *controlv1.Snapshot) { s.Endpoints[0].Workload = "" }, "has no name"},
		"nil endpoint":          {func(s *controlv1.Snapshot) { s.Endpoints[0] = nil }, "has no name"},
		"endpoint's identity":   {func(s *controlv1.Snapshot) { s.Endpoints[0].Identity = "x" }, `endpoint "shop/web": identity "x"`},
		"endpoint's address":    {func(s *controlv1.Snapshot) { s.Endpoints[0].Addresses[0] = "web:80" }, `address "web:80"`},
		"port 0":                {func(s *controlv1.Snapshot) { s.Endpoints[1].Ports[0] = 0 }, "port 0: must be 1 to 65535"},
		"port 65536":            {func(s *controlv1.Snapshot) { s.Endpoints[1].Ports[0] = 65536 }, "port 65536"},
		"address of two":        {func(s *controlv1.Snapshot) { s.Endpoints[2].Addresses[0] = "10.1.0.2" }, "is that of shop/web too"},
		"port of two": {func(s *controlv1.Snapshot) {
			s.Endpoints = append(s.Endpoints, &controlv1.Endpoint{Workload: "a/b", Addresses: []string{"10.1.0.3"}, Ports: []uint32{5432}})
		}, "is that of shop/db too"},
		"nameless service":       {func(s *controlv1.Snapshot) { s.Services[0].Name = "" }, "has no name"},
		"service without target": {func(s *controlv1.Snapshot) { s.Services[0].Targets = nil }, "must have addresses and targets"},
		"service's address":      {func(s *controlv1.Snapshot) { s.Services[0].Addresses[0] = "10.96.0.1" }, `address "10.96.0.1": must be ip:port`},
		"service's port":         {func(s *controlv1.Snapshot) { s.Services[0].Targets[0] = "10.1.0.2:0" }, "must be ip:port"},
		"family":                 {func(s *controlv1.Snapshot) { s.Services[0].Targets[0] = "[fd00::2]:8080" }, "of another family"},
		"service of two":         {func(s *controlv1.Snapshot) { s.Services[1] = s.Services[0] }, "is that of shop/web too"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			msg := goodSnapshot(anchors)
			tt.spoil(msg)
			if _, err := convert(msg, domain); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that names %q", err, tt.want)
			}
		})
	}
	if _, err := convert(nil, domain); err == nil {
		t.Error("no snapshot at all was taken")
	}
}

// FuzzConvert looks for bytes that get past convert and yet do not hold what it
// promises.
func FuzzConvert(f *testing.F) {
	anchors := anchorPEM()
	f.Add(must(proto.Marshal(goodSnapshot(anchors))))
	f.Add(must(proto.Marshal(&controlv1.Snapshot{})))
	f.Fuzz(func(t *testing.T, b []byte) {
		msg := &controlv1.Snapshot{}
		if proto.Unmarshal(b, msg) != nil {
			return
		}
		s, err := convert(msg, domain)
		if err != nil {
			return
		}
		if s.Bundle(domain) == nil || s.Version == "" {
			t.Error("no bundle or no version")
		}
		for i := range s.Identities {
			if i.TrustDomain() != domain {
				t.Errorf("identity %s", i)
			}
		}
		for at, v := range s.Services {
			if len(v.Targets) == 0 || at.Port() == 0 {
				t.Errorf("service at %s: %v", at, v)
			}
		}
		for at := range s.Endpoints {
			if at.Is4In6() {
				t.Errorf("endpoint at %s will not be found", at)
			}
		}
	})
}
