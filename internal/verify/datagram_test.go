package verify

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// sent is one datagram of a conversation.
type sent struct {
	fromServer bool
	data       []byte
}

// datagramFlow is a flow of a protocol without connections, seen whole.
func datagramFlow(proto capture.Proto, all []sent) *capture.Flow {
	f := &capture.Flow{
		Proto: proto, Opened: false,
		Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("10.0.0.2:443"),
		ToServer: capture.Direction{Began: true}, ToClient: capture.Direction{Began: true},
	}
	for _, s := range all {
		d := &f.ToServer
		if s.fromServer {
			d = &f.ToClient
		}
		if d.Bytes < capture.Window {
			d.Chunks = append(d.Chunks, capture.Chunk{Offset: int(d.Bytes), Data: s.data})
		}
		d.Packets++
		d.Bytes += int64(len(s.data))
	}
	return f
}

// only is a conversation of which one side was captured.
func only(all []sent, fromServer bool) (kept []sent) {
	for _, s := range all {
		if s.fromServer == fromServer {
			kept = append(kept, s)
		}
	}
	return kept
}

// cutTo is a flow as a capture with a short snapshot length has it.
func cutTo(f *capture.Flow, kept int) *capture.Flow {
	for _, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		for i, c := range d.Chunks {
			n := min(kept, len(c.Data))
			d.Chunks[i].Data, d.Chunks[i].Cut = c.Data[:n], c.Cut+len(c.Data)-n
		}
	}
	return f
}

// judgeSent judges datagrams.
func judgeSent(proto capture.Proto, all []sent) Finding {
	return Judge(datagramFlow(proto, all), Knowledge{})
}

// tap carries datagrams between a client and a server and keeps them in order.
type tap struct {
	mu  sync.Mutex // guards all
	all []sent
}

// newTap returns a tap, and where a client finds the server behind it. It ends
// with the test.
func newTap(t testing.TB, server net.Addr) (*tap, net.Addr) {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", server.String())
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{}
	var client net.Addr
	known := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				break
			}
			if client == nil {
				client = from
				close(known)
			}
			tp.keep(false, b[:n])
			_, _ = back.Write(b[:n]) // lost, if the server is gone
		}
	})
	done.Go(func() {
		for b := make([]byte, 1<<16); ; {
			n, err := back.Read(b)
			if err != nil {
				break
			}
			<-known
			tp.keep(true, b[:n])
			_, _ = front.WriteTo(b[:n], client)
		}
	})
	t.Cleanup(func() {
		front.Close()
		back.Close()
		done.Wait()
	})
	return tp, front.LocalAddr()
}

func (tp *tap) keep(fromServer bool, b []byte) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	tp.all = append(tp.all, sent{fromServer, append([]byte(nil), b...)})
}

// seen is what the tap kept up to now.
func (tp *tap) seen() []sent {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return append([]sent(nil), tp.all...)
}
