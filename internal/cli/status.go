package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmesh/sealmesh/internal/enrol"
	"github.com/sealmesh/sealmesh/internal/redirect"
)

// isSealed reports whether a workload's connections go through its proxy.
func isSealed(s enrol.Status) bool { return s.PID != 0 && s.Phase == redirect.Redirect.String() }

// writeStatus keeps how each local workload stands, for "sealmesh status".
func (p place) writeStatus(list []enrol.Status) error {
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return writeFile(p.status(), b)
}

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the workloads of this machine stand",
		Long: `Show how the workloads of this machine stand: sealed, or cut off until their proxy
is ready, with the redirection rules that hold for them.`,
		Args: cobra.NoArgs,
	}
	dir, output := flagDir(c), flagFormat(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := newPlace(*dir)
		if err != nil {
			return err
		}
		// A process that was killed has left its last status behind.
		if err := p.runs(); err != nil && !errors.Is(err, os.ErrPermission) {
			return notRunning(p, *dir, err)
		}
		b, err := os.ReadFile(p.status())
		if err != nil {
			return notRunning(p, *dir, err)
		}
		var list []enrol.Status
		if err := json.Unmarshal(b, &list); err != nil {
			return fmt.Errorf("status of %s: %w", p.dir, err)
		}
		return render(cmd.OutOrStdout(), *output, list, func(l []enrol.Status) table { return statusTable(l, time.Now()) })
	}
	return c
}

func statusTable(list []enrol.Status, now time.Time) table {
	t := table{
		header: []string{"WORKLOAD", "STATE", "FOR", "RULES", "PROXY PID", "FAILURES"},
		wide:   []string{"ADMIN PORT", "ERROR"},
	}
	for _, s := range list {
		state := "cut off"
		if isSealed(s) {
			state = "sealed"
		}
		t.rows = append(t.rows, row{
			cells: []string{s.Workload, state, span(now.Sub(s.Since)), strconv.Itoa(s.Rules), strconv.Itoa(s.PID), strconv.Itoa(s.Failures)},
			wide:  []string{strconv.Itoa(int(s.Admin)), orDash(s.Error)},
		})
	}
	return t
}
