package cli

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
)

// anchor is one row of "sealmesh trust show": a certificate that proxies trust.
type anchor struct {
	TrustDomain string `json:"trustDomain"`
	Subject     string `json:"subject"`
	// Fingerprint is SHA-256 in hex, of the certificate.
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"notAfter"`
	// Issuer that signs leaves now, if it stands under this anchor.
	Issuer         string    `json:"issuer,omitempty"`
	IssuerNotAfter time.Time `json:"issuerNotAfter,omitzero"`
	// Bundle is the version of the trust bundle that the anchor is in, Using the
	// connected proxies that go by it, Lagging those that do not yet.
	Bundle  string   `json:"bundle"`
	Using   []string `json:"using"`
	Lagging []string `json:"lagging"`
}

func trustCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Show whom proxies trust, and replace the trust anchor without a failed connection",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(trustShowCommand(), trustRotateCommand())
	return c
}

func trustShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the trust anchors, who signs under them, and which proxies go by them",
		Args:  cobra.NoArgs,
	}
	dir, output := flagDir(c), flagFormat(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return withAdmin(*dir, func(admin controlv1connect.AdminServiceClient) error {
			objects, err := openObjects(*dir)
			if err != nil {
				return err
			}
			list, err := anchors(cmd.Context(), objects.State(), admin)
			if err != nil {
				return err
			}
			now := time.Now()
			return render(cmd.OutOrStdout(), *output, list, func(l []anchor) table { return anchorTable(l, now) })
		})
	}
	return c
}

// openObjects opens the directory of a mesh that runs.
func openObjects(directory string) (*dir.Dir, error) {
	p, err := newPlace(directory)
	if err != nil {
		return nil, err
	}
	objects, err := dir.Open(p.dir, dir.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, hint(err, "mend it and run the command again")
	}
	return objects, nil
}

// anchors lists what the bundles hold, in their order.
func anchors(ctx context.Context, state *platform.State, admin controlv1connect.AdminServiceClient) ([]anchor, error) {
	res, err := admin.ListIdentities(ctx, &controlv1.ListIdentitiesRequest{})
	if err != nil {
		return nil, err
	}
	var list []anchor
	for _, object := range state.Bundles {
		td, err := id.ParseTrustDomain(object.Metadata.Name)
		if err != nil {
			return nil, err
		}
		bundle, err := state.Bundle(td)
		if err != nil {
			return nil, err
		}
		using, lagging := usersOf(res.Identities, td.Name(), bundle.Version())
		for _, cert := range bundle.Anchors() {
			sum := sha256.Sum256(cert.Raw)
			a := anchor{
				TrustDomain: td.Name(), Subject: cert.Subject.CommonName, Fingerprint: hex.EncodeToString(sum[:]),
				NotAfter: cert.NotAfter.UTC(), Bundle: bundle.Version(), Using: using, Lagging: lagging,
			}
			if top := state.Issuer.Chain[len(state.Issuer.Chain)-1]; td == state.TrustDomain() && isUnder(top, cert) {
				a.Issuer, a.IssuerNotAfter = state.Issuer.Chain[0].Subject.CommonName, state.Issuer.Chain[0].NotAfter.UTC()
			}
			list = append(list, a)
		}
	}
	return list, nil
}

func isUnder(cert, anchor *x509.Certificate) bool {
	return cert.Equal(anchor) || cert.CheckSignatureFrom(anchor) == nil
}

// usersOf sorts the connected proxies by whether they go by a version of the
// bundle of a trust domain.
func usersOf(list []*controlv1.IssuedIdentity, trustDomain, version string) (using, lagging []string) {
	using, lagging = []string{}, []string{}
	for _, i := range list {
		switch {
		case !i.Connected:
		case i.BundleVersions[trustDomain] == version:
			using = append(using, i.Workload)
		default:
			lagging = append(lagging, i.Workload)
		}
	}
	slices.Sort(using)
	slices.Sort(lagging)
	return using, lagging
}

func anchorTable(list []anchor, now time.Time) table {
	t := table{
		header: []string{"TRUST DOMAIN", "ANCHOR", "FINGERPRINT", "EXPIRES", "ISSUER UNDER IT", "PROXIES"},
		wide:   []string{"NOT AFTER", "ISSUER NOT AFTER", "BUNDLE", "LAGGING"},
	}
	for _, a := range list {
		issuerEnds := "-"
		if a.Issuer != "" {
			issuerEnds = a.IssuerNotAfter.Format(time.RFC3339)
		}
		t.rows = append(t.rows, row{
			cells: []string{a.TrustDomain, a.Subject, short(a.Fingerprint), expiry(a.NotAfter, now), orDash(a.Issuer),
				fmt.Sprintf("%d of %d", len(a.Using), len(a.Using)+len(a.Lagging))},
			wide: []string{a.NotAfter.Format(time.RFC3339), issuerEnds, a.Bundle, orDash(strings.Join(a.Lagging, ","))},
		})
	}
	return t
}
