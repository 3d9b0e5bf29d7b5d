package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/capture/live"
)

// liveOptions are the flags by which "sealmesh verify" captures by itself.
type liveOptions struct {
	dir       *string
	workloads []string
	nodes     []string
	netns     []string
	ifaces    []string
	duration  time.Duration
	loopback  bool
}

func (o *liveOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringSliceVar(&o.ifaces, "iface", nil, "capture the interface `NAME` of this machine (repeatable, or with commas; so are the next three)")
	f.StringSliceVar(&o.netns, "netns", nil, "capture the network namespace `NAME`, or by its path")
	f.StringSliceVar(&o.workloads, "workload", nil, "capture the workload `NAMESPACE/NAME` of the mesh; with --probe, its ends")
	f.StringSliceVar(&o.nodes, "node", nil, "capture the uplinks of the node `NAME` of the mesh")
	o.dir = flagDir(c)
	f.DurationVar(&o.duration, "for", 0, "how long to capture, such as 30s (default: until Ctrl-C)")
	f.BoolVar(&o.loopback, "loopback", false, "capture loopback, too")
}

// wanted reports whether any interface is named.
func (o *liveOptions) wanted() bool {
	return len(o.workloads)+len(o.nodes)+len(o.netns)+len(o.ifaces) > 0
}

// targets are where to capture.
func (o *liveOptions) targets() ([]target, error) {
	var all []target
	for _, named := range []struct {
		kind, form string
		names      []string
	}{
		{targetWorkload, "NAMESPACE/NAME", o.workloads},
		{targetNode, "the name of a node", o.nodes},
		{targetNetns, "a name that \"ip netns list\" shows, or a path", o.netns},
		{targetIface, "the name of an interface", o.ifaces},
	} {
		for _, name := range named.names {
			t, err := parseTarget(named.kind + "/" + name)
			if err != nil {
				return nil, fmt.Errorf("--%s %q: must be %s", named.kind, name, named.form)
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// atlas is where targets are found.
func (o *liveOptions) atlas(c *cobra.Command) (atlas, error) {
	return openAtlas(*o.dir, c.Flags().Changed("file"), o.loopback)
}

// misused says which flags mean nothing as they are.
func (o *liveOptions) misused(c *cobra.Command) error {
	if o.duration < 0 {
		return hint(errors.New("--for: must not be negative"), "such as --for 30s")
	}
	for _, name := range []string{"for", "loopback"} {
		if c.Flags().Changed(name) && !o.wanted() {
			return hint(fmt.Errorf("--%s: nothing is to be captured", name), "name an interface with --iface, or a workload with --workload")
		}
	}
	return nil
}

// input begins to capture, and says so on standard error. Ctrl-C and the end of
// --for end it in order: what was seen up to then is a whole capture. What the
// proxies of a mesh on this machine say meanwhile is attested.
func (o *liveOptions) input(c *cobra.Command) (*input, error) {
	targets, err := o.targets()
	if err != nil {
		return nil, err
	}
	a, err := o.atlas(c)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(c.Context())
	s := &liveSource{finish: end}
	if s.packets, err = captureLive(ctx, a, targets, live.Config{}); err != nil {
		end()
		return nil, err
	}
	if s.witnesses, err = callWitnesses(ctx, a); err != nil {
		end()
		return nil, errors.Join(err, s.packets.Close())
	}
	fmt.Fprintln(c.ErrOrStderr(), s.packets.announce())
	if o.duration > 0 {
		s.until = time.Now().Add(o.duration)
		time.AfterFunc(o.duration, end)
	}
	return &input{source: s, status: s.status, end: s.end}, nil
}

// liveSource is packets as they come, for a verdict.
type liveSource struct {
	packets   *liveCapture
	witnesses *witnesses // nil if there are none
	until     time.Time  // zero is until Ctrl-C
	finish    context.CancelFunc
	failed    error
}

// Next returns the next packet. Whatever ends the capture before its time does not
// end the verdict on what was seen before.
func (s *liveSource) Next(f *capture.Frame) error {
	err := s.packets.Next(f)
	switch {
	case err == nil && len(s.packets.vantages) == 1:
		f.Vantage = "" // there is no other
	case err != nil && !errors.Is(err, io.EOF):
		s.failed = err
		return io.EOF
	}
	return err
}

// status is what the progress line says behind its counts.
func (s *liveSource) status() string {
	line := fmt.Sprintf("%d dropped", s.packets.Dropped())
	if !s.until.IsZero() {
		line += ", " + span(max(time.Until(s.until).Round(time.Second), 0)) + " left"
	}
	return line
}

// end ends the capture and says what it missed.
func (s *liveSource) end() ending {
	defer s.finish()
	e := ending{where: s.where(), dropped: s.packets.Dropped(), cut: s.packets.missed()}
	if s.failed != nil && e.cut == "" {
		e.cut = s.failed.Error()
	}
	if err := s.packets.Close(); err != nil {
		e.doubts = append(e.doubts, err.Error())
	}
	if s.witnesses != nil {
		lanes, err := s.witnesses.dismiss()
		e.attested = append(e.attested, lanes)
		if err != nil {
			e.doubts = append(e.doubts, strings.Split(err.Error(), "\n")...)
		}
	}
	return e
}

// where says in words where packets were taken.
func (s *liveSource) where() string {
	var names []string
	for _, v := range s.packets.vantages {
		names = append(names, v.name)
	}
	return strings.Join(append([]string{"live on " + strings.Join(names, ", ")}, s.packets.notes...), "; ")
}
