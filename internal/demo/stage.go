package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/test/lab"
)

// port is where the receiver listens.
const port = 2929

// stage is the lab with everybody in it.
//
//	node 1: sender, stranger        node 2: receiver, thief
//	            └──────────── underlay ──────────┘
//	                                └ the captures: eth0 of node 2
type stage struct {
	config Config
	dir    string // of the captures
	owned  bool   // whether dir is ours to remove
	tshark string // "" if it is not installed

	lab                               *lab.Lab
	sender, receiver, stranger, thief *lab.Workload

	nc    *lab.Cmd // the receiver's
	inbox *journal // what it prints

	before, after string // capture files
	mesh          *mesh  // nil until sealing
}

// checkPrograms says what is missing on this machine, or nil.
func checkPrograms(ctx context.Context) error {
	var missing []string
	// There are several programs named nc: their options differ.
	if help, _ := exec.CommandContext(ctx, "nc", "-h").CombinedOutput(); !bytes.Contains(help, []byte("OpenBSD")) {
		missing = append(missing, "netcat-openbsd")
	}
	if _, err := exec.LookPath("tcpdump"); err != nil {
		missing = append(missing, "tcpdump")
	}
	if len(missing) > 0 {
		return fmt.Errorf("demo: programs are missing: apt-get install %s", strings.Join(missing, " "))
	}
	return lab.Supported()
}

// setStage builds the lab and starts the receiver.
func setStage(ctx context.Context, cfg Config) (_ *stage, err error) {
	s := &stage{config: cfg, dir: cfg.Dir, inbox: newJournal()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.strike(err))
		}
	}()
	if s.dir == "" {
		if s.dir, err = os.MkdirTemp("", "sealmesh-demo-"); err != nil {
			return nil, fmt.Errorf("demo: %w", err)
		}
		s.owned = true
	}
	s.before, s.after = filepath.Join(s.dir, "before.pcap"), filepath.Join(s.dir, "after.pcap")
	s.tshark, _ = exec.LookPath("tshark") // without it there is one claim less
	if s.lab, err = lab.New(ctx, lab.Config{Nodes: 2}); err != nil {
		return nil, err
	}
	for _, w := range []struct {
		workload **lab.Workload
		node     int
		name     string
	}{
		{&s.sender, 0, "sender"}, {&s.stranger, 0, "stranger"},
		{&s.receiver, 1, "receiver"}, {&s.thief, 1, "thief"},
	} {
		if *w.workload, err = s.lab.AddWorkload(s.lab.Nodes[w.node], w.name); err != nil {
			return nil, err
		}
	}
	if s.nc, err = listen(ctx, s.receiver, s.inbox); err != nil {
		return nil, err
	}
	return s, nil
}

// scene is what the audience sees at the beginning.
func (s *stage) scene() scene {
	return scene{Sender: s.sender.Addr4.String(), Receiver: s.receiver.Addr4.String(), Listens: listenCommand}
}

// strike ends everything. What is left are the captures; where a claim did not
// hold, the log too; after an error nothing.
func (s *stage) strike(failure error) error {
	var errs []error
	if s.mesh != nil {
		errs = append(errs, s.mesh.stop())
	}
	if s.lab != nil {
		errs = append(errs, s.lab.Close())
	}
	switch {
	case s.owned && failure != nil && !errors.Is(failure, ErrNotHeld):
		errs = append(errs, os.RemoveAll(s.dir))
	case s.mesh != nil && failure == nil:
		errs = append(errs, os.Remove(s.mesh.logFile))
	}
	return errors.Join(errs...)
}

var listenCommand = fmt.Sprintf("nc -lk %d", port)

// listen starts a receiver and returns once it can be reached.
func listen(ctx context.Context, w *lab.Workload, inbox *journal) (*lab.Cmd, error) {
	// It outlives ctx, which may be that of one act: the lab ends it.
	c := w.Command(context.WithoutCancel(ctx), "nc", "-lk", fmt.Sprint(port))
	c.Stdout = inbox
	if err := c.Start(); err != nil {
		return nil, err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		sockets, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", c.Process.Pid))
		if err != nil {
			return nil, fmt.Errorf("receiver: %w", err)
		}
		// Local address, remote address, state: 0A is LISTEN (proc_net_tcp).
		if bytes.Contains(sockets, fmt.Appendf(nil, ":%04X 00000000:0000 0A", port)) {
			return c, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("receiver does not listen: %w", context.Cause(ctx))
		}
	}
}

// send is the command that sends a word to a workload.
func (s *stage) send(word string, to *lab.Workload) string {
	return fmt.Sprintf("echo %s | nc -N %s %d", word, to.Addr4, port)
}

// run runs a shell command in a workload, as a person there would. That the
// command itself fails is no error: what it was for is judged elsewhere.
func run(ctx context.Context, w *lab.Workload, command string) error {
	err := w.Command(ctx, "sh", "-c", command).Run()
	if _, exited := errors.AsType[*exec.ExitError](err); exited && ctx.Err() == nil {
		return nil
	}
	return err
}
