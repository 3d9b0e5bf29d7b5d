package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/sealmesh/sealmesh/test/bench/load"
	"github.com/sealmesh/sealmesh/test/lab"
)

// Roles this program plays when it is started again inside a workload.
const (
	roleServe = "serve"
	roleDrive = "drive"
)

// answerTime is how long an agent may take to be ready: opening 5,000
// connections takes the slowest proxy some seconds.
const answerTime = 60 * time.Second

// agent is this program in one of its roles, in a workload's namespace.
type agent struct {
	*process
	commands io.WriteCloser
	answers  *bufio.Reader
	deadline *time.Timer // kills an agent that does not answer
}

// startServer starts the server of a workload on all its addresses.
func startServer(ctx context.Context, host *lab.Host, port uint16) (*agent, error) {
	listen := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
	return startAgent(ctx, host, roleServe, listen.String())
}

// startClient starts a load; it is ready when its connections are open.
func startClient(ctx context.Context, host *lab.Host, p load.Plan) (*agent, error) {
	return startAgent(ctx, host, roleDrive,
		string(p.Kind), p.Target.String(), strconv.Itoa(p.Connections), strconv.Itoa(p.Rate))
}

// startAgent starts this program again and waits until it is ready.
func startAgent(ctx context.Context, host *lab.Host, args ...string) (*agent, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	a := &agent{process: newProcess(ctx, host, self, args...)}
	if a.commands, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// A pipe of our own: Wait may close the one of StdoutPipe under a reader.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	a.cmd.Stdout, a.answers = write, bufio.NewReader(read)
	if err := a.start(); err != nil {
		return nil, err
	}
	write.Close()
	a.deadline = time.AfterFunc(answerTime, a.kill)
	var ready string
	if err := a.answer(&ready); err != nil {
		return nil, err
	}
	return a, nil
}

// playRole is what an agent runs: the arguments are those startAgent gave.
func playRole(args []string) error {
	switch {
	case args[0] == roleServe && len(args) == 2:
		listen, err := netip.ParseAddrPort(args[1])
		if err != nil {
			return err
		}
		return load.Serve(listen, os.Stdin, os.Stdout)
	case args[0] == roleDrive && len(args) == 5:
		target, err := netip.ParseAddrPort(args[2])
		if err != nil {
			return err
		}
		connections, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		rate, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		plan := load.Plan{Kind: load.Kind(args[1]), Target: target, Connections: connections, Rate: rate}
		return load.Drive(plan, os.Stdin, os.Stdout)
	default:
		return fmt.Errorf("role %q: must be %s LISTEN or %s KIND TARGET CONNECTIONS RATE", args, roleServe, roleDrive)
	}
}

// begin has the agent count from now on.
func (a *agent) begin() error {
	var begun string
	return a.ask("begin", &begun)
}

// end is what the agent has counted since begin.
func (a *agent) end() (r load.Report, err error) {
	err = a.ask("end", &r)
	return r, err
}

// ask sends one command and waits for its answer.
func (a *agent) ask(command string, answer any) error {
	a.deadline.Reset(answerTime)
	if _, err := io.WriteString(a.commands, command+"\n"); err != nil {
		return a.lost(err)
	}
	return a.answer(answer)
}

// answer reads one line of JSON.
func (a *agent) answer(into any) error {
	line, err := a.answers.ReadBytes('\n')
	if err != nil {
		return a.lost(err)
	}
	a.deadline.Stop()
	if err := json.Unmarshal(line, into); err != nil {
		return fmt.Errorf("agent: answer %q: %v", line, err)
	}
	return nil
}

// lost says why an agent no longer answers: what it said at its end.
func (a *agent) lost(err error) error {
	a.kill()
	<-a.ended
	if failure := a.failure(); failure != nil {
		return failure
	}
	return fmt.Errorf("agent: %v", err)
}

// stop ends the agent by closing its input, and waits for it.
func (a *agent) stop() error {
	if err := a.failure(); err != nil {
		return err
	}
	a.commands.Close()
	return a.wait()
}
