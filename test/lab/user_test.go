package lab

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestAUsersSocketsAndProgramsAreTheUsers(t *testing.T) {
	const uid = "4001"
	l := T(t, Config{Nodes: 1})
	user := l.Nodes[0].As(4001)
	out, err := user.Command(t.Context(), "id", "-u").Output()
	if err != nil || strings.TrimSpace(string(out)) != uid {
		t.Errorf("a program runs as %q, %v", out, err)
	}
	ln, err := user.Listen("tcp", netip.AddrPortFrom(user.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	list := func(h *Host) string {
		out, err := h.Command(t.Context(), "ss", "-Hltne", "sport", "=", ":"+port).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if got := list(l.Nodes[0].Host); !strings.Contains(got, "uid:"+uid) {
		t.Errorf("the socket is not the user's: %s", got)
	}
	root, err := l.Nodes[0].Listen("tcp", netip.AddrPortFrom(user.Addr6, ln.Addr().(*net.TCPAddr).AddrPort().Port()).String())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if got := list(l.Nodes[0].Host); strings.Count(got, "uid:"+uid) != 1 {
		t.Errorf("a socket of root is the user's: %s", got)
	}
}
