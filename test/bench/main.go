// Bench measures what Sealmesh costs beside what people use today. In one lab,
// in one run and in turns of a few seconds it loads the same client and server
// workloads directly, through a pair of sealmesh proxies, and through a pair of
// haproxy and of nginx that do mutual TLS between them; it prints one table and
// writes it into docs/performance.md.
//
//	             client workload (netns)                server workload (netns)
//	direct       load ───────────────────── TCP ──────────────────────────▶ server
//	sealmesh     load ─▶ sealmesh-proxy ─── lane, original port ─▶ sealmesh-proxy ─▶ server
//	haproxy      load ─▶ haproxy ────────── mutual TLS 1.3 ──────▶ haproxy ───────▶ server
//	nginx        load ─▶ nginx stream ───── mutual TLS 1.3 ──────▶ nginx stream ──▶ server
//
// One round: start every system (suite.go), then for each measurement
// (figures.go) and each system in turn: start a load (package load), let it warm
// up, watch one window of it from outside (package usage), stop it; then stop
// every system. The order turns each time. Of the rounds, medians and spread are
// told (stats.go, results.go, table.go, document.go).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

func main() {
	if len(os.Args) > 1 && (os.Args[1] == roleServe || os.Args[1] == roleDrive) {
		exit(playRole(os.Args[1:]))
	}
	// A pipe that nobody reads any more (bench | head) is an end to clean up after.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	exit(bench(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exit ends the program with 0, or with 1 and the reason.
func exit(err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

// config is the command line.
type config struct {
	options
	only, figures string
	quick         bool
	document      string
	bin, profile  string
	command       string // as a reader would repeat it
}

// parseFlags reads the command line. -quick changes the defaults only.
func parseFlags(args []string, output io.Writer) (c config, err error) {
	c = config{command: strings.Join(append([]string{"go run ./test/bench"}, args...), " ")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&c.only, "only", "", "systems to measure, separated by commas (default all)")
	flags.StringVar(&c.figures, "figures", "", "what to measure: "+strings.Join(measurementNames(), ",")+" (default all)")
	flags.IntVar(&c.rounds, "rounds", 0, "rounds (default 3, with -quick 1)")
	seconds := flags.Float64("seconds", 0, "how long to measure each figure of each system in each round (default 4, with -quick 1.5)")
	flags.BoolVar(&c.quick, "quick", false, "one short round, to see whether it works; the document is not written")
	flags.StringVar(&c.document, "doc", "docs/performance.md", "document to write the table into, if everything was measured")
	flags.StringVar(&c.bin, "bin", "bin", "directory with sealmesh and sealmesh-proxy, as make build leaves them")
	flags.StringVar(&c.profile, "cpuprofile", "", "directory for CPU profiles of sealmesh-proxy (SEALMESH_CPUPROFILE)")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("argument %q: flags only", flags.Arg(0))
	}
	if c.rounds < 0 || *seconds < 0 {
		return c, fmt.Errorf("-rounds %d, -seconds %v: must not be negative", c.rounds, *seconds)
	}
	defaultRounds, defaultSeconds := 3, 4.0
	if c.quick {
		defaultRounds, defaultSeconds = 1, 1.5
	}
	if c.rounds == 0 {
		c.rounds = defaultRounds
	}
	if *seconds == 0 {
		*seconds = defaultSeconds
	}
	c.window = time.Duration(*seconds * float64(time.Second))
	if c.profile != "" {
		// The proxies have a working directory of their own.
		if c.profile, err = filepath.Abs(c.profile); err != nil {
			return c, err
		}
	}
	c.warmUp, c.settle = 500*time.Millisecond, 5*time.Second
	return c, nil
}

// bench is the program.
func bench(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	chosen, err := choose("-figures", c.figures, measurements, func(m measurement) string { return m.name })
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sealmesh-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writePKI(dir); err != nil {
		return err
	}
	all := []system{direct{}, newHAProxy(dir), newNginx(dir), sealmesh{c.bin, dir, c.profile}}
	systems, err := choose("-only", c.only, all, system.name)
	if err != nil {
		return err
	}
	r, err := measureAll(ctx, c.options, systems, chosen, stderr)
	if err != nil {
		return err
	}
	whole := !c.quick && len(systems) == len(all) && len(chosen) == len(measurements)
	return errors.Join(tell(ctx, c, r, whole, stdout), failed(r))
}

// measureAll builds the lab, runs every round in it, and leaves nothing behind.
func measureAll(ctx context.Context, o options, systems []system, chosen []measurement, progress io.Writer) (r *results, err error) {
	l, err := lab.New(ctx, lab.Config{Nodes: 2, IPv4Only: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	s, err := newSuite(l, o, systems, chosen, progress)
	if err != nil {
		return nil, err
	}
	return s.results, s.run(ctx)
}

// tell prints the tables, and writes the document if everything was measured.
func tell(ctx context.Context, c config, r *results, whole bool, stdout io.Writer) error {
	machine := describeMachine(ctx)
	fmt.Fprintln(stdout)
	for _, f := range machine {
		fmt.Fprintf(stdout, "%s: %s\n", f.name, f.value)
	}
	fmt.Fprintf(stdout, "\n%s\n%s\n", figureTable(r).text(), shareTable(r).text())
	if !whole || len(r.failures) > 0 {
		fmt.Fprintf(stdout, "not everything was measured in full: %s is left as it is\n", c.document)
		return nil
	}
	if err := writeDocument(c.document, report(c.command, machine, r, c.options)); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "written to", c.document)
	return nil
}

// failed is an error if any measurement failed.
func failed(r *results) error {
	if len(r.failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d measurements failed:\n  %s", len(r.failures), strings.Join(r.failures, "\n  "))
}

// choose is those of all that list names, in the order of all; all of them if it
// is empty.
func choose[T any](flagName, list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var names []string
	for _, item := range all {
		names = append(names, name(item))
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.Contains(names, w) {
			return nil, fmt.Errorf("%s %q: must be of %s", flagName, w, strings.Join(names, ","))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(item T) bool { return !slices.Contains(wanted, name(item)) }), nil
}
