package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/platform/dir"
)

// lookEvery is how often a rotation looks whether what it waits for has come.
const lookEvery = 250 * time.Millisecond

func trustRotateCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the trust anchor while everything runs",
		Long: `Replace the trust anchor while everything runs, in three steps:

  prepare    a new anchor is made and trusted beside the old one
  activate   an issuer under the new anchor signs from now on
  retire     the old anchor is trusted no more

Each step waits until every proxy was seen to be ready for it, and says what it
waits for. With certificates of 24 hours all of it takes a little more than a day.

Interrupt it whenever you like, and run it again to go on: what has been done is
seen in the directory. When no rotation is under way, one begins.`,
		Args: cobra.NoArgs,
	}
	var hurry, wait bool
	dir := flagDir(c)
	c.Flags().BoolVar(&hurry, "now", false, "wait for the proxies that are known, not for certificates nobody has reported")
	c.Flags().BoolVar(&wait, "wait", true, "with =false, do what can be done at once, say what is waited for, and end with 1")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := newPlace(*dir)
		if err != nil {
			return err
		}
		if _, err := p.bundle(); err != nil {
			return notRunning(p, *dir, err)
		}
		objects, err := openObjects(*dir)
		if err != nil {
			return err
		}
		r := rotation{place: p, objects: objects, hurry: hurry, wait: wait, told: cmd.OutOrStdout()}
		return r.run(cmd.Context())
	}
	return c
}

// rotation replaces the trust anchor of one mesh.
type rotation struct {
	place
	objects     *dir.Dir
	hurry, wait bool
	told        io.Writer
}

// run takes the steps that are left, in turn.
func (r *rotation) run(ctx context.Context) error {
	state, err := r.objects.Rotation()
	if err != nil {
		return hint(err, "see \"Rotating the trust anchor\" in docs/identity.md for doing it by hand")
	}
	if state.New == nil {
		if err := r.take(ca.StepPrepare); err != nil {
			return err
		}
	}
	for told := []string(nil); ; {
		if state, err = r.objects.Rotation(); err != nil {
			return err
		}
		if state.New == nil {
			fmt.Fprintln(r.told, "done: nothing trusts the old anchor any more")
			return nil
		}
		next := r.next(ctx, state)
		if len(next.Waits) == 0 {
			if err := r.take(next.Step); err != nil {
				return err
			}
			continue
		}
		if !slices.Equal(next.Waits, told) {
			told = next.Waits
			r.tell(next)
		}
		if !r.wait {
			return checkFailed{errors.New("not done yet")}
		}
		select {
		case <-ctx.Done():
			return hint(errors.New("interrupted"), "run \"sealmesh trust rotate -f %s\" again to go on", r.dir)
		case <-time.After(lookEvery):
		}
	}
}

// next is the step to take and what it waits for.
func (r *rotation) next(ctx context.Context, state ca.Rotation) ca.Next {
	err := r.observe(ctx, &state)
	next := state.Next(time.Now())
	if err != nil {
		next.Waits = []string{"the control plane does not answer: " + err.Error()}
	}
	return next
}

// observe adds what the proxies report. In a hurry, time alone is no reason to wait.
func (r *rotation) observe(ctx context.Context, state *ca.Rotation) error {
	if r.hurry {
		state.Prepared, state.Activated = time.Time{}, time.Time{}
	} else {
		// The control plane makes its socket when it starts.
		info, err := os.Stat(r.socket())
		if err != nil {
			return err
		}
		state.Observed = info.ModTime()
	}
	return withAdmin(r.dir, func(admin controlv1connect.AdminServiceClient) error {
		res, err := admin.ListIdentities(ctx, &controlv1.ListIdentitiesRequest{})
		if err != nil {
			return err
		}
		for _, i := range res.Identities {
			state.LeafLifetime = max(state.LeafLifetime, time.Duration(i.NotAfter-i.NotBefore)*time.Second)
			state.Proxies = append(state.Proxies, ca.Proxy{
				Name:          i.Workload,
				Connected:     i.Connected,
				BundleVersion: i.BundleVersions[state.Bundle.Domain().Name()],
				LeafIssuer:    i.IssuerSerial,
				LeafNotAfter:  time.Unix(i.NotAfter, 0),
			})
		}
		return nil
	})
}

// take takes a step and says so.
func (r *rotation) take(step ca.Step) error {
	if err := r.objects.Rotate(step); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	switch step {
	case ca.StepPrepare:
		fmt.Fprintln(r.told, "prepared: a new anchor is in the trust bundle, beside the old")
	case ca.StepActivate:
		fmt.Fprintln(r.told, "activated: an issuer under the new anchor signs from now on")
	case ca.StepRetire:
		fmt.Fprintln(r.told, "retired: the old anchor is out of the trust bundle")
	}
	return nil
}

// tell says what a step waits for, in a few lines.
func (r *rotation) tell(next ca.Next) {
	const most = 5
	fmt.Fprintf(r.told, "waiting to %s:\n", next.Step)
	for _, w := range next.Waits[:min(most, len(next.Waits))] {
		fmt.Fprintf(r.told, "  %s\n", w)
	}
	if more := len(next.Waits) - most; more > 0 {
		fmt.Fprintf(r.told, "  and %d more\n", more)
	}
}
