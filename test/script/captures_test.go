package script

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// makeCapture is the command "make-capture FILE SCENE...". Each scene is one
// connection of its own client, 10.1.0.1 the first, to 10.1.1.2:
//
//	tls      a real TLS 1.3 connection, port 443
//	http     a request and an answer that anyone can read, port 80
//	noise    bytes that look random, port 9000
//	silent   opened and closed, port 22
//
// A file whose name ends in .gz is compressed; the scene "cut" breaks the file off
// in the middle of its last packet.
func makeCapture() {
	if err := capture(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
}

func capture(path string, scenes []string) error {
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		return err
	}
	p := packets{w: w, at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	for i, scene := range slices.DeleteFunc(slices.Clone(scenes), func(s string) bool { return s == "cut" }) {
		port, said, err := talk(scene)
		if err != nil {
			return err
		}
		if err := p.connection(byte(i+1), port, said); err != nil {
			return err
		}
	}
	if slices.Contains(scenes, "cut") {
		b.Truncate(b.Len() - 3)
	}
	if strings.HasSuffix(path, ".gz") {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		if _, err := z.Write(b.Bytes()); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		b = zipped
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// said is bytes that one side of a connection sent.
type said struct {
	byServer bool
	bytes    []byte
}

// talk is what both sides of a scene say.
func talk(scene string) (port layers.TCPPort, all []said, err error) {
	switch scene {
	case "tls":
		all, err = talkTLS()
		return 443, all, err
	case "http":
		return 80, []said{
			{false, []byte("GET /cart?user=17 HTTP/1.1\r\nHost: cart.shop\r\n\r\n")},
			{true, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")},
		}, nil
	case "noise":
		noise := make([]byte, 600)
		for i, x := 0, uint32(1); i < len(noise); i++ {
			x = x*1664525 + 1013904223
			noise[i] = byte(x>>24) | 0x80 // no text, by no chance
		}
		return 9000, []said{{false, noise[:300]}, {true, noise[300:]}}, nil
	case "silent":
		return 22, nil, nil
	}
	return 0, nil, fmt.Errorf("scene %q: must be tls, http, noise, silent or cut", scene)
}

// talkTLS lets two real ends of TLS talk.
func talkTLS() ([]said, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	near, far := net.Pipe()
	var t tap
	server := tls.Server(tapped{far, &t, true}, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, SessionTicketsDisabled: true,
	})
	client := tls.Client(tapped{near, &t, false}, &tls.Config{InsecureSkipVerify: true, ServerName: "web.shop", MinVersion: tls.VersionTLS13})
	failed := make(chan error, 1)
	go func() {
		_, err := io.CopyN(server, server, 5)
		failed <- err
	}()
	_, err = client.Write([]byte("hello"))
	if err != nil {
		return nil, err
	}
	_, err = io.ReadFull(client, make([]byte, 5))
	return t.all, errors.Join(err, <-failed)
}

// tap notes what both ends of a pipe send, in order.
type tap struct {
	mu  sync.Mutex // guards all
	all []said
}

type tapped struct {
	net.Conn
	tap      *tap
	byServer bool
}

func (c tapped) Write(b []byte) (int, error) {
	c.tap.mu.Lock()
	c.tap.all = append(c.tap.all, said{c.byServer, bytes.Clone(b)})
	c.tap.mu.Unlock()
	return c.Conn.Write(b)
}

// packets writes TCP connections as an Ethernet carries them.
type packets struct {
	w  *pcapgo.Writer
	at time.Time
}

func (p *packets) connection(client byte, port layers.TCPPort, all []said) error {
	c := &conn{packets: p, ports: [2]layers.TCPPort{layers.TCPPort(40000) + layers.TCPPort(client), port}, seq: [2]uint32{1000, 5000}}
	c.hosts = [2]net.IP{{10, 1, 0, client}, {10, 1, 1, 2}}
	c.send(0, layers.TCP{SYN: true}, nil)
	c.send(1, layers.TCP{SYN: true, ACK: true}, nil)
	c.send(0, layers.TCP{ACK: true}, nil)
	for _, s := range all {
		from := 0
		if s.byServer {
			from = 1
		}
		for part := range slices.Chunk(s.bytes, 1400) {
			c.send(from, layers.TCP{ACK: true, PSH: true}, part)
		}
	}
	c.send(0, layers.TCP{FIN: true, ACK: true}, nil)
	c.send(1, layers.TCP{FIN: true, ACK: true}, nil)
	c.send(0, layers.TCP{ACK: true}, nil)
	return c.err
}

// conn is one connection: the client is 0, the server 1.
type conn struct {
	*packets
	hosts [2]net.IP
	ports [2]layers.TCPPort
	seq   [2]uint32
	err   error
}

func (c *conn) send(from int, t layers.TCP, payload []byte) {
	to := 1 - from
	t.SrcPort, t.DstPort, t.Seq, t.Window = c.ports[from], c.ports[to], c.seq[from], 65535
	if t.ACK {
		t.Ack = c.seq[to]
	}
	c.seq[from] += uint32(len(payload))
	if t.SYN || t.FIN {
		c.seq[from]++
	}
	ip := layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: c.hosts[from], DstIP: c.hosts[to]}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b := gopacket.NewSerializeBuffer()
	c.err = errors.Join(c.err, t.SetNetworkLayerForChecksum(&ip), gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: mac, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}, &ip, &t, gopacket.Payload(payload)))
	c.at = c.at.Add(time.Millisecond)
	c.err = errors.Join(c.err, c.w.WritePacket(gopacket.CaptureInfo{Timestamp: c.at, CaptureLength: len(b.Bytes()), Length: len(b.Bytes())}, b.Bytes()))
}
