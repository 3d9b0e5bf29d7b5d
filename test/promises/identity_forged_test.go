package promises

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	api "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/test/lab"
	"github.com/sealmesh/sealmesh/test/pki"
)

// A peer of the mesh that is none of our code: crypto/tls with a config of its own
// and the few frames of docs/wire.md that it needs. It shows whatever certificate
// a test forges, with the mesh's own issuer if it likes.

// Frames, as docs/wire.md numbers them.
const (
	frameOpen  = 1
	frameData  = 2
	frameFin   = 3
	frameReset = 4
)

// domain is the mesh's own trust domain, with the key of its issuer.
func (m *mesh) domain(tb testing.TB) *pki.Domain {
	tb.Helper()
	return pki.Open(tb, m.dir)
}

// identityOf is whom a workload is.
func identityOf(d *pki.Domain, w *lab.Workload) id.Identity { return d.ID(namespace, w.Name) }

// careless is a TLS config that shows a certificate, or none if nil, and believes
// whatever it is shown.
func careless(leaf *tls.Certificate) *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"sealmesh/1"},
		InsecureSkipVerify: true, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
	}
	if leaf != nil {
		config.Certificates = []tls.Certificate{*leaf}
	}
	return config
}

// peer is one end of a lane, spoken by hand.
type peer struct {
	*tls.Conn
	stream byte
}

// dialPeer performs the client's handshake with whoever is at an address. In TLS
// 1.3 its success does not mean that the server has accepted the certificate.
func dialPeer(tb testing.TB, from *lab.Workload, to netip.AddrPort, config *tls.Config) (*peer, error) {
	tb.Helper()
	conn, err := tryDial(tb.Context(), from, to)
	if err != nil {
		return nil, err
	}
	tb.Cleanup(func() { conn.Close() })
	secure := tls.Client(conn, config)
	return &peer{Conn: secure, stream: 255}, secure.HandshakeContext(tb.Context())
}

func (p *peer) frame(kind byte, value int, payload ...byte) error {
	b := binary.BigEndian.AppendUint16([]byte{kind, p.stream}, uint16(value))
	_, err := p.Write(append(b, payload...))
	return err
}

// open begins the next stream.
func (p *peer) open(to netip.AddrPort) error {
	payload := []byte{1, 0, 4}
	if to.Addr().Is6() {
		payload[2] = 6
	}
	payload = append(payload, to.Addr().AsSlice()...)
	payload = binary.BigEndian.AppendUint16(payload, to.Port())
	p.stream++
	return p.frame(frameOpen, len(payload), payload...)
}

func (p *peer) data(text string) error { return p.frame(frameData, len(text), []byte(text)...) }

// read reads the next frame.
func (p *peer) read() (kind byte, value int, payload []byte, err error) {
	var header [4]byte
	if _, err := io.ReadFull(p, header[:]); err != nil {
		return 0, 0, nil, err
	}
	value = int(binary.BigEndian.Uint16(header[2:]))
	if kind = header[0]; kind == frameOpen || kind == frameData {
		payload = make([]byte, value)
		_, err = io.ReadFull(p, payload)
	}
	return kind, value, payload, err
}

// talk sends text on a stream to an echoing application and hears it back. The
// error says what the server did instead.
func (p *peer) talk(to netip.AddrPort, text string) error {
	if err := errors.Join(p.open(to), p.data(text), p.frame(frameFin, 0)); err != nil {
		return err
	}
	for heard := ""; ; {
		kind, value, payload, err := p.read()
		switch {
		case err != nil:
			return err
		case kind == frameData:
			heard += string(payload)
		case kind == frameFin && heard == text:
			return nil
		case kind == frameReset:
			_ = p.frame(frameReset, value) // ends our side too: the lane is idle
			return fmt.Errorf("stream reset with code %d", value)
		default:
			return fmt.Errorf("frame %d after %q", kind, heard)
		}
	}
}

// knock is talk over a new lane.
func knock(tb testing.TB, from *lab.Workload, to netip.AddrPort, leaf *tls.Certificate) error {
	tb.Helper()
	p, err := dialPeer(tb, from, to, careless(leaf))
	if err != nil {
		return err
	}
	return p.talk(to, "knock")
}

// servePeer is a server of the mesh at a workload's port that shows a certificate
// and echoes what streams bring, frame by frame.
func servePeer(tb testing.TB, w *lab.Workload, port uint16, leaf *tls.Certificate) {
	tb.Helper()
	serve(tb, w, port, func(conn *net.TCPConn) {
		p := &peer{Conn: tls.Server(conn, careless(leaf)), stream: 255}
		for {
			kind, value, payload, err := p.read()
			if err != nil {
				return
			}
			switch kind {
			case frameOpen:
				p.stream++
			case frameData, frameFin, frameReset:
				if p.frame(kind, value, payload...) != nil {
					return
				}
			}
		}
	})
}

// expectAt has the mesh believe that a sealed workload which others run is at the
// address of a stranger.
func (m *mesh) expectAt(tb testing.TB, w *lab.Workload) {
	tb.Helper()
	m.change(tb, func(o *objects) {
		o.workloads = append(o.workloads, api.Workload{
			Header: header(api.KindWorkload, w.Name, namespace),
			Spec:   api.WorkloadSpec{Addresses: []string{w.Addr4.String(), w.Addr6.String()}},
		})
	})
}

// endsIn has a certificate end in so much time from now.
func endsIn(left time.Duration) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) }
}
