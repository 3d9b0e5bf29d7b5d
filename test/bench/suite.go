package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/test/bench/load"
	"github.com/sealmesh/sealmesh/test/bench/usage"
	"github.com/sealmesh/sealmesh/test/lab"
)

// options of a run.
type options struct {
	rounds int
	// window is how long each figure is measured.
	window time.Duration
	// warmUp is how long a load runs before its window begins.
	warmUp time.Duration
	// settle is how long connections are idle before memory is read.
	settle time.Duration
}

// suite is one run: a lab, and in it every system on a pair of its own.
type suite struct {
	options
	contestants  []*contestant
	measurements []measurement
	results      *results
	progress     io.Writer
}

// contestant is a system on its pair.
type contestant struct {
	system
	pair   pair
	server *agent
	up     *deployment
}

// newSuite builds the pairs of all systems in l.
func newSuite(l *lab.Lab, o options, systems []system, chosen []measurement, progress io.Writer) (*suite, error) {
	s := &suite{options: o, measurements: chosen, progress: progress}
	var names []string
	for _, system := range systems {
		client, err := l.AddWorkload(l.Nodes[0], "client-"+system.name())
		if err != nil {
			return nil, err
		}
		server, err := l.AddWorkload(l.Nodes[1], "server-"+system.name())
		if err != nil {
			return nil, err
		}
		s.contestants = append(s.contestants, &contestant{system: system, pair: pair{client, server}})
		names = append(names, system.name())
	}
	s.results = newResults(names, chosen)
	return s, nil
}

// run makes all rounds. A system that fails a measurement is noted and left out
// of it; only the end of ctx ends the run early.
func (s *suite) run(ctx context.Context) error {
	for round := range s.rounds {
		err := s.round(ctx, round)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("round %d: %v", round+1, err)
		}
	}
	return nil
}

// round starts every system anew, makes each measurement with one system after
// the other, and stops them. The order turns with every measurement and round.
func (s *suite) round(ctx context.Context, round int) (err error) {
	defer func() {
		for _, c := range s.contestants {
			err = errors.Join(err, c.down())
		}
	}()
	for _, c := range s.contestants {
		if err := c.bringUp(ctx); err != nil {
			return fmt.Errorf("%s: %v", c.name(), err)
		}
	}
	if err := pause(ctx, s.settle); err != nil {
		return err
	}
	for i, m := range s.measurements {
		for _, c := range turned(s.contestants, round+i) {
			o, err := s.measure(ctx, m, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				s.results.failures = append(s.results.failures, fmt.Sprintf("%s, %s, round %d: %v", c.name(), m.name, round+1, err))
				fmt.Fprintf(s.progress, "%d/%d  %-11s  %-8s  failed: %v\n", round+1, s.rounds, m.name, c.name(), err)
				continue
			}
			s.results.add(m, c.name(), o)
			fmt.Fprintf(s.progress, "%d/%d  %-11s  %-8s  %s\n", round+1, s.rounds, m.name, c.name(), describe(m, o))
		}
	}
	return nil
}

// turned is all of list, beginning with element by.
func turned[T any](list []T, by int) []T {
	by %= len(list)
	return slices.Concat(list[by:], list[:by])
}

// bringUp starts the server and the system, and waits until an echo comes back.
func (c *contestant) bringUp(ctx context.Context) (err error) {
	if c.server, err = startServer(ctx, c.pair.server.Host, appPort); err != nil {
		return err
	}
	if c.up, err = c.start(ctx, c.pair); err != nil {
		return err
	}
	return awaitEcho(ctx, c.pair, c.up)
}

// down stops what bringUp has started.
func (c *contestant) down() (err error) {
	if c.up != nil {
		err = c.up.stop()
	}
	if c.server != nil {
		err = errors.Join(err, c.server.stop())
	}
	c.up, c.server = nil, nil
	return err
}

// measure makes one measurement of one system.
func (s *suite) measure(ctx context.Context, m measurement, c *contestant) (o observation, err error) {
	o.proxied = c.up.client != 0
	if o.idle, err = c.memory(); err != nil {
		return o, err
	}
	plan := m.plan
	plan.Target = c.up.target
	client, err := startClient(ctx, c.pair.client.Host, plan)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, client.stop()) }()
	if plan.Kind == load.Idle {
		if err := pause(ctx, s.settle); err != nil {
			return o, err
		}
		o.held, err = c.memory()
		return o, err
	}
	if err := pause(ctx, s.warmUp); err != nil {
		return o, err
	}
	err = s.observe(ctx, c, client, &o)
	return o, err
}

// observe watches one window of a load that runs.
func (s *suite) observe(ctx context.Context, c *contestant, client *agent, o *observation) error {
	pids, err := c.processes()
	if err != nil {
		return err
	}
	began := time.Now()
	machine, err := usage.ReadMachine()
	if err != nil {
		return err
	}
	if err := errors.Join(c.server.begin(), client.begin()); err != nil {
		return err
	}
	cpu, err := usage.CPU(pids)
	if err != nil {
		return err
	}
	if err := pause(ctx, s.window); err != nil {
		return err
	}
	after, err := usage.CPU(pids)
	if err != nil {
		return err
	}
	o.proxies = after - cpu
	if o.client, err = client.end(); err != nil {
		return err
	}
	if o.server, err = c.server.end(); err != nil {
		return err
	}
	now, err := usage.ReadMachine()
	if err != nil {
		return err
	}
	o.machine, o.elapsed = now.Sub(machine), time.Since(began)
	if o.server.Bytes == 0 || o.client.Operations+o.client.Bytes == 0 {
		return fmt.Errorf("nothing came through within %v", o.elapsed.Round(time.Millisecond))
	}
	if o.proxied && o.proxies == 0 {
		return errors.New("the proxies did nothing: they were bypassed")
	}
	return nil
}

// processes are those of both proxies, with what they have started.
func (c *contestant) processes() (pids []int, err error) {
	for _, root := range []int{c.up.client, c.up.server} {
		if root == 0 {
			continue
		}
		tree, err := usage.Tree(root)
		if err != nil {
			return nil, err
		}
		pids = append(pids, tree...)
	}
	return pids, nil
}

// memory of the client's and of the server's proxy.
func (c *contestant) memory() (sizes [2]usage.Memory, err error) {
	for i, root := range []int{c.up.client, c.up.server} {
		if root == 0 {
			continue
		}
		tree, err := usage.Tree(root)
		if err != nil {
			return sizes, err
		}
		if sizes[i], err = usage.Sizes(tree); err != nil {
			return sizes, err
		}
	}
	return sizes, nil
}

// describe is the line of progress for what was observed.
func describe(m measurement, o observation) string {
	var parts []string
	for _, f := range m.figures {
		if value := f.value(o); !math.IsNaN(value) {
			parts = append(parts, fmt.Sprintf("%s %s %s", strings.TrimSpace(f.title), formatNumber(value, f.digits), f.unit))
		}
	}
	if m.plan.Kind != load.Idle {
		parts = append(parts, "["+formatShare(shareOf(o))+"]")
	}
	return strings.Join(parts, " · ")
}
