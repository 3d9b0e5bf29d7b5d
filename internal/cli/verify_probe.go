package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/ports"
	"github.com/sealmesh/sealmesh/internal/probe"
	"github.com/sealmesh/sealmesh/internal/report"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// probeTimeout is how long one marker may take.
const probeTimeout = 10 * time.Second

// probeOptions are what "sealmesh verify --probe" is asked for.
type probeOptions struct {
	on     bool
	protos []string
}

func (o *probeOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.on, "probe", false, "send markers between two workloads and look for them on the wire")
	f.StringSliceVar(&o.protos, "proto", []string{"tcp", "udp"}, "what the probe sends its markers by: tcp, udp")
	_ = c.RegisterFlagCompletionFunc("proto", cobra.FixedCompletions([]string{"tcp", "udp"}, cobra.ShellCompDirectiveNoFileComp))
}

// idle refuses flags that mean nothing beside the others.
func (o *verifyOptions) idle(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	if changed("out") && o.out == "" {
		return hint(errors.New("--out: no file is named"), "such as --out report.html")
	}
	if !o.probe.on {
		switch {
		case changed("proto"):
			return hint(errors.New("--proto: it is the probe that sends markers"), "add --probe; flows are judged of every protocol")
		case changed("file") && !o.live.wanted():
			return hint(errors.New("--file: nothing is asked of a mesh"), "name workloads or nodes of the mesh with --workload or --node, or add --probe")
		}
		return nil
	}
	for _, name := range []string{"expect", "attest", "keys", "for", "loopback"} {
		if changed(name) {
			return hint(fmt.Errorf("--%s: means nothing to --probe", name), "leave it out")
		}
	}
	return nil
}

// experiment probes between two workloads, which are chosen if none is named.
func (o *verifyOptions) experiment(cmd *cobra.Command, files []string, knows verify.Knowledge, out *output) error {
	switch {
	case len(o.read)+len(files)+len(o.live.ifaces)+len(o.live.netns) > 0:
		return hint(errors.New("--probe: makes its own packets, between workloads"), "name two with --workload, and further nodes to watch with --node")
	case out.format != report.Table && out.format != report.JSON:
		return hint(fmt.Errorf("-o %s: a probe is written as table or json", out.format), "sealmesh verify --probe -o json")
	case os.Geteuid() != 0:
		return hint(errors.New("probing enters network namespaces and needs root"), "run it with sudo")
	}
	a, err := o.live.atlas(cmd)
	if err != nil {
		return err
	}
	cfg, err := o.probe.config(a, o.live.workloads, o.live.nodes)
	if err != nil {
		return err
	}
	cfg.Knowledge = knows
	cfg.Step = func(what string) { fmt.Fprintln(cmd.ErrOrStderr(), what) }
	res, err := probe.Run(cmd.Context(), cfg)
	if cmd.Context().Err() != nil {
		return hint(errors.New("--probe: interrupted: only a whole probe has a result"), "begin it again")
	}
	if err != nil {
		return err
	}
	err = out.write(string(res.Verdict), func(w io.Writer, f report.Format, s report.Style) error {
		return report.WriteProbe(w, f, res, s)
	})
	if err != nil {
		return err
	}
	return verdictError(res.Verdict)
}

// config finds both workloads, and where to watch.
func (o *probeOptions) config(a atlas, workloads, nodes []string) (probe.Config, error) {
	cfg := probe.Config{Mark: ports.Mark, Timeout: probeTimeout}
	for _, p := range o.protos {
		switch p {
		case "tcp", "udp":
			cfg.Protos = append(cfg.Protos, capture.Proto(p))
		default:
			return cfg, fmt.Errorf("--proto %q: must be tcp or udp", p)
		}
	}
	if a.state == nil {
		return cfg, hint(errors.New("no mesh directory to find workloads in"), "name the directory of the mesh's objects with -f")
	}
	ends, err := chooseEnds(a, workloads)
	if err != nil {
		return cfg, err
	}
	var targets []target
	for i, w := range ends {
		name := w.Metadata.Namespace + "/" + w.Metadata.Name
		addr, err := netip.ParseAddr(w.Spec.Addresses[0])
		if err != nil {
			return cfg, fmt.Errorf("workload %s: %w", name, err)
		}
		cfg.Ends[i] = probe.End{Name: name, Netns: w.Spec.NetNS, Addr: addr}
		targets = append(targets, target{targetWorkload, name})
		if w.Spec.Node != "" && len(nodes) == 0 {
			targets = append(targets, target{targetNode, w.Spec.Node})
		}
	}
	for _, n := range nodes {
		targets = append(targets, target{targetNode, n})
	}
	found, _, err := a.find(targets)
	if err != nil {
		return cfg, err
	}
	for _, v := range found {
		cfg.Vantages = append(cfg.Vantages, probe.Vantage{Name: v.name, Netns: v.netns, Interface: v.iface})
	}
	return cfg, nil
}

// chooseEnds is the two workloads that are named, or else the first two that can
// be probed, on different nodes if there are such.
func chooseEnds(a atlas, names []string) (ends [2]mesh.Workload, err error) {
	var able []mesh.Workload
	for _, w := range a.state.Workloads {
		if w.Spec.NetNS != "" && len(w.Spec.Addresses) > 0 {
			able = append(able, w)
		}
	}
	switch len(names) {
	case 2:
		for i, name := range names {
			at := slices.IndexFunc(able, func(w mesh.Workload) bool { return w.Metadata.Namespace+"/"+w.Metadata.Name == name })
			if at < 0 {
				return ends, hint(fmt.Errorf("workload %s: %s has none that has a network namespace on this machine", name, a.path), "those that can be probed: %s", nameList(able))
			}
			ends[i] = able[at]
		}
		return ends, nil
	case 0:
	default:
		return ends, hint(fmt.Errorf("a probe goes between two workloads: %d named with --workload", len(names)), "name two, such as --workload shop/web,shop/cart, or none; those that can be probed: %s", nameList(able))
	}
	for i, first := range able {
		for _, second := range able[i+1:] {
			if first.Spec.Node != second.Spec.Node {
				return [2]mesh.Workload{first, second}, nil
			}
		}
	}
	if len(able) < 2 {
		return ends, fmt.Errorf("%s: a probe needs two workloads with a network namespace on this machine: there are %d", a.path, len(able))
	}
	return [2]mesh.Workload{able[0], able[1]}, nil
}

func nameList(all []mesh.Workload) string {
	var names []string
	for _, w := range all {
		names = append(names, w.Metadata.Namespace+"/"+w.Metadata.Name)
	}
	return strings.Join(names, ", ")
}
