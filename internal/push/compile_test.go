package push_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/push"
)

var update = flag.Bool("update", false, "write what the tests see to the golden files")

// readState reads a state from testdata; trust anchor and issuer are the same in
// all of them.
func readState(t *testing.T, name string) *platform.State {
	t.Helper()
	var objects struct {
		Mesh      mesh.Mesh       `json:"mesh"`
		Workloads []mesh.Workload `json:"workloads"`
		Services  []mesh.Service  `json:"services"`
	}
	if err := yaml.UnmarshalStrict(readFile(t, name), &objects); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	block, _ := pem.Decode(readFile(t, "issuer.pem"))
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	bundle := mesh.TrustBundle{Spec: mesh.TrustBundleSpec{Anchors: string(readFile(t, "anchor.pem"))}}
	bundle.Metadata.Name = objects.Mesh.Spec.TrustDomain
	return &platform.State{
		Mesh:      objects.Mesh,
		Bundles:   []mesh.TrustBundle{bundle},
		Workloads: objects.Workloads,
		Services:  objects.Services,
		Issuer:    platform.Issuer{Chain: []*x509.Certificate{issuer}},
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compile(t *testing.T, state *platform.State) *push.View {
	t.Helper()
	v, err := push.Compile(state)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCompileMatchesGoldens(t *testing.T) {
	for _, name := range []string{"mesh", "strict"} {
		t.Run(name, func(t *testing.T) {
			raw, err := protojson.Marshal(compile(t, readState(t, name+".yaml")).Snapshot)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, raw, "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			golden := name + ".golden.json"
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", golden), got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, golden); !bytes.Equal(got.Bytes(), want) {
				t.Errorf("%s differs; run with -update and read the diff. got:\n%s", golden, got.Bytes())
			}
		})
	}
}

func TestVersionNamesTheContentAndNothingElse(t *testing.T) {
	version := func(change func(*platform.State)) string {
		state := readState(t, "mesh.yaml")
		change(state)
		return compile(t, state).Snapshot.Version
	}
	base := version(func(*platform.State) {})
	same := map[string]func(*platform.State){
		"another state version": func(s *platform.State) { s.Version = "other" },
		"order of addresses":    func(s *platform.State) { slices.Reverse(s.Workloads[4].Spec.Addresses) },
		"order of ports":        func(s *platform.State) { slices.Reverse(s.Workloads[2].Spec.Ports) },
		"a label nobody uses":   func(s *platform.State) { s.Workloads[0].Metadata.Labels = map[string]string{"a": "b"} },
	}
	for what, change := range same {
		if got := version(change); got != base {
			t.Errorf("%s changed the version", what)
		}
	}
	others := map[string]func(*platform.State){
		"inbound mode":      func(s *platform.State) { s.Mesh.Spec.MTLS.Inbound = "Permissive" },
		"outbound mode":     func(s *platform.State) { s.Mesh.Spec.MTLS.Outbound = "Strict" },
		"a workload gone":   func(s *platform.State) { s.Workloads = s.Workloads[1:] },
		"an address":        func(s *platform.State) { s.Workloads[0].Spec.Addresses = []string{"10.9.9.9"} },
		"seal":              func(s *platform.State) { s.Workloads[0].Spec.Seal = "Disabled" },
		"a service's label": func(s *platform.State) { s.Workloads[5].Metadata.Labels = nil },
		"the issuer": func(s *platform.State) {
			block, _ := pem.Decode(readFile(t, "anchor.pem"))
			anchor, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			s.Issuer.Chain = []*x509.Certificate{anchor}
		},
	}
	for what, change := range others {
		if got := version(change); got == base {
			t.Errorf("%s did not change the version", what)
		}
	}
}

func TestOnlySealedWorkloadsBearIdentities(t *testing.T) {
	v := compile(t, readState(t, "mesh.yaml"))
	for account, want := range map[string]bool{"web": true, "db": true, "queue": true, "legacy": false, "stranger": false} {
		i, err := id.New(v.TrustDomain, "shop", account)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Live(i); got != want {
			t.Errorf("Live(%s) = %v, want %v", i, got, want)
		}
	}
}

func TestBearerBelievesOnlyClaimsThatTheIdentityCovers(t *testing.T) {
	v := compile(t, readState(t, "mesh.yaml"))
	tests := []struct{ account, claimed, want, err string }{
		{"db", "", "shop/db", ""},
		{"db", "shop/db", "shop/db", ""},
		{"web", "shop/web-2", "shop/web-2", ""},
		{"db", "shop/web-1", "", "does not bear identity"},
		{"web", "", "", "must name one"},
		{"legacy", "shop/legacy", "", "no workload bears"},
	}
	for _, tt := range tests {
		i, err := id.New(v.TrustDomain, "shop", tt.account)
		if err != nil {
			t.Fatal(err)
		}
		got, err := v.Bearer(i, tt.claimed)
		if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("Bearer(%s, %q) = %q, %v; want %q, %q", tt.account, tt.claimed, got, err, tt.want, tt.err)
		}
	}
}

func TestPeersOfEdgesAreNamedWhereOneWorkloadAloneIsMeant(t *testing.T) {
	v := compile(t, readState(t, "mesh.yaml"))
	for peer, want := range map[string]string{
		"spiffe://demo.local/ns/shop/sa/db":  "shop/db",
		"spiffe://demo.local/ns/shop/sa/web": "", // two bear it
		"10.1.0.2":                           "shop/web-1",
		"10.1.1.9":                           "shop/legacy",
		"10.1.1.1":                           "", // two share it
		"nonsense":                           "",
	} {
		if got := v.Workload(peer); got != want {
			t.Errorf("Workload(%q) = %q, want %q", peer, got, want)
		}
	}
}

// Only the one word allows the key log, and a change of it is a new version.
func TestTheKeyLogIsAllowedByOneWord(t *testing.T) {
	versions := map[string]bool{}
	for word, want := range map[string]bool{"": false, "Denied": false, "Allowed": true} {
		state := readState(t, "mesh.yaml")
		state.Mesh.Spec.Debug.KeyLog = word
		s := compile(t, state).Snapshot
		if s.KeyLog != want {
			t.Errorf("keyLog %q: allowed is %v", word, s.KeyLog)
		}
		versions[s.Version] = true
	}
	if len(versions) != 2 {
		t.Errorf("versions are %v", versions)
	}
}

func TestStatesThatAreNotValidAreRefusedByName(t *testing.T) {
	tests := map[string]struct {
		change func(*platform.State)
		want   string
	}{
		"mode":           {func(s *platform.State) { s.Mesh.Spec.MTLS.Inbound = "strict" }, `mtls.inbound: mode "strict"`},
		"key log":        {func(s *platform.State) { s.Mesh.Spec.Debug.KeyLog = "allowed" }, `debug.keyLog: "allowed"`},
		"trust domain":   {func(s *platform.State) { s.Mesh.Spec.TrustDomain = "a/b" }, `trust domain "a/b"`},
		"no bundle":      {func(s *platform.State) { s.Bundles = nil }, "no trust bundle for trust domain demo.local"},
		"no issuer":      {func(s *platform.State) { s.Issuer.Chain = nil }, "issuer of trust domain demo.local"},
		"address":        {func(s *platform.State) { s.Workloads[0].Spec.Addresses = []string{"db"} }, `workload shop/db: address "db"`},
		"account":        {func(s *platform.State) { s.Workloads[0].Spec.ServiceAccount = "a b" }, "workload shop/db: identity"},
		"service":        {func(s *platform.State) { s.Services[0].Spec.Addresses = []string{"x"} }, `service shop/db: address "x"`},
		"leaf lifetime":  {func(s *platform.State) { s.Mesh.Spec.LeafLifetime = "1 day" }, "leafLifetime"},
		"foreign bundle": {func(s *platform.State) { s.Bundles[0].Spec.Anchors = "" }, "trust bundle demo.local: holds no anchor"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			state := readState(t, "mesh.yaml")
			tt.change(state)
			if _, err := push.Compile(state); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that names %q", err, tt.want)
			}
		})
	}
}
