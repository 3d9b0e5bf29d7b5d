package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
)

func joinTokenCommand() *cobra.Command {
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "join-token NAMESPACE/WORKLOAD",
		Short: "Make a token with which one workload gets its first certificate",
		Long: `Make a token with which one workload gets its first certificate.

The token is bound to the workload, works once, and is printed only here: the mesh
directory keeps its hash. "sealmesh up" makes the tokens of the workloads it enrols
itself; this one is for a proxy started by other means, such as on another machine.`,
		Example: `  sealmesh join-token shop/web > web.token
  sealmesh-proxy --control https://control.example:15012 --trust-domain demo.local \
    --anchors anchors.pem --token-file web.token`,
		Args: cobra.ExactArgs(1),
	}
	dir := flagDir(c)
	c.Flags().DurationVar(&lifetime, "lifetime", time.Hour, "how long the token may be used")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		namespace, name, ok := strings.Cut(args[0], "/")
		if !ok || namespace == "" || name == "" {
			return hint(fmt.Errorf("workload %q: must be NAMESPACE/WORKLOAD", args[0]), "see \"sealmesh identity\" for the workloads there are")
		}
		if lifetime < time.Minute {
			return fmt.Errorf("--lifetime %s: must be at least 1m", lifetime)
		}
		return withAdmin(*dir, func(admin controlv1connect.AdminServiceClient) error {
			res, err := admin.CreateJoinToken(cmd.Context(), &controlv1.CreateJoinTokenRequest{
				Namespace: namespace, Workload: name, Lifetime: int64(lifetime / time.Second)})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "for %s, to be used once before %s\n",
				res.Identity, time.Unix(res.Expires, 0).Format(time.RFC3339))
			fmt.Fprintln(cmd.OutOrStdout(), res.Token)
			return nil
		})
	}
	return c
}
