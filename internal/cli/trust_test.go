package cli

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
)

// proxies is a control plane that knows of these.
type proxies struct {
	controlv1connect.AdminServiceClient
	list []*controlv1.IssuedIdentity
}

func (p proxies) ListIdentities(context.Context, *controlv1.ListIdentitiesRequest) (*controlv1.ListIdentitiesResponse, error) {
	return &controlv1.ListIdentitiesResponse{Identities: p.list}, nil
}

func TestTrustShowsWhoSignsAndWhoLags(t *testing.T) {
	path := t.TempDir()
	check(t, os.WriteFile(filepath.Join(path, "mesh.yaml"), []byte("apiVersion: sealmesh.io/v1alpha1\nkind: Mesh\nmetadata: {name: default}\nspec: {trustDomain: demo.local}\n"), 0o600))
	objects, err := dir.Open(path, dir.Config{Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	before, err := objects.State().Bundle(objects.State().TrustDomain())
	check(t, err)
	check(t, objects.Rotate(ca.StepPrepare))
	objects, err = dir.Open(path, dir.Config{Log: slog.New(slog.DiscardHandler)})
	check(t, err)
	state := objects.State()
	after, err := state.Bundle(state.TrustDomain())
	check(t, err)

	known := func(workload, version string, connected bool) *controlv1.IssuedIdentity {
		return &controlv1.IssuedIdentity{Workload: workload, Connected: connected, BundleVersions: map[string]string{"demo.local": version}}
	}
	list, err := anchors(t.Context(), state, proxies{list: []*controlv1.IssuedIdentity{
		known("shop/web", after.Version(), true),
		known("shop/curl", before.Version(), true),
		known("shop/gone", before.Version(), false),
	}})
	check(t, err)
	if len(list) != 2 || list[0].Issuer == "" || list[1].Issuer != "" {
		t.Fatalf("anchors: %+v", list)
	}
	for _, a := range list {
		if strings.Join(a.Using, " ") != "shop/web" || strings.Join(a.Lagging, " ") != "shop/curl" {
			t.Errorf("%s: used by %v, not yet by %v", a.Subject, a.Using, a.Lagging)
		}
	}
	// What is random has its place in the golden.
	list[0].Subject, list[0].Fingerprint, list[0].Issuer = "demo.local anchor 11111111", strings.Repeat("1a", 32), "demo.local issuer 33333333"
	list[1].Subject, list[1].Fingerprint = "demo.local anchor 22222222", strings.Repeat("2b", 32)
	for i := range list {
		list[i].Bundle, list[i].NotAfter = "0f0f0f0f0f0f0f0f", moment.AddDate(10, 0, 0)
	}
	list[0].IssuerNotAfter = moment.AddDate(1, 0, 0)
	var b bytes.Buffer
	for _, f := range []format{formatTable, formatWide, formatYAML} {
		b.WriteString("# sealmesh trust show -o " + string(f) + "\n")
		check(t, render(&b, f, list, func(l []anchor) table { return anchorTable(l, moment) }))
	}
	golden(t, "trust.golden", b.Bytes())
}
