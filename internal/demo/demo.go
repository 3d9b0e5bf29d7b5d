// Package demo is the narration of "sealmesh demo": real programs, a real wire,
// and a claim for each thing that is shown, with its evidence.
//
//	1  before      nc sends "test"; tcpdump on the receiver's node reads it
//	2  sealing     the real "sealmesh up" on a directory of objects
//	3  after       the same programs, the same command; tcpdump reads TLS
//	4  intruders   three ways in that end in a refusal, and its reason
//	5  verdict     what held, and where the captures are
//
// demo.go tells the story, stage.go sets it, acts.go plays it, page.go renders
// it. What is rendered is pure; what is claimed comes from programs that are not
// ours: nc, tcpdump and, where it is installed, tshark.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Config says how the demo is shown.
type Config struct {
	// Out takes the narration; Color says whether it may be coloured.
	Out   io.Writer
	Color bool
	// Keep leaves everything running until ctx ends.
	Keep bool
	// Program is the sealmesh command to run, this very program if empty.
	Program string
	// Proxy is the sealmesh-proxy program; if empty, Program finds it.
	Proxy string
	// Dir takes the captures; a new directory below the system's temporary one
	// if empty.
	Dir string
}

// ErrNotHeld means that the demo ran and that something it claims did not hold.
var ErrNotHeld = errors.New("not everything that was claimed held")

// actTime is how long one act may take, on a slow machine.
const actTime = 30 * time.Second

// Run plays the demo. Whatever happens, nothing but the captures is left behind,
// and after an error or the end of ctx not even those. It needs root.
func Run(ctx context.Context, cfg Config) (err error) {
	if err := checkPrograms(ctx); err != nil {
		return err
	}
	if cfg.Program == "" {
		if cfg.Program, err = os.Executable(); err != nil {
			return fmt.Errorf("demo: own program: %w", err)
		}
	}
	began := time.Now()
	s, err := setStage(ctx, cfg)
	if err != nil {
		return err
	}
	show := &narration{page: page{out: cfg.Out, color: cfg.Color}}
	defer func() {
		if ctx.Err() != nil && err != nil { // whatever failed then, this is why
			err = fmt.Errorf("demo: %w", context.Cause(ctx))
		}
		err = errors.Join(err, s.strike(err))
	}()
	show.opening(s.scene())
	if err := s.play(ctx, show); err != nil {
		return err
	}
	show.verdict(verdict{
		Held: show.held, Claimed: show.claimed, Took: time.Since(began),
		Before: s.before, After: s.after, Next: s.next(),
	})
	if cfg.Keep {
		s.keep(ctx, show)
	}
	if !show.allHeld() {
		return ErrNotHeld
	}
	return nil
}

// narration is a page that counts.
type narration struct {
	page
	held, claimed int
}

// claim shows a claim and counts it.
func (n *narration) claim(c claim) {
	n.claimed++
	if c.Mark != failed {
		n.held++
	}
	n.page.claim(c)
}

func (n *narration) allHeld() bool { return n.held == n.claimed }

// play plays one act after the other. Each stands on those before it: none
// follows one that did not hold.
func (s *stage) play(ctx context.Context, show *narration) error {
	for i, act := range []struct {
		title, subtitle string
		play            func(context.Context, *narration) error
	}{
		{"Before", "as it is today", s.showPlaintext},
		{"Sealing", "without touching the programs", s.seal},
		{"After", "the same programs, the same command", s.showSealed},
		{"Intruders", "refused, and why", s.showIntruders},
	} {
		if !show.allHeld() {
			return nil
		}
		show.act(i+1, act.title, act.subtitle)
		ctx, cancel := context.WithTimeoutCause(ctx, actTime, fmt.Errorf("this took longer than %s", actTime))
		err := act.play(ctx, show)
		cancel()
		if err != nil {
			return fmt.Errorf("demo: step %d, %s: %w", i+1, act.title, err)
		}
	}
	return nil
}

// keep leaves the stage as it is until ctx ends, and tells what the receiver
// prints.
func (s *stage) keep(ctx context.Context, show *narration) {
	show.invitation(s.ways())
	for seen := s.inbox.len(); ; seen++ {
		line, err := s.inbox.wait(ctx, seen, anyLine)
		if err != nil {
			return
		}
		show.received(line)
	}
}

// next is what to try after the demo.
func (s *stage) next() []string {
	read := "tcpdump -nX -r " + s.after
	if s.tshark != "" {
		read = "tshark -d tcp.port==2929,tls -r " + s.after
	}
	return []string{read, os.Args[0] + " demo --keep", os.Args[0] + " up --help"}
}

// ways are commands into the running lab, each with what it does.
func (s *stage) ways() [][2]string {
	return [][2]string{
		{"send something", fmt.Sprintf("ip netns exec %s sh -c %q", s.sender.Host.Name, s.send("hello", s.receiver))},
		{"watch the wire", fmt.Sprintf("ip netns exec %s tcpdump -nXi eth0 tcp port %d", s.receiver.Node.Name, port)},
		{"be a stranger", fmt.Sprintf("ip netns exec %s sh", s.stranger.Host.Name)},
		{"who is who", os.Args[0] + " identity -f " + s.mesh.dir},
		{"who talks to whom", os.Args[0] + " edges -f " + s.mesh.dir},
		{"change the objects", "$EDITOR " + filepath.Join(s.mesh.dir, objectsFile)},
		{"read the log", "tail -f " + s.mesh.logFile},
	}
}
