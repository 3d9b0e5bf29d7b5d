package decrypt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// tape is what two ends said to each other, as it was on the wire.
type tape struct {
	mu    sync.Mutex
	parts []part
}

type part struct {
	from Side
	data []byte
}

func (t *tape) add(from Side, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.parts = append(t.parts, part{from, bytes.Clone(b)})
}

// flow is the tape as a flow without packets.
func (t *tape) flow() *capture.Flow {
	f := &capture.Flow{Proto: capture.TCP}
	for side, d := range []*capture.Direction{&f.ToServer, &f.ToClient} {
		var all []byte
		for _, p := range t.parts {
			if p.from == Side(side) {
				all = append(all, p.data...)
			}
		}
		d.Began, d.Chunks = true, []capture.Chunk{{Data: all}}
	}
	return f
}

// file writes the tape as a capture file: one TCP connection, whose segments are
// numbered from 1 behind three of its handshake.
func (t *tape) file(tb testing.TB, skip func(segment int) bool) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "tape.pcap")
	var out bytes.Buffer
	w := pcapgo.NewWriterNanos(&out)
	must(tb, w.WriteFileHeader(1<<16, layers.LinkTypeEthernet))
	ends := [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:443")}
	next := [2]uint32{1000, 2000}
	segments := 0
	send := func(from Side, data []byte, flags func(*layers.TCP)) {
		to := 1 - from
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: ends[from].Addr().AsSlice(), DstIP: ends[to].Addr().AsSlice()}
		tcp := &layers.TCP{SrcPort: layers.TCPPort(ends[from].Port()), DstPort: layers.TCPPort(ends[to].Port()), Seq: next[from], Ack: next[to], ACK: true, PSH: len(data) > 0, Window: 65535}
		if flags != nil {
			flags(tcp)
		}
		must(tb, tcp.SetNetworkLayerForChecksum(ip))
		eth := &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, byte(from)}, DstMAC: []byte{2, 0, 0, 0, 0, byte(to)}, EthernetType: layers.EthernetTypeIPv4}
		b := gopacket.NewSerializeBuffer()
		must(tb, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(data)))
		next[from] += uint32(len(data))
		if tcp.SYN {
			next[from]++
		}
		if len(data) > 0 {
			if segments++; skip != nil && skip(segments) {
				return
			}
		}
		must(tb, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1700000000, int64(segments)*1000), CaptureLength: len(b.Bytes()), Length: len(b.Bytes())}, b.Bytes()))
	}
	send(Client, nil, func(t *layers.TCP) { t.SYN, t.ACK = true, false })
	send(Server, nil, func(t *layers.TCP) { t.SYN = true })
	send(Client, nil, nil)
	for _, p := range t.parts {
		for rest := p.data; len(rest) > 0; {
			n := min(1400, len(rest))
			send(p.from, rest[:n], nil)
			rest = rest[n:]
		}
	}
	must(tb, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

// read is the one flow of a capture file.
func read(tb testing.TB, path string) *capture.Flow {
	tb.Helper()
	file, err := capture.ReadAll(path)
	must(tb, err)
	if len(file.Flows) != 1 {
		tb.Fatalf("%d flows", len(file.Flows))
	}
	return file.Flows[0]
}

// taped is a connection whose writes are noted.
type taped struct {
	net.Conn
	from Side
	tape *tape
}

func (c taped) Write(b []byte) (int, error) {
	c.tape.add(c.from, b)
	return c.Conn.Write(b)
}

// talk is one exchange between two ends of crypto/tls.
func talk(tb testing.TB, client, server *tls.Config, turns ...string) (*tape, []byte) {
	tb.Helper()
	t := &tape{}
	var keys bytes.Buffer
	client = client.Clone()
	client.KeyLogWriter = &keys
	a, b := pair(tb)
	done := make(chan error, 1)
	go func() {
		s := tls.Server(taped{b, Server, t}, server)
		for i := range turns {
			got := make([]byte, len(turns[i]))
			if _, err := io.ReadFull(s, got); err != nil {
				done <- err
				return
			}
			if _, err := s.Write(bytes.ToUpper(got)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	c := tls.Client(taped{a, Client, t}, client)
	for _, turn := range turns {
		_, err := c.Write([]byte(turn))
		must(tb, err)
		_, err = io.ReadFull(c, make([]byte, len(turn)))
		must(tb, err)
	}
	must(tb, <-done)
	return t, keys.Bytes()
}

// pair is a connection over loopback.
func pair(tb testing.TB) (a, b net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	must(tb, err)
	tb.Cleanup(func() { a.Close() })
	b, err = l.Accept()
	must(tb, err)
	tb.Cleanup(func() { b.Close() })
	for _, c := range []net.Conn{a, b} {
		must(tb, c.SetDeadline(time.Now().Add(20*time.Second)))
	}
	return a, b
}

// forward passes connections on to an address and tapes the first.
func forward(tb testing.TB, to string) (at string, t *tape, wait func()) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(tb, err)
	tb.Cleanup(func() { l.Close() })
	t = &tape{}
	var open sync.WaitGroup
	open.Add(2)
	go func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			tb.Error(err)
			return
		}
		pipe := func(from Side, src, dst net.Conn) {
			defer open.Done()
			defer dst.(*net.TCPConn).CloseWrite()
			b := make([]byte, 16<<10)
			for {
				n, err := src.Read(b)
				if n > 0 {
					t.add(from, b[:n])
					if _, err := dst.Write(b[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}
		go pipe(Client, in, out)
		go pipe(Server, out, in)
	}()
	return l.Addr().String(), t, open.Wait
}

// leaf makes a certificate of a SPIFFE ID and its key in PEM.
func leaf(tb testing.TB, key crypto.Signer, id string) (cert tls.Certificate, certPEM, keyPEM []byte) {
	tb.Helper()
	uri, err := url.Parse(id)
	must(tb, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(tb, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(tb, err)
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, certPEM, keyPEM
}

func ecdsaKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	return key
}

func rsaKey(tb testing.TB) crypto.Signer {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(tb, err)
	return key
}

func ed25519Key(tb testing.TB) crypto.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(tb, err)
	return key
}

// said is all that one side said inside.
func said(s *Session, from Side) string {
	var all []byte
	for _, p := range s.Data {
		if p.From == from && !p.Clear {
			all = append(all, p.Data...)
		}
	}
	return string(all)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
