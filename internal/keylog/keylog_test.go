package keylog

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func random() (r Random) {
	_, _ = rand.Read(r[:])
	return r
}

// record is a finished handshake's secrets.
func record(k *Keeper, name Random) *Recorder {
	r := k.Recorder()
	if r != nil {
		fmt.Fprintf(r, "CLIENT_TRAFFIC_SECRET_0 %x aa\n", name)
		fmt.Fprintf(r, "SERVER_TRAFFIC_SECRET_0 %x bb\n", name)
	}
	return r
}

func TestWhatIsKeptIsToldAndBounded(t *testing.T) {
	k := NewKeeper(func() bool { return true })
	open := random()
	k.Keep(open, record(k, open))
	var ended []Random
	for range keepEnded + 3 {
		name := random()
		k.Keep(name, record(k, name))
		k.End(name)
		k.End(name)
		ended = append(ended, name)
	}
	if _, count, allowed := k.Tell(nil); count != keepEnded+1 || !allowed {
		t.Errorf("%d sessions are kept, allowed %v", count, allowed)
	}
	for i, name := range append(ended, open) {
		text, count, _ := k.Tell([]Random{name, name, {}})
		if kept := i >= 3; kept != (count == 1) || kept != (strings.Count(string(text), fmt.Sprintf("%x", name)) == 2) {
			t.Errorf("session %d: %d are told: %s", i, count, text)
		}
	}
}

func TestDeniedMeansNothingIsKept(t *testing.T) {
	var allowed atomic.Bool
	k := NewKeeper(allowed.Load)
	if k.Recorder() != nil {
		t.Error("a handshake is recorded while that is denied")
	}
	k.Keep(random(), nil)
	allowed.Store(true)
	under := record(k, random())
	kept := random()
	k.Keep(kept, record(k, kept))
	held := k.sessions[kept].lines
	ended := random()
	k.Keep(ended, record(k, ended))
	k.End(ended)

	allowed.Store(false)
	k.Keep(random(), under) // its handshake began before
	if text, count, ok := k.Tell(nil); ok || count != 0 || len(text) != 0 {
		t.Errorf("%d sessions are told while that is denied", count)
	}
	k.Review()
	if len(k.sessions)+len(k.ended) != 0 || !bytes.Equal(held, make([]byte, len(held))) {
		t.Errorf("%d sessions, %d ended are not forgotten; one reads %q", len(k.sessions), len(k.ended), held)
	}
	allowed.Store(true)
	if _, count, ok := k.Tell(nil); !ok || count != 0 {
		t.Errorf("%d sessions come back", count)
	}
}

// server is a keeper behind a socket.
type server struct {
	*Keeper
	path    string
	allowed atomic.Bool
	log     syncBuffer
}

func serve(t *testing.T) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "keylog-") //nolint:usetesting // another user must get there, by a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &server{path: filepath.Join(dir, "keys")}
	s.allowed.Store(true)
	s.Keeper = NewKeeper(s.allowed.Load)
	l, err := Listen(s.path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ctx, l, slog.New(slog.NewTextHandler(&s.log, nil)))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func TestTheOwnerIsTold(t *testing.T) {
	s := serve(t)
	a, b := random(), random()
	s.Keep(a, record(s.Keeper, a))
	s.Keep(b, record(s.Keeper, b))
	for _, c := range []struct {
		ask  []Random
		want int
	}{{nil, 2}, {[]Random{a}, 1}, {[]Random{random()}, 0}, {[]Random{a, b, random()}, 2}} {
		text, count, err := Ask(t.Context(), s.path, c.ask)
		if err != nil || count != c.want || strings.Count(string(text), "CLIENT_TRAFFIC_SECRET_0") != c.want {
			t.Errorf("of %d asked for %d are told, %v:\n%s", len(c.ask), count, err, text)
		}
	}
	if log := s.log.String(); strings.Count(log, "key log read") != 4 || !strings.Contains(log, fmt.Sprintf("uid=%d pid=%d count=1 asked=1", os.Getuid(), os.Getpid())) {
		t.Errorf("the log says:\n%s", log)
	}
	s.allowed.Store(false)
	_, _, err := Ask(t.Context(), s.path, nil)
	if r, ok := errors.AsType[*Refusal](err); !ok || r.Code != CodeDenied || !strings.Contains(r.Message, "debug.keyLog") {
		t.Errorf("denied by the mesh: %v", err)
	}
	if log := s.log.String(); !strings.Contains(log, "key log refused") || !strings.Contains(log, "code=denied") {
		t.Errorf("the log says:\n%s", log)
	}
	if log := s.log.String(); strings.Contains(log, "TRAFFIC_SECRET") {
		t.Errorf("the log holds secrets:\n%s", log)
	}
}

// Another user is refused whatever it asks, and that is logged.
func TestAnotherUserIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not run: needs root to become another user")
	}
	s := serve(t)
	name := random()
	s.Keep(name, record(s.Keeper, name))
	const other = 24999
	answered := make(chan string)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		answered <- askAs(other, s.path)
	}()
	if got := <-answered; !strings.Contains(got, `"code":"caller"`) || strings.Contains(got, "SECRET") {
		t.Errorf("user %d is told %s", other, got)
	}
	if log := s.log.String(); !strings.Contains(log, fmt.Sprintf("key log refused\" uid=%d", other)) || !strings.Contains(log, "code=caller") {
		t.Errorf("the log says:\n%s", log)
	}
}

// askAs asks for everything as another user: of this thread alone, which is what
// the kernel notes of who connects.
func askAs(uid int, path string) string {
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
		return e.Error()
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err.Error()
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err.Error()
	}
	_, _ = unix.Write(fd, []byte(`{"all":true}`))
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	return fmt.Sprint(string(b[:max(0, n)]), err)
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	s := serve(t)
	for request, want := range map[string]string{
		"nonsense\n":                      "request: invalid character",
		"{}\n":                            "must name 1 to 8192 sessions, or ask for all",
		`{"all":true,"sessions":["00"]}`:  "must name 1 to 8192 sessions, or ask for all",
		`{"sessions":["00"]}`:             "must be the 32 bytes",
		`{"sessions":["x"],"more":1}`:     `unknown field \"more\"`,
		`{"sessions":[` + "\"zz\"" + `]}`: `session \"zz\"`,
	} {
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, request)
		got, _ := io.ReadAll(conn)
		conn.Close()
		if !strings.Contains(string(got), want) || !strings.Contains(string(got), `"code":"malformed"`) {
			t.Errorf("%s: %s", request, got)
		}
	}
}

// FuzzRequest: whatever is read names sessions, or is refused, or asks for all.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"all":true}`))
	f.Add([]byte(`{"sessions":["` + strings.Repeat("ab", 32) + `"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		sessions, refusal := read(bytes.NewReader(b))
		if refusal != nil && (len(sessions) != 0 || refusal.Message == "") || len(sessions) > MaxSessions {
			t.Errorf("%d sessions, %v", len(sessions), refusal)
		}
	})
}

// syncBuffer may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
