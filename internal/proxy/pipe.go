package proxy

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/sealmesh/sealmesh/internal/lane"
	"github.com/sealmesh/sealmesh/internal/sock"
)

// How bytes are carried. Each direction is one loop; a direction that waits holds
// no buffer. Half-close, reset and an error are carried over as what they are:
//
//	application      lane
//	FIN         ↔    FIN
//	RST         ↔    RESET
//	(broken)    ←    anything else: the lane is closed, the application gets a RST

// discardLimit is how much a peer may still send after our RESET before a new
// lane costs less than draining this one.
const discardLimit = 256 << 10

// counters are the application bytes of one connection: sent by the client,
// received by the client.
type counters struct{ sent, received atomic.Uint64 }

// carrySealed joins an application connection and the stream that was begun on a
// lane, until both directions have ended, and closes the application connection.
// up counts application → lane, down lane → application. The error is nil if the
// stream ended, be it by a reset; then the lane may be idle (lane.Conn.Ended). Any
// other error means that the lane is broken.
func carrySealed(app *sock.Conn, ln *lane.Conn, up, down *atomic.Uint64) (reset error, broken error) {
	upEnded := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		upload(app, ln, up, upEnded)
	}()
	reset, broken = download(app, ln, down)
	if broken != nil {
		app.Abort()
		ln.Close() // releases an upload that waits for the lane
	}
	if err := <-upEnded; err != nil && reset == nil {
		reset = err
	}
	_ = app.Close() // releases an upload that watches for a reset
	<-done
	return reset, broken
}

// upload carries application → lane. How that direction ended is told on ended
// before it stays to watch for a reset of the half-closed connection.
func upload(app *sock.Conn, ln *lane.Conn, count *atomic.Uint64, ended chan<- error) {
	err := copyUp(app, ln, count)
	switch {
	case err == nil && ln.CloseWrite() == nil:
		ended <- nil
		if err := app.AwaitReset(); !errors.Is(err, net.ErrClosed) {
			_ = ln.Reset(lane.CodeAborted)
		}
	case errors.Is(err, lane.ErrEnded):
		ended <- nil // download has reset the stream
	default:
		if ln.Reset(lane.CodeAborted) != nil {
			ln.Close() // releases a download that waits for the lane
		}
		ended <- err
	}
}

func copyUp(app *sock.Conn, ln *lane.Conn, count *atomic.Uint64) error {
	for {
		buf, n, err := app.Receive(lane.HeaderLen, sock.Wait)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = ln.Write(buf, n)
		sock.Return(buf)
		if err != nil {
			return err
		}
		count.Add(uint64(n))
	}
}

// download carries lane → application.
func download(app *sock.Conn, ln *lane.Conn, count *atomic.Uint64) (reset error, broken error) {
	err := copyDown(app, ln, count)
	var peerReset *lane.ResetError
	var gone *appGone
	switch {
	case errors.Is(err, io.EOF):
		_ = app.CloseWrite() // an error here shows on the next read
		return nil, nil
	case errors.As(err, &peerReset):
		app.Abort()
		return err, nil
	case errors.As(err, &gone):
		_ = ln.Reset(lane.CodeAborted)
		app.Abort()
		return gone.err, ln.Discard(discardLimit)
	}
	return nil, err
}

// copyDown gathers what has arrived, and passes it on when the buffer is full or
// there is nothing more to read: no byte waits for one that has not come.
func copyDown(app *sock.Conn, ln *lane.Conn, count *atomic.Uint64) error {
	var buf *sock.Buffer // borrowed while it holds n bytes
	var gone error
	n := 0
	pass := func() bool {
		if n > 0 {
			_, gone = app.Write(buf[:n])
			count.Add(uint64(n))
			sock.Return(buf)
			buf, n = nil, 0
		}
		return gone == nil
	}
	ln.BeforeWait(pass)
	defer ln.BeforeWait(nil)
	for {
		err := ln.Await()
		if err != nil {
			pass()
		}
		switch {
		case gone != nil:
			return &appGone{gone}
		case err != nil:
			return err
		}
		if buf == nil {
			buf = sock.Borrow()
		}
		m := ln.Read(buf[n:], sock.NoWait)
		if n += m; m == 0 { // the rest of the frame has not arrived
			pass()
			if buf == nil {
				buf = sock.Borrow()
			}
			n = ln.Read(buf[:], sock.Wait)
		}
		if n == len(buf) {
			pass()
		}
		if n == 0 {
			sock.Return(buf)
			buf = nil
		}
	}
}

// appGone tells an error of the application's connection from one of the lane.
type appGone struct{ err error }

func (e *appGone) Error() string { return e.err.Error() }

// carryPlain joins two plain connections until both directions have ended, and
// closes both. A reset of one side resets the other.
func carryPlain(client, server *sock.Conn, n *counters) (reset error) {
	ended := make(chan error, 1)
	go func() { ended <- copyPlain(client, server, &n.sent) }()
	reset = copyPlain(server, client, &n.received)
	reset = errors.Join(reset, <-ended)
	_ = client.Close()
	_ = server.Close()
	return reset
}

func copyPlain(from, to *sock.Conn, count *atomic.Uint64) error {
	for {
		buf, n, err := from.Receive(0, sock.Wait)
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return nil
		}
		if err == nil {
			_, err = to.Write(buf[:n])
			sock.Return(buf)
		}
		if err != nil {
			from.Abort()
			to.Abort()
			return err
		}
		count.Add(uint64(n))
	}
}
