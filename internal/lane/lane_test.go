package lane_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/sock"
	"github.com/sealmesh/sealmesh/test/pki"
)

var destination = netip.MustParseAddrPort("10.0.0.2:2929")

// pair is a lane over real TCP, both ends handshaken.
func pair(t testing.TB) (client, server *lane.Conn) {
	t.Helper()
	d := pki.New(t, "demo.local")
	web, curl := d.ID("shop", "web"), d.ID("shop", "curl")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		tcp, err := l.AcceptTCP()
		if err == nil {
			server, err = lane.Server(ctx, tcp, mtls.Config{
				Leaf: d.Leaf(web), Bundles: pki.Bundles(d), Protocols: []string{mtls.ALPN}}.TLS())
		}
		accepted <- err
	}()
	tcp, err := net.DialTCP("tcp", nil, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	client, err = lane.Client(ctx, tcp, mtls.Config{
		Leaf: d.Leaf(curl), Bundles: pki.Bundles(d), Authorize: mtls.Expect(web),
		ServerName: web.ServerName(), Protocols: []string{mtls.ALPN}}.TLS())
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	t.Cleanup(server.Close)
	return client, server
}

// fill lays bytes out in the runs of a buffer.
func fill(b []byte) (*sock.Buffer, int) {
	buf := sock.Borrow()
	n := len(b)
	for run := 0; len(b) > 0; run++ {
		m := copy(buf[run*sock.Run+lane.HeaderLen:(run+1)*sock.Run], b)
		b = b[m:]
	}
	return buf, n
}

func send(c *lane.Conn, b []byte) error {
	const most = 4 * lane.MaxPayload
	for len(b) > 0 {
		buf, n := fill(b[:min(len(b), most)])
		err := c.Write(buf, n)
		sock.Return(buf)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// readAll reads a stream to its end.
func readAll(c *lane.Conn) ([]byte, error) {
	var out []byte
	buf := make([]byte, 50_000)
	for {
		if err := c.Await(); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return out, err
		}
		out = append(out, buf[:c.Read(buf, sock.Wait)]...)
	}
}

func isReset(err error) bool {
	var reset *lane.ResetError
	return errors.As(err, &reset)
}

func TestStreamsFollowOneAnother(t *testing.T) {
	client, server := pair(t)
	random := make([]byte, 3_000_000)
	_, _ = rand.Read(random)
	for round := range 300 { // the stream number wraps
		payload := random[:round*round*30%len(random)]
		errs := make(chan error, 1)
		go func() {
			o, err := server.Accept()
			if err == nil && o.Destination != destination {
				err = errors.New("destination is " + o.Destination.String())
			}
			if err == nil {
				var got []byte
				if got, err = readAll(server); err == nil {
					err = errors.Join(send(server, got), server.CloseWrite())
				}
			}
			errs <- err
		}()
		first, n := fill(payload[:min(len(payload), 100)])
		err := client.Open(lane.Open{Destination: destination}, first, n)
		sock.Return(first)
		go func() { errs <- errors.Join(send(client, payload[n:]), client.CloseWrite()) }()
		got, rerr := readAll(client)
		if err := errors.Join(err, rerr, <-errs, <-errs); err != nil {
			t.Fatalf("stream %d: %v", round, err)
		}
		if !bytes.Equal(got, payload) {
			t.Fatalf("stream %d: %d bytes came back of %d", round, len(got), len(payload))
		}
		if err := client.Idle(); err != nil || !client.Ended() || !server.Ended() {
			t.Fatalf("stream %d: lane is not idle: %v", round, err)
		}
	}
}

func TestHandshakeIsPostQuantumTLS13(t *testing.T) {
	client, server := pair(t)
	for _, end := range []*lane.Conn{client, server} {
		info := end.Info()
		if info.Group != tls.X25519MLKEM768 {
			t.Errorf("group is %v", info.Group)
		}
		if info.Cipher != tls.TLS_AES_128_GCM_SHA256 {
			t.Errorf("cipher is %s", tls.CipherSuiteName(info.Cipher))
		}
	}
	if client.Info().HelloRandom != server.Info().HelloRandom || client.Info().HelloRandom == [32]byte{} {
		t.Errorf("the two ends saw the randoms %x and %x", client.Info().HelloRandom, server.Info().HelloRandom)
	}
}

func TestResetEndsBothDirectionsAndKeepsTheLane(t *testing.T) {
	client, server := pair(t)
	for range 3 {
		if err := client.Open(lane.Open{Destination: destination}, nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Accept(); err != nil {
			t.Fatal(err)
		}
		// The server still sends while the client resets.
		if err := send(server, make([]byte, 20_000)); err != nil {
			t.Fatal(err)
		}
		if err := client.Reset(lane.CodeAborted); err != nil {
			t.Fatal(err)
		}
		var reset *lane.ResetError
		if err := server.Await(); !errors.As(err, &reset) || reset.Code != lane.CodeAborted {
			t.Fatalf("server sees %v", err)
		}
		if err := server.Reset(lane.CodeAborted); err != nil {
			t.Fatal(err)
		}
		if err := client.Discard(1 << 20); err != nil {
			t.Fatal(err)
		}
		if err := client.Idle(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResetAfterFinThatCrossesTheEndIsIgnored(t *testing.T) {
	client, server := pair(t)
	for range 3 {
		if err := client.Open(lane.Open{Destination: destination}, nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Accept(); err != nil {
			t.Fatal(err)
		}
		// The server ends, then resets; the client had already ended.
		err := errors.Join(client.CloseWrite(), server.CloseWrite(), server.Reset(lane.CodeAborted))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(client); err != nil || len(got) > 0 {
			t.Fatalf("client reads %d bytes, %v", len(got), err)
		}
		if got, err := readAll(server); err != nil || len(got) > 0 {
			t.Fatalf("server reads %d bytes, %v", len(got), err)
		}
	}
}

func TestDrainIsSeenOnAnIdleLane(t *testing.T) {
	client, server := pair(t)
	if err := server.Drain(); err != nil {
		t.Fatal(err)
	}
	err := client.Idle()
	for err == nil { // until it has crossed loopback
		err = client.Idle()
	}
	if !errors.Is(err, lane.ErrDraining) {
		t.Fatalf("idle lane says %v", err)
	}
	// It still serves the stream that crossed the DRAIN.
	if err := client.Open(lane.Open{Destination: destination}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Accept(); err != nil {
		t.Fatal(err)
	}
}

func TestCutWithinAStreamIsNoEnd(t *testing.T) {
	client, server := pair(t)
	if err := client.Open(lane.Open{Destination: destination}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Accept(); err != nil {
		t.Fatal(err)
	}
	client.Shutdown() // close_notify: orderly for TLS, yet no FIN
	if err := server.Await(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("server sees %v", err)
	}
}

func TestResetDoesNotWaitForAPeerThatReadsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the reset timeout")
	}
	client, server := pair(t)
	if err := client.Open(lane.Open{Destination: destination}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Accept(); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan error, 1)
	go func() { stuck <- send(client, make([]byte, 64<<20)) }() // more than the kernel takes
	untilStuck(client)
	if err := client.Reset(lane.CodeAborted); err == nil {
		t.Error("reset claims to have been sent behind a stuck write")
	}
	if err := <-stuck; err == nil {
		t.Error("the stuck write claims to have succeeded")
	}
}

// untilStuck waits until nothing was sent for half a second.
func untilStuck(c *lane.Conn) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for last := uint64(0); ; {
		<-tick.C
		_, sent := c.Bytes()
		if sent == last && sent > 0 {
			return
		}
		last = sent
	}
}
