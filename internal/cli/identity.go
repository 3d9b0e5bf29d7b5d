package cli

import (
	"time"

	"github.com/spf13/cobra"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
)

// identity is one row of "sealmesh identity".
type identity struct {
	Workload  string    `json:"workload"`
	Identity  string    `json:"identity"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Issuer    string    `json:"issuer"`
	// IssuerSerial is in hex, like Serial.
	IssuerSerial string `json:"issuerSerial"`
	// Connected: a proxy with this certificate is served now.
	Connected bool              `json:"connected"`
	Node      string            `json:"node,omitempty"`
	Snapshot  string            `json:"snapshot,omitempty"`
	Bundles   map[string]string `json:"bundles,omitempty"`
}

func identityCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "identity",
		Short: "Show who has which certificate, until when, signed by whom",
		Args:  cobra.NoArgs,
	}
	dir, output := flagDir(c), flagFormat(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return withAdmin(*dir, func(admin controlv1connect.AdminServiceClient) error {
			res, err := admin.ListIdentities(cmd.Context(), &controlv1.ListIdentitiesRequest{})
			if err != nil {
				return err
			}
			var list []identity
			for _, i := range res.Identities {
				list = append(list, identity{
					Workload: i.Workload, Identity: i.Identity, Serial: i.Serial,
					NotBefore: time.Unix(i.NotBefore, 0).UTC(), NotAfter: time.Unix(i.NotAfter, 0).UTC(),
					Issuer: i.Issuer, IssuerSerial: i.IssuerSerial, Connected: i.Connected,
					Node: i.Node, Snapshot: i.SnapshotVersion, Bundles: i.BundleVersions,
				})
			}
			now := time.Now()
			return render(cmd.OutOrStdout(), *output, list, func(l []identity) table { return identityTable(l, now) })
		})
	}
	return c
}

func identityTable(list []identity, now time.Time) table {
	t := table{
		header: []string{"WORKLOAD", "IDENTITY", "SERIAL", "EXPIRES", "SIGNED BY", "PROXY"},
		wide:   []string{"NODE", "NOT BEFORE", "NOT AFTER", "ISSUER SERIAL", "SNAPSHOT"},
	}
	for _, i := range list {
		proxy := "away"
		if i.Connected {
			proxy = "connected"
		}
		expires := "-"
		if i.Serial != "" {
			expires = expiry(i.NotAfter, now)
		}
		t.rows = append(t.rows, row{
			cells: []string{i.Workload, i.Identity, orDash(short(i.Serial)), expires, orDash(i.Issuer), proxy},
			wide: []string{orDash(i.Node), i.NotBefore.Format(time.RFC3339), i.NotAfter.Format(time.RFC3339),
				orDash(short(i.IssuerSerial)), orDash(short(i.Snapshot))},
		})
	}
	return t
}

// short is the beginning of a number in hex, enough to tell it from others.
func short(s string) string {
	const enough = 12
	if len(s) <= enough {
		return s
	}
	return s[:enough] + "…"
}
