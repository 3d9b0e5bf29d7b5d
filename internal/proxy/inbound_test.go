package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/mtls"
)

// hello is a ClientHello as it is on the wire.
func hello(t testing.TB, protocols ...string) []byte {
	t.Helper()
	near, far := net.Pipe()
	go func() {
		_ = tls.Client(near, mtls.Config{ServerName: "web.shop.demo.local", Protocols: protocols}.TLS()).Handshake()
	}()
	defer near.Close()
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestHelloIsReadAcrossSegments(t *testing.T) {
	b := hello(t, mtls.ALPN)
	if len(b) < 1400 {
		t.Fatalf("a post-quantum ClientHello has %d bytes?", len(b))
	}
	for n := 1; n < len(b); n += 97 {
		if protocols, complete := helloProtocols(b[:n]); complete || protocols != nil {
			t.Fatalf("%d of %d bytes: complete %v, %q", n, len(b), complete, protocols)
		}
	}
	if protocols, complete := helloProtocols(b); !complete || !slices.Equal(protocols, []string{mtls.ALPN}) {
		t.Fatalf("whole hello: complete %v, %q", complete, protocols)
	}
	if protocols, complete := helloProtocols(hello(t, "h2", "http/1.1")); !complete || slices.Contains(protocols, mtls.ALPN) {
		t.Fatalf("application TLS: complete %v, %q", complete, protocols)
	}
	if _, complete := helloProtocols([]byte("\x16\x03\x01\x00\x05GET /")); !complete {
		t.Fatal("garbage that looks like a record is waited on")
	}
}

func FuzzHelloProtocols(f *testing.F) {
	f.Add(hello(f, mtls.ALPN))
	f.Add(hello(f, "h2"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(_ *testing.T, b []byte) { helloProtocols(b) })
}

func TestAdminAnswersStrangersOnlyWhatTheyMayKnow(t *testing.T) {
	for _, c := range []struct {
		remote, host string
		want         bool
	}{
		{"127.0.0.1:5", "127.0.0.1:15090", true},
		{"127.0.0.1:5", "localhost:15090", true},
		{"[::1]:5", "[::1]:15090", true},
		{"[::ffff:127.0.0.1]:5", "localhost", true},
		{"127.0.0.1:5", "evil.example:15090", false}, // a web page that had its name point here
		{"10.0.0.3:5", "127.0.0.1:15090", false},
		{"10.0.0.3:5", "localhost", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/connections", nil)
		r.RemoteAddr, r.Host = c.remote, c.host
		if got := fromLoopback(r); got != c.want {
			t.Errorf("from %s for %s: %v", c.remote, c.host, got)
		}
	}
}

func TestOneAddressCannotTakeAllHandshakes(t *testing.T) {
	s := newSlots()
	flooder, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var releases []func()
	for range maxHandshakesWith {
		release, err := s.take(t.Context(), flooder)
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.take(soon, flooder); err == nil {
		t.Error("the flooder gets more than its share")
	}
	release, err := s.take(t.Context(), other)
	if err != nil {
		t.Error("another address has to wait")
	}
	for _, release := range append(releases, release) {
		release()
	}
	if len(s.with) != 0 || len(s.all) != 0 {
		t.Error("slots are not given back")
	}
}
