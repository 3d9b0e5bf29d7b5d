package enrol

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/ports"
)

// TestMain is also the programs of these tests: the test program itself is run as
// the proxy, under the name of one of the behaviours below, and as an enroller
// that is to be killed.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv(fakeProxy) != "":
		err = actAs(filepath.Base(os.Args[0]))
	case os.Getenv(superviseNS) != "":
		err = supervise()
	default:
		m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fake program:", err)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

const fakeProxy = "SEALMESH_FAKE_PROXY"

// Behaviours of the proxy, by the name of its program.
const (
	serves   = "serves"   // as a proxy should
	serves2  = "serves2"  // the same, of another version
	mute     = "mute"     // is never ready
	crashes  = "crashes"  // ends before it is ready
	stubborn = "stubborn" // ignores SIGTERM
)

// draining is what the proxy prints at SIGTERM.
const draining = "fake proxy: draining"

func actAs(behaviour string) error {
	token, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	if err := checkSurroundings(); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	switch behaviour {
	case crashes:
		return fmt.Errorf("told to crash")
	case mute:
		<-term
		return nil
	}
	greeting := fmt.Sprintf("%s %s", behaviour, token)
	var open sync.WaitGroup
	var listeners []net.Listener
	for fd := range 2 {
		l, err := net.FileListener(os.NewFile(uintptr(3+fd), "socket"))
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		go accept(l, greeting, &open)
	}
	notify, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(notify, "STATUS=fine\nREADY=1\n"); err != nil {
		return err
	}
	for range term {
		fmt.Fprintln(os.Stderr, draining)
		if behaviour != stubborn {
			break
		}
	}
	for _, l := range listeners {
		l.Close()
	}
	open.Wait()
	return nil
}

// accept greets each connection with who serves it and where it was meant to go,
// and holds it until the other end closes.
func accept(l net.Listener, greeting string, open *sync.WaitGroup) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		open.Go(func() {
			defer conn.Close()
			fmt.Fprintf(conn, "%s %s\n", greeting, conn.LocalAddr())
			_, _ = io.Copy(io.Discard, conn)
		})
	}
}

// checkSurroundings is what a proxy relies on.
func checkSurroundings() error {
	if os.Getuid() != ports.ProxyUID || os.Getgid() != ports.ProxyUID {
		return fmt.Errorf("runs as %d:%d", os.Getuid(), os.Getgid())
	}
	if groups, err := os.Getgroups(); err != nil || len(groups) > 0 {
		return fmt.Errorf("is in groups %v, %v", groups, err)
	}
	if got := os.Getenv("LISTEN_FDS") + " " + os.Getenv("LISTEN_FDNAMES"); got != "4 outbound:inbound:admin:keys" {
		return fmt.Errorf("is passed %q", got)
	}
	if len(os.Environ()) != 4 {
		return fmt.Errorf("inherits from the environment: %q", os.Environ())
	}
	if !slices.Equal(os.Args[1:], []string{"--drain", "1s", "--token-file", "-"}) {
		return fmt.Errorf("is called with %q", os.Args[1:])
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, ports.Mark); err != nil {
		return fmt.Errorf("cannot mark a socket: %w", err)
	}
	if status, err := os.ReadFile("/proc/self/status"); err != nil || !strings.Contains(string(status), "CapEff:\t0000000000001000") {
		return fmt.Errorf("has other capabilities than CAP_NET_ADMIN: %s", status)
	}
	return nil
}
