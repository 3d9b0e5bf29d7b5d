package lane_test

import (
	"errors"
	"io"
	"testing"

	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// BenchmarkThroughput is one bulk stream over loopback, both ends in this process.
func BenchmarkThroughput(b *testing.B) {
	client, server := pair(b)
	if err := client.Open(lane.Open{Destination: destination}, nil, 0); err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		if _, err := server.Accept(); err != nil {
			done <- err
			return
		}
		buf := sock.Borrow()
		for {
			if err := server.Await(); errors.Is(err, io.EOF) {
				done <- nil
				return
			} else if err != nil {
				done <- err
				return
			}
			server.Read(buf[:], sock.Wait)
		}
	}()
	const chunk = 4 * lane.MaxPayload
	buf := sock.Borrow()
	b.SetBytes(chunk)
	for b.Loop() {
		if err := client.Write(buf, chunk); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(client.CloseWrite(), <-done); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkStream is one stream after another: OPEN, 64 bytes there and back, FIN.
func BenchmarkStream(b *testing.B) {
	client, server := pair(b)
	payload := make([]byte, 64)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := server.Accept(); err != nil {
				return
			}
			for server.Await() == nil {
				n := server.Read(buf, sock.Wait)
				out, _ := fill(buf[:n])
				_ = server.Write(out, n)
				sock.Return(out)
			}
			_ = server.CloseWrite()
		}
	}()
	for b.Loop() {
		first, n := fill(payload)
		err := client.Open(lane.Open{Destination: destination}, first, n)
		sock.Return(first)
		if err := errors.Join(err, client.Await()); err != nil {
			b.Fatal(err)
		}
		client.Read(make([]byte, 4096), sock.Wait)
		_ = client.CloseWrite()
		if err := client.Await(); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
}
