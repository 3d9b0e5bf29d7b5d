package verify

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// recording is a connection that keeps what its side sends.
type recording struct {
	net.Conn
	mu   sync.Mutex // guards sent
	sent bytes.Buffer
}

func (r *recording) Write(b []byte) (int, error) {
	r.mu.Lock()
	r.sent.Write(b)
	r.mu.Unlock()
	return r.Conn.Write(b)
}

// handshake lets two real ends talk and returns what each sent.
func handshake(t testing.TB, client, server *tls.Config, payload string) (toServer, toClient []byte, state tls.ConnectionState) {
	t.Helper()
	near, far := connected(t)
	c, s := &recording{Conn: near}, &recording{Conn: far}
	done := make(chan error, 1)
	go func() {
		conn := tls.Server(s, server)
		_, err := io.CopyN(conn, conn, int64(len(payload)))
		done <- err
	}()
	conn := tls.Client(c, client)
	echoed := make(chan error, 1)
	go func() {
		_, err := io.ReadFull(conn, make([]byte, len(payload)))
		echoed <- err
	}()
	if _, err := io.WriteString(conn, payload); err != nil {
		t.Fatal(err)
	}
	for _, ch := range []chan error{done, echoed} {
		if err := <-ch; err != nil {
			t.Fatal(err)
		}
	}
	state = conn.ConnectionState()
	near.Close()
	far.Close()
	return c.sent.Bytes(), s.sent.Bytes(), state
}

// connected is the two ends of a connection.
func connected(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// certificate is of a server that clients here do not verify.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func configs(t testing.TB) (client, server *tls.Config) {
	t.Helper()
	client = &tls.Config{InsecureSkipVerify: true, ServerName: "web.shop.demo.local", NextProtos: []string{"sealmesh/1", "h2"}}
	server = &tls.Config{Certificates: []tls.Certificate{certificate(t)}, NextProtos: []string{"sealmesh/1"}, SessionTicketsDisabled: true}
	return client, server
}

// flow is a flow seen whole.
func flow(toServer, toClient []byte) *capture.Flow {
	return &capture.Flow{Proto: capture.TCP, Opened: true, ToServer: direction(toServer), ToClient: direction(toClient)}
}

func direction(b []byte) capture.Direction {
	d := capture.Direction{Packets: 3, Bytes: int64(len(b)), Began: true}
	if len(b) > 0 {
		d.Chunks = []capture.Chunk{{Data: b[:min(len(b), capture.Window)]}}
	}
	return d
}

func TestRealHandshakesAreRead(t *testing.T) {
	for _, tc := range []struct {
		name    string
		tune    func(client, server *tls.Config)
		version string
		group   string
		also    TLSInfo // what else is read
	}{
		{"post-quantum by default", func(_, _ *tls.Config) {}, "1.3", "X25519MLKEM768", TLSInfo{}},
		{"classic group", func(c, _ *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP256} }, "1.3", "secp256r1", TLSInfo{}},
		{"retried with another group", func(_, s *tls.Config) { s.CurvePreferences = []tls.CurveID{tls.CurveP384} }, "1.3", "secp384r1", TLSInfo{Retried: true}},
		{"TLS 1.2", func(c, _ *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, "1.2", "x25519", TLSInfo{ALPN: "sealmesh/1"}},
		{"client certificate", func(c, s *tls.Config) {
			s.ClientAuth = tls.RequireAnyClientCert
			c.Certificates = s.Certificates
		}, "1.3", "X25519MLKEM768", TLSInfo{}},
	} {
		for _, payload := range []string{"test\n", strings.Repeat("0123456789", 5000)} {
			t.Run(tc.name, func(t *testing.T) {
				client, server := configs(t)
				tc.tune(client, server)
				toServer, toClient, state := handshake(t, client, server, payload)
				found := Judge(flow(toServer, toClient), Knowledge{})
				if found.Verdict != TLS || found.Seal != "tls" {
					t.Fatalf("found %+v", found)
				}
				want := &TLSInfo{
					Version: tc.version, Cipher: tls.CipherSuiteName(state.CipherSuite), Group: tc.group,
					SNI: "web.shop.demo.local", ALPNOffered: []string{"sealmesh/1", "h2"}, Handshake: "seen",
					Random: found.TLS.Random, Retried: tc.also.Retried, ALPN: tc.also.ALPN,
				}
				if tc.version == "1.2" {
					want.ServerCert = describeCertificate(server.Certificates[0].Certificate[0])
				}
				if diff := cmp.Diff(want, found.TLS); diff != "" {
					t.Error(diff)
				}
				if len(found.TLS.Random) != 64 || !bytes.Contains(toServer[:43], []byte{3, 3}) {
					t.Errorf("random %q", found.TLS.Random)
				}
			})
		}
	}
}

// TestNothingElseIsCalledSealed takes a sealed flow and breaks it in one way
// each: the broken twins of the test above.
func TestNothingElseIsCalledSealed(t *testing.T) {
	client, server := configs(t)
	toServer, toClient, _ := handshake(t, client, server, strings.Repeat("payload ", 20))
	client, server = configs(t)
	client.MaxVersion = tls.VersionTLS12
	toServer12, toClient12, _ := handshake(t, client, server, "payload")

	for _, tc := range []struct {
		name string
		flow *capture.Flow
		want Verdict
		says string // part of the reason or of the evidence
	}{
		{"hello without an answer", flow(toServer, nil), Unknown, "server sent nothing"},
		{"answer without a hello", flow(nil, toClient), Unknown, "client sent nothing"},
		{"answered in another protocol", flow(toServer, []byte{0, 1, 2, 255}), Unknown, "does not begin with a TLS handshake"},
		{"answered in clear", flow(toServer, []byte("HTTP/1.1 400 Bad Request\r\n")), Plaintext, "HTTP/1.1 400"},
		{"cut off behind the hello", flow(upTo(t, toServer, tlswire.TypeApplicationData), toClient), Unknown, "not completed"},
		{"cut off before the client's change of cipher", flow(upTo(t, toServer12, tlswire.TypeChangeCipherSpec), toClient12), Unknown, "not completed"},
		{"clear bytes behind the records", flow(append(bytes.Clone(toServer), "test\n"...), toClient), Plaintext, "test"},
		{"binary bytes behind the records", flow(toServer, append(bytes.Clone(toClient), 0, 1, 2, 3, 4, 5)), Unknown, "6 bytes behind the last record"},
		{"clear bytes before the handshake", flow(append([]byte("STARTTLS\r\n"), toServer...), append([]byte("220 ready\r\n"), toClient...)), Plaintext, "STARTTLS"},
		{"readable sealed records", flow(toServer, withBody(t, toClient, strings.Repeat("cleartext ", 4))), Plaintext, "cleartext"},
		{"a short readable sealed record", flow(withBody(t, toServer, "user=root&password=x"), toClient), Plaintext, "password"},
		{"a sealed record without room for a tag", flow(withBody(t, toServer, "test\n"), toClient), Unknown, "5 bytes"},
		{"a suite that does not encrypt", withSuite(t, toServer, toClient, 0xC0B4), Plaintext, "TLS_SHA256_SHA256"},
		{"a suite nobody knows", withSuite(t, toServer, toClient, 0xFEFE), Unknown, "0xFEFE"},
		{"a suite that was not offered", flow(toServer, patched(t, toClient, tlswire.HelloServer, suiteOffset, 0xC0B4)), Unknown, "not offered"},
		{"clear handshake behind the hello", flow(toServer, insertHandshake(t, toClient)), Unknown, "handshake in clear"},
		{"joined late, and not TLS", late(flow(random(t), random(t))), Unknown, "neither readable"},
		{"bytes missing", missing(flow(toServer, toClient)), Unknown, "7 bytes"},
		{"bytes sent again with another content", conflicting(flow(toServer, toClient)), Unknown, "another content"},
		{"text", flow([]byte("test\n"), nil), Plaintext, "test"},
		{"text only behind a gap", &capture.Flow{Proto: capture.TCP, ToServer: capture.Direction{Bytes: 9, Began: true, Missing: 4,
			Chunks: []capture.Chunk{{Offset: 4, Data: []byte("test\n")}}}}, Plaintext, "test"},
		{"text in another language", flow([]byte("Grüße aus Köln\n"), nil), Plaintext, "Grüße"},
		{"text among binary", flow([]byte("\x00\x01\x02\xffmysql_native_password\x00"), nil), Plaintext, "mysql_native"},
		{"random bytes", flow(random(t), random(t)), Unknown, "neither readable"},
		{"ssh", flow([]byte("SSH-2.0-a\r\n"), []byte("SSH-2.0-b\r\n")), Unknown, "ssh"},
		{"ssh from one side only", flow([]byte("SSH-2.0-a\r\n"), []byte("hello\r\n")), Plaintext, "hello"},
		{"nothing captured but acknowledged", &capture.Flow{Proto: capture.TCP, ToServer: capture.Direction{Began: true, Missing: 5}}, Unknown, "5 bytes"},
		{"no payload", flow(nil, nil), Silent, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := Judge(tc.flow, Knowledge{})
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || !strings.Contains(said, tc.says) {
				t.Errorf("verdict %s, saying %q; want %s, saying %q", found.Verdict, said, tc.want, tc.says)
			}
			if found.Seal != "" {
				t.Errorf("sealed with %q", found.Seal)
			}
		})
	}
}

// upTo is a stream's records before the first of a type.
func upTo(t *testing.T, stream []byte, typ byte) []byte {
	t.Helper()
	all, _ := tlswire.Records(stream)
	for _, r := range all {
		if r.Type == typ {
			return stream[:r.Offset-tlswire.RecordHeader]
		}
	}
	t.Fatalf("no record of type %d", typ)
	return nil
}

// withBody adds a record that claims to be sealed.
func withBody(t *testing.T, stream []byte, body string) []byte {
	t.Helper()
	header := []byte{tlswire.TypeApplicationData, 3, 3, byte(len(body) >> 8), byte(len(body))}
	return append(append(bytes.Clone(stream), header...), body...)
}

// Offsets in hellos, behind the four bytes of the message's header.
const suiteOffset = 2 + 32 + 1 + 32 // version, random, session of 32 bytes

// patched sets 16 bits of the first message, which must be of a type.
func patched(t *testing.T, stream []byte, typ byte, offset int, value uint16) []byte {
	t.Helper()
	stream = bytes.Clone(stream)
	if stream[tlswire.RecordHeader] != typ {
		t.Fatalf("begins with message %d", stream[tlswire.RecordHeader])
	}
	at := tlswire.RecordHeader + 4 + offset
	stream[at], stream[at+1] = byte(value>>8), byte(value)
	return stream
}

// withSuite makes both hellos agree on a cipher suite.
func withSuite(t *testing.T, toServer, toClient []byte, suite uint16) *capture.Flow {
	t.Helper()
	const inClientHello = suiteOffset + 2 // behind the length of the list
	return flow(patched(t, toServer, tlswire.HelloClient, inClientHello, suite), patched(t, toClient, tlswire.HelloServer, suiteOffset, suite))
}

// insertHandshake puts a message in clear behind the first record.
func insertHandshake(t *testing.T, stream []byte) []byte {
	t.Helper()
	all, _ := tlswire.Records(stream)
	end := all[0].Offset + all[0].Length
	message := []byte{tlswire.TypeHandshake, 3, 3, 0, 4, 8, 0, 0, 0}
	return append(append(bytes.Clone(stream[:end]), message...), stream[end:]...)
}

func late(f *capture.Flow) *capture.Flow {
	f.Opened, f.ToServer.Began = false, false
	return f
}

func missing(f *capture.Flow) *capture.Flow {
	f.ToClient.Missing = 7
	return f
}

func conflicting(f *capture.Flow) *capture.Flow {
	f.ToServer.Conflict = true
	return f
}

func random(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 4096)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	b[0] = 0 // not the one in 256 that begins like TLS
	return b
}

func TestSummary(t *testing.T) {
	client, server := configs(t)
	sealed := flow(handshakeBytes(t, client, server))
	silent := flow(nil, nil)
	clear := flow([]byte("test\n"), nil)
	unknown := flow([]byte{0, 1, 2}, nil)
	for _, tc := range []struct {
		name    string
		file    capture.File
		dropped int
		want    Result
	}{
		{"sealed", capture.File{Flows: []*capture.Flow{sealed, silent}}, 0, Sealed},
		{"one plaintext", capture.File{Flows: []*capture.Flow{sealed, clear}}, 0, Leaked},
		{"plaintext outweighs doubts", capture.File{Flows: []*capture.Flow{unknown, clear}, Cut: true}, 9, Leaked},
		{"one unknown", capture.File{Flows: []*capture.Flow{sealed, unknown}}, 0, Inconclusive},
		{"empty", capture.File{}, 0, Inconclusive},
		{"nothing but silence", capture.File{Flows: []*capture.Flow{silent}}, 0, Inconclusive},
		{"dropped packets", capture.File{Flows: []*capture.Flow{sealed}}, 1, Inconclusive},
		{"cut", capture.File{Flows: []*capture.Flow{sealed}, Cut: true}, 0, Inconclusive},
		{"fragments", capture.File{Flows: []*capture.Flow{sealed}, Counts: capture.Counts{Fragments: 1}}, 0, Inconclusive},
		{"unreadable", capture.File{Flows: []*capture.Flow{sealed}, Counts: capture.Counts{Undecoded: 1}}, 0, Inconclusive},
		{"too many", capture.File{Flows: []*capture.Flow{sealed}, Counts: capture.Counts{Excess: 1}}, 0, Inconclusive},
		{"ARP is no doubt", capture.File{Flows: []*capture.Flow{sealed}, Counts: capture.Counts{NotIP: 1}}, 0, Sealed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for i, f := range tc.file.Flows {
				f.Number = i + 1
			}
			report := Summarize(&tc.file, tc.dropped)
			if report.Result != tc.want || (tc.want == Inconclusive) != (len(report.Doubts) > 0) && tc.want != Leaked {
				t.Errorf("%s, doubts %q; want %s", report.Result, report.Doubts, tc.want)
			}
			if len(slices.Collect(report.Flows())) != len(tc.file.Flows) || report.Coverage.Flows != len(tc.file.Flows) {
				t.Errorf("%d flows judged, %d counted, of %d", len(slices.Collect(report.Flows())), report.Coverage.Flows, len(tc.file.Flows))
			}
		})
	}
}

func handshakeBytes(t testing.TB, client, server *tls.Config) (toServer, toClient []byte) {
	t.Helper()
	toServer, toClient, _ = handshake(t, client, server, "payload")
	return toServer, toClient
}

// FuzzJudge: whatever is sent, nothing panics, and what is called sealed begins
// with two hellos and holds no text behind its records.
func FuzzJudge(f *testing.F) {
	client, server := configs(f)
	for _, version := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		client.MaxVersion = version
		toServer, toClient := handshakeBytes(f, client, server)
		f.Add(toServer, toClient)
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"))
	f.Add([]byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, []byte{22, 3, 3, 0, 4, 2, 0, 0, 0, 23, 3, 3, 0, 17})
	f.Add([]byte("SSH-2.0-x"), []byte("SSH-2.0-y"))
	f.Fuzz(func(t *testing.T, toServer, toClient []byte) {
		found := Judge(flow(toServer, toClient), Knowledge{})
		if found.Verdict != TLS {
			return
		}
		if found.TLS == nil || found.TLS.Handshake != "seen" || found.TLS.Version == "" {
			t.Errorf("sealed without handshake: %+v", found)
		}
		again := Judge(flow(append(bytes.Clone(toServer), "test\n"...), toClient), Knowledge{})
		if len(toServer) < capture.Window && again.Verdict == TLS && endsWhole(toServer) {
			t.Error("sealed in spite of text behind the last record")
		}
	})
}

// endsWhole reports whether a stream's last record is complete.
func endsWhole(stream []byte) bool {
	all, _ := tlswire.Records(stream)
	return len(all) > 0 && all[len(all)-1].Whole
}

func both(a, b []byte) [][]byte { return [][]byte{a, b} }

// FuzzHello: no hello makes the parser panic or read beyond its end.
func FuzzHello(f *testing.F) {
	client, server := configs(f)
	for _, stream := range both(handshakeBytes(f, client, server)) {
		all, _ := tlswire.Records(stream)
		f.Add(all[0].Body[4:])
	}
	f.Add(make([]byte, 64))
	f.Fuzz(func(_ *testing.T, body []byte) {
		_, _ = tlswire.ParseClientHello(body)
		_, _ = tlswire.ParseServerHello(body)
	})
}
