package load

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// peer is a client or a server under test, driven as the harness drives it.
type peer struct {
	t        *testing.T
	commands *os.File
	answers  *bufio.Reader
	done     chan error
}

// start runs what main would run in a process of its own.
func start(t *testing.T, run func(in *os.File, out io.Writer) error) *peer {
	t.Helper()
	in, commands, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, out := io.Pipe()
	p := &peer{t: t, commands: commands, answers: bufio.NewReader(answers), done: make(chan error, 1)}
	go func() {
		err := run(in, out)
		out.CloseWithError(io.EOF)
		p.done <- err
	}()
	return p
}

// answer reads one line, as JSON into into.
func (p *peer) answer(into any) {
	p.t.Helper()
	line, err := p.answers.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("no answer: %v (ended with %v)", err, <-p.done)
	}
	if err := json.Unmarshal(line, into); err != nil {
		p.t.Fatalf("answer %q: %v", line, err)
	}
}

// begin starts the window, once the peer is ready.
func (p *peer) begin() {
	p.t.Helper()
	var begun string
	if _, err := p.commands.WriteString("begin\n"); err != nil {
		p.t.Fatal(err)
	}
	p.answer(&begun)
}

// end ends the window.
func (p *peer) end() (r Report) {
	p.t.Helper()
	if _, err := p.commands.WriteString("end\n"); err != nil {
		p.t.Fatal(err)
	}
	p.answer(&r)
	return r
}

// stop closes standard input and expects a good end.
func (p *peer) stop() {
	p.t.Helper()
	_ = p.commands.Close()
	if err := <-p.done; err != nil {
		p.t.Errorf("ended with %v", err)
	}
}

// ready waits until the peer can be measured.
func (p *peer) ready() *peer {
	p.t.Helper()
	var ready string
	p.answer(&ready)
	return p
}

// startServer serves on a free port of loopback.
func startServer(t *testing.T) (*peer, netip.AddrPort) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := netip.MustParseAddrPort(free.Addr().String())
	_ = free.Close()
	serve := func(in *os.File, out io.Writer) error { return Serve(address, in, out) }
	return start(t, serve).ready(), address
}

// until repeats windows of a load until one has something in it: an event to
// wait for, whatever the speed of the machine.
func until(p *peer, enough func(Report) bool) Report {
	for {
		p.begin()
		if r := p.end(); enough(r) {
			return r
		}
	}
}

func TestEveryKindOfLoadReachesTheServer(t *testing.T) {
	for _, plan := range []Plan{
		{Kind: Bulk, Connections: 3},
		{Kind: Requests, Connections: 40},
		{Kind: Paced, Connections: 4, Rate: 500},
		{Kind: Connections, Connections: 8},
	} {
		t.Run(string(plan.Kind), func(t *testing.T) {
			server, address := startServer(t)
			plan.Target = address
			client := start(t, func(in *os.File, out io.Writer) error { return Drive(plan, in, out) }).ready()
			server.begin()
			client.begin()
			if plan.Kind != Bulk {
				// The second window begins with counters at zero again.
				until(client, func(r Report) bool { return r.Operations > 0 })
				until(client, func(r Report) bool { return r.Operations > 0 })
			} else {
				until(client, func(r Report) bool { return r.Bytes > 0 })
			}
			if r := server.end(); r.Bytes == 0 || r.Elapsed <= 0 || r.CPU <= 0 {
				t.Errorf("server reports %+v", r)
			}
			client.stop()
			server.stop()
		})
	}
}

func TestIdleConnectionsAreReadyOnceAllHadTheirReply(t *testing.T) {
	const held = 300
	server, address := startServer(t)
	server.begin()
	plan := Plan{Kind: Idle, Connections: held, Target: address}
	client := start(t, func(in *os.File, out io.Writer) error { return Drive(plan, in, out) }).ready()
	if r := server.end(); r.Bytes != held*MessageSize {
		t.Errorf("server has seen %d bytes, want %d", r.Bytes, held*MessageSize)
	}
	client.stop()
	server.stop()
}

// A server that closes early must end the client with an error, not be counted.
func TestAConnectionThatFailsEndsTheLoad(t *testing.T) {
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					_, _ = io.ReadFull(c, make([]byte, 1))
					_ = c.Close()
				}
			}()
			address := netip.MustParseAddrPort(listener.Addr().String())
			plan := Plan{Kind: kind, Connections: 1, Rate: 100, Target: address}
			in, commands, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer commands.Close()
			if err := Drive(plan, in, io.Discard); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestAPlanIsRefusedByName(t *testing.T) {
	target := netip.MustParseAddrPort("127.0.0.1:1")
	for _, c := range []struct {
		plan Plan
		want string
	}{
		{Plan{Kind: "flood", Target: target, Connections: 1}, `kind of load "flood"`},
		{Plan{Kind: Bulk, Connections: 1}, "target"},
		{Plan{Kind: Bulk, Target: target}, "connections 0"},
		{Plan{Kind: Paced, Target: target, Connections: 1}, "rate 0"},
	} {
		if err := c.plan.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.plan, err, c.want)
		}
	}
}

func TestTheScheduleDoesNotMoveForASlowReply(t *testing.T) {
	s := schedule{interval: 10 * time.Millisecond}
	take := func(now time.Duration) (intended []time.Duration) {
		for {
			at, ok := s.due(now)
			if !ok {
				return intended
			}
			intended = append(intended, at)
		}
	}
	if got := take(0); len(got) != 1 || got[0] != 0 {
		t.Errorf("at 0: %v, want the first at once", got)
	}
	if got := take(9 * time.Millisecond); got != nil {
		t.Errorf("at 9 ms: %v, want none before its time", got)
	}
	// Stalled until 45 ms: all four are still sent, each counted from its own time.
	got := take(45 * time.Millisecond)
	if len(got) != 4 || got[0] != 10*time.Millisecond || got[3] != 40*time.Millisecond {
		t.Errorf("after the stall: %v, want 10, 20, 30 and 40 ms", got)
	}
}

func TestQuantileIsANearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		values []time.Duration
		q      float64
		want   time.Duration
	}{
		{nil, 0.5, 0}, {hundred[:1], 0.99, 1}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100}, {hundred, 0, 1},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile %v of %d values = %d, want %d", c.q, len(c.values), got, c.want)
		}
	}
}
