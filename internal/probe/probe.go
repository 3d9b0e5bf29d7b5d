// Package probe is the experiment with netcat and tcpdump, made by a machine: it
// sends random markers between two workloads and looks for them on the wire.
//
//	 workload A                                          workload B
//	┌──────────┐ ○ interface   ○ uplinks of both nodes  ○ ┌──────────┐
//	│ marker ──┼─┬───────────────────┬──────────────────┬─┼─▶ marker │
//	│          │ └ capture           └ capture          └ │          │
//	└──────────┘          the same the other way          └──────────┘
//
//	1  open      captures at every vantage point, listeners at both ends
//	2  control   a marker outside of the seal, on purpose: every capture must see it
//	3  legs      markers through the seal: each way, TCP and UDP, with an answer
//	4  judge     no capture may have seen any of these
//
// A capture that saw nothing proves nothing: only one that did see the control can
// say that a marker was not there.
package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// End is a workload that markers are sent from and to.
type End struct {
	// Name as the user knows it, such as "shop/web".
	Name string
	// Netns is the path of its network namespace.
	Netns string
	// Addr is the address it is reached at.
	Addr netip.Addr
}

// Vantage is an interface to watch.
type Vantage struct {
	// Name as the user knows it, such as "node n1/eth0".
	Name string
	// Netns is the path of a network namespace, the own one if empty.
	Netns     string
	Interface string
}

// Config of a probe.
type Config struct {
	Ends     [2]End
	Vantages []Vantage
	// Protos are capture.TCP, capture.UDP or both.
	Protos []capture.Proto
	// Mark (SO_MARK) is what the control is sent with: what seals lets it pass.
	Mark int
	// Timeout of each marker.
	Timeout time.Duration
	// Knowledge of the judge.
	Knowledge verify.Knowledge
	// Step is told what is being done; may be nil.
	Step func(string)
}

// Validate reports every problem.
func (c Config) Validate() error {
	var problems []error
	for _, e := range c.Ends {
		if !e.Addr.IsValid() {
			problems = append(problems, fmt.Errorf("probe: %s has no address", e.Name))
		}
		if e.Netns == "" {
			problems = append(problems, fmt.Errorf("probe: %s has no network namespace on this machine", e.Name))
		}
	}
	if c.Ends[0].Netns == c.Ends[1].Netns {
		problems = append(problems, errors.New("probe: both ends are the same workload"))
	}
	if len(c.Vantages) == 0 {
		problems = append(problems, errors.New("probe: nowhere to watch"))
	}
	if len(c.Protos) == 0 {
		problems = append(problems, errors.New("probe: no protocol"))
	}
	if c.Timeout <= 0 {
		problems = append(problems, fmt.Errorf("probe: timeout %s: must be more than 0", c.Timeout))
	}
	return errors.Join(problems...)
}

// Leg is one marker on its way, and its answer.
type Leg struct {
	From    string        `json:"from"`
	To      string        `json:"to"`
	Proto   capture.Proto `json:"proto"`
	Control bool          `json:"control,omitempty"`
	// Dst is where it was sent.
	Dst netip.AddrPort `json:"dst"`
	// Carried: it arrived, and of a leg so did its answer. Error says why not.
	Carried bool   `json:"carried"`
	Error   string `json:"error,omitempty"`
	// Seen are the captures that saw the marker or its answer in clear.
	Seen []Sighting `json:"seen"`
	// Flows to Dst, as the captures that saw them judge them.
	Flows []verify.Finding `json:"flows,omitempty"`

	marker, answer string
}

// Sighting is a packet with a marker in it.
type Sighting struct {
	Vantage string `json:"vantage"`
	// Packet counts from 1 at each vantage.
	Packet int `json:"packet"`
}

// Watched is what one capture saw.
type Watched struct {
	Vantage string `json:"vantage"`
	Packets int    `json:"packets"`
	Dropped uint64 `json:"dropped"`
	// Controls of all that it should have seen.
	Controls int    `json:"controls"`
	Error    string `json:"error,omitempty"`
}

// Result of a probe.
type Result struct {
	Verdict verify.Result `json:"result"`
	Doubts  []string      `json:"doubts,omitempty"`
	Control []Leg         `json:"control"`
	Legs    []Leg         `json:"legs"`
	// Tunnels are flows seen that may have carried a leg: WireGuard and the like.
	Tunnels []verify.Finding `json:"tunnels,omitempty"`
	Watched []Watched        `json:"watched"`
}

// Run makes the experiment. An error means that it could not be made; whatever it
// showed is in the result.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	watch, err := startWatch(ctx, cfg)
	if err != nil {
		return nil, err
	}
	res := &Result{}
	var failed error
	for i := range cfg.Ends {
		from, to := cfg.Ends[i], cfg.Ends[1-i]
		cfg.step("control from %s to %s, outside of the seal", from.Name, to.Name)
		leg, err := control(ctx, cfg, from, to)
		failed = errors.Join(failed, err)
		res.Control = append(res.Control, leg)
	}
	for _, proto := range cfg.Protos {
		for i := range cfg.Ends {
			from, to := cfg.Ends[i], cfg.Ends[1-i]
			cfg.step("%s from %s to %s", proto, from.Name, to.Name)
			leg, err := send(ctx, cfg, proto, from, to)
			failed = errors.Join(failed, err)
			res.Legs = append(res.Legs, leg)
		}
	}
	watch.stop()
	if failed != nil {
		return nil, failed
	}
	res.judge(watch)
	return res, ctx.Err()
}

func (c Config) step(format string, args ...any) {
	if c.Step != nil {
		c.Step(fmt.Sprintf(format, args...))
	}
}

// newMarker is text that nothing else on the wire holds.
func newMarker(what string) string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return "sealmesh-" + what + "-" + hex.EncodeToString(b)
}
