package lane_test

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/test/pki"
)

// FuzzPeer is a peer with a good certificate that writes anything at all. A
// server of a lane must neither panic nor hang, nor deliver bytes outside a
// stream that was opened.
func FuzzPeer(f *testing.F) {
	text, err := os.ReadFile("../../test/vectors/lane.txt")
	if err != nil {
		f.Fatal(err)
	}
	var frames []byte
	for line := range strings.Lines(string(text)) {
		if part := strings.Split(line, "|"); len(part) == 3 {
			b, _ := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(part[1]), " ", ""))
			frames = append(frames, b...)
			f.Add(b)
		}
	}
	f.Add(frames)
	f.Add([]byte("\x01\x00\x00\x09\x01\x00\x04\x0a\x4d\x02\x0a\x0b\x71\x02\x00\x00\x02hi\x03\x00\x00\x00\x01\x01\x00\x09\x01\x00\x04\x0a\x4d\x02\x0a\x0b\x71\x04\x01\x00\x00"))
	d := pki.New(f, "demo.local")
	client, server := d.Leaf(d.ID("shop", "curl")), d.Leaf(d.ID("shop", "web"))
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := tcpPair(t)
		defer near.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		go func() {
			peer := tls.Client(near, mtls.Config{Leaf: client, Bundles: pki.Bundles(d), Protocols: []string{mtls.ALPN}}.TLS())
			_, _ = peer.Write(b)
			_ = peer.Close()
		}()
		ln, err := lane.Server(ctx, far, mtls.Config{Leaf: server, Bundles: pki.Bundles(d), Protocols: []string{mtls.ALPN}}.TLS())
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		received := 0
		for {
			if _, err := ln.Accept(); err != nil {
				break
			}
			got, err := readAll(ln)
			if received += len(got); received > len(b) {
				t.Fatalf("%d bytes came out of %d", received, len(b))
			}
			if err != nil && !isReset(err) {
				break
			}
			if ln.CloseWrite() != nil {
				break
			}
		}
	})
}

func tcpPair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err = net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}
