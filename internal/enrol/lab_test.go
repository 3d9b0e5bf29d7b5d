package enrol

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/redirect"
	"github.com/sealmesh/sealmesh/test/lab"
)

// patience is how long a connection is tried that must not come about, and
// enough how long one waits for what must come.
const (
	patience = 300 * time.Millisecond
	enough   = 20 * time.Second
)

// site is a node with a workload to seal and another to talk to, and an enroller.
type site struct {
	*Enroller
	t         *testing.T
	lab       *lab.Lab
	web, peer *lab.Workload
	ticks     chan time.Time
	logs      *logs
	cancel    context.CancelFunc
	ended     chan struct{} // closed when Run has returned
	bin       string
}

// newSite makes a site whose enroller starts the proxy of a behaviour.
func newSite(t *testing.T, behaviour string, options ...func(*Config)) *site {
	t.Helper()
	l := lab.T(t, lab.Config{Nodes: 1})
	s := &site{
		t: t, lab: l, web: l.Workload(t, l.Nodes[0], "web"), peer: l.Workload(t, l.Nodes[0], "peer"),
		ticks: make(chan time.Time), logs: &logs{}, ended: make(chan struct{}), bin: t.TempDir(),
	}
	var tokens sync.Mutex
	count := 0
	config := Config{
		Proxy: s.program(behaviour), Args: []string{"--drain", "1s"}, Env: []string{fakeProxy + "=1"},
		Tokens: func(_ context.Context, namespace, name string) (string, error) {
			tokens.Lock()
			defer tokens.Unlock()
			count++
			return fmt.Sprintf("%s-%s-%d", namespace, name, count), nil
		},
		Drain: enough, Output: s.logs, Ticks: s.ticks,
		Log: slog.New(slog.NewTextHandler(s.logs, nil)),
	}
	for _, o := range options {
		o(&config)
	}
	var err error
	if s.Enroller, err = New(config); err != nil {
		t.Fatal(err)
	}
	s.backoff = func(int) time.Duration { return 10 * time.Millisecond }
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		s.end()
		if t.Failed() {
			log := s.logs.String()
			t.Logf("log:\n%s", log[max(0, len(log)-4000):])
		}
	})
	// Links come up one after the other.
	s.until("the lab works", func() bool {
		_, _, err := s.call(s.web, s.out())
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	return s
}

// end ends the enroller and waits for it.
func (s *site) end() {
	s.t.Helper()
	s.cancel()
	select {
	case <-s.ended:
	case <-time.After(enough):
		s.t.Fatalf("Run does not end; log:\n%s", s.logs)
	}
}

// program is the path of the proxy with a behaviour.
func (s *site) program(behaviour string) string {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(s.bin, behaviour)
	if err := os.Symlink(self, path); err != nil && !os.IsExist(err) {
		s.t.Fatal(err)
	}
	return path
}

// seal has the enroller seal workloads.
func (s *site) seal(workloads ...Workload) {
	s.t.Helper()
	if err := s.Apply(workloads); err != nil {
		s.t.Fatal(err)
	}
}

// whole is the site's workload, all of its namespace.
func (s *site) whole() Workload {
	return Workload{Namespace: "shop", Name: "web", NetNS: s.web.Path()}
}

// until waits for a condition.
func (s *site) until(what string, condition func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(enough); !condition(); {
		select {
		case <-tick.C:
		case <-end:
			s.t.Fatalf("not in time: %s; status %+v", what, s.Status())
		}
	}
}

// status of a workload; the zero value if it is not there.
func (s *site) status(name string) Status {
	for _, st := range s.Status() {
		if st.Workload == "shop/"+name {
			return st
		}
	}
	return Status{}
}

// sealed waits until a workload is served by a proxy with another process number
// than before.
func (s *site) sealed(name string, before int) Status {
	s.t.Helper()
	var st Status
	s.until(name+" is sealed", func() bool {
		st = s.status(name)
		return st.Phase == "redirect" && st.PID != 0 && st.PID != before
	})
	return st
}

// call connects from one workload to an address and returns the greeting it gets.
func (s *site) call(from *lab.Workload, to string) (net.Conn, string, error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to)
	if err != nil {
		return nil, "", err
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(enough))
	greeting, err := bufio.NewReader(conn).ReadString('\n')
	return conn, strings.TrimSpace(greeting), err
}

// mustReach checks who answers a call.
func (s *site) mustReach(from *lab.Workload, to, want string) net.Conn {
	s.t.Helper()
	conn, greeting, err := s.call(from, to)
	if err != nil {
		s.t.Fatalf("call %s: %v", to, err)
	}
	if greeting != want {
		s.t.Fatalf("call %s: greeted by %q, want %q", to, greeting, want)
	}
	return conn
}

// mustNotPass checks that a call does not even connect.
func (s *site) mustNotPass(from *lab.Workload, to string) {
	s.t.Helper()
	if _, greeting, err := s.call(from, to); err == nil {
		s.t.Errorf("call %s passes, greeted by %q", to, greeting)
	}
}

// serve answers calls with a name, without any proxy.
func (s *site) serve(at *lab.Workload, address, name string) {
	s.t.Helper()
	l, err := at.Listen("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	var open sync.WaitGroup
	go accept(l, name, &open)
}

// out is where the site's workload calls: the peer.
func (s *site) out() string { return net.JoinHostPort(s.peer.Addr4.String(), "2929") }

// in is where the peer calls: the site's workload.
func (s *site) in() string { return net.JoinHostPort(s.web.Addr4.String(), "8080") }

// drift is what differs from the rules the enroller wants.
func (s *site) drift() []string {
	s.t.Helper()
	r := s.realm(s.web.Path())
	r.mu.Lock()
	defer r.mu.Unlock()
	var drift []string
	err := redirect.InNamespace(r.path, func() (err error) {
		drift, err = redirect.Check(r.configLocked())
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return drift
}

// alive reports whether a process is there.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// logs is a log to be read while it is written.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
