package cli

import (
	"cmp"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
)

// edge is one row of "sealmesh edges": what went from a client to a port of a
// server, as the proxies at either end report it.
type edge struct {
	Client      string `json:"client"`
	Server      string `json:"server"`
	Port        uint32 `json:"port"`
	Seal        string `json:"seal"`
	Connections uint64 `json:"connections"`
	Open        uint64 `json:"open"`
	// Sent by the client and received by it, in bytes of the application.
	Sent        uint64 `json:"bytesSent"`
	Received    uint64 `json:"bytesReceived"`
	Refused     uint64 `json:"refused"`
	LastRefusal string `json:"lastRefusal,omitempty"`
	// Reported says whose word this is: client, server or both.
	Reported string `json:"reported"`
}

func edgesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "edges",
		Short: "Show who talks to whom, sealed how, and how much",
		Long: `Show who talks to whom, sealed how, and how much.

These are the proxies' own counts since they started. They are attested, not seen
on the wire.`,
		Args: cobra.NoArgs,
	}
	dir, output := flagDir(c), flagFormat(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return withAdmin(*dir, func(admin controlv1connect.AdminServiceClient) error {
			res, err := admin.ListEdges(cmd.Context(), &controlv1.ListEdgesRequest{})
			if err != nil {
				return err
			}
			return render(cmd.OutOrStdout(), *output, mergeEdges(res.Edges), edgesTable)
		})
	}
	return c
}

// mergeEdges makes one edge of the two reports that its ends give.
func mergeEdges(reports []*controlv1.WorkloadEdge) []edge {
	type key struct {
		client, server string
		port           uint32
		seal           string
	}
	merged := map[key]*edge{}
	for _, r := range reports {
		peer := cmp.Or(r.PeerWorkload, r.Edge.Peer)
		k := key{client: r.Workload, server: peer, port: r.Edge.Port, seal: r.Edge.Seal}
		by := "client"
		if r.Edge.Direction == controlv1.Edge_DIRECTION_INBOUND {
			k.client, k.server, by = peer, r.Workload, "server"
		}
		e := merged[k]
		if e == nil {
			e = &edge{Client: k.client, Server: k.server, Port: k.port, Seal: k.seal, Reported: by}
			merged[k] = e
		} else if e.Reported != by {
			e.Reported = "both"
		}
		e.Connections = max(e.Connections, r.Edge.Connections)
		e.Open = max(e.Open, r.Edge.Open)
		e.Sent = max(e.Sent, r.Edge.BytesSent)
		e.Received = max(e.Received, r.Edge.BytesReceived)
		e.Refused = max(e.Refused, r.Edge.Refused)
		e.LastRefusal = cmp.Or(e.LastRefusal, r.Edge.LastRefusal)
	}
	out := make([]edge, 0, len(merged))
	for _, e := range merged {
		out = append(out, *e)
	}
	slices.SortFunc(out, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.Server, b.Server),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Seal, b.Seal))
	})
	return out
}

func edgesTable(list []edge) table {
	t := table{
		header: []string{"CLIENT", "SERVER", "PORT", "SEALED", "CONNECTIONS", "OPEN", "SENT", "RECEIVED", "REFUSED"},
		wide:   []string{"LAST REFUSAL", "REPORTED BY"},
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	for _, e := range list {
		t.rows = append(t.rows, row{
			cells: []string{orDash(e.Client), orDash(e.Server), number(uint64(e.Port)), sealName(e.Seal), number(e.Connections),
				number(e.Open), size(e.Sent), size(e.Received), number(e.Refused)},
			wide: []string{orDash(e.LastRefusal), e.Reported},
		})
	}
	return t
}

// sealName says how an edge is sealed in the words of the table.
func sealName(seal string) string {
	switch seal {
	case "mtls":
		return "mutual TLS"
	case "plaintext":
		return "NO (plaintext)"
	}
	return "refused"
}
