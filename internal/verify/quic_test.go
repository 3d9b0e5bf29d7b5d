package verify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/quic"

	"github.com/sealmesh/sealmesh/internal/capture"
	quicwire "github.com/sealmesh/sealmesh/internal/dissect/quic"
)

// quicTalk lets two real ends talk over QUIC and returns the datagrams.
func quicTalk(t testing.TB, tune func(client, server *quic.Config), payload string) ([]sent, error) {
	t.Helper()
	clientTLS, serverTLS := configs(t)
	clientTLS.MinVersion, serverTLS.MinVersion = tls.VersionTLS13, tls.VersionTLS13
	client, server := &quic.Config{TLSConfig: clientTLS}, &quic.Config{TLSConfig: serverTLS}
	if tune != nil {
		tune(client, server)
	}
	far, err := quic.Listen("udp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	near, err := quic.Listen("udp", "127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	tp, at := newTap(t, net.UDPAddrFromAddrPort(far.LocalAddr()))
	served := make(chan error, 1)
	go func() { served <- quicEcho(t.Context(), far) }()
	err = quicAsk(t.Context(), near, at.String(), client, payload)
	all := tp.seen()
	if err == nil {
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
	now, cancel := context.WithCancel(t.Context())
	cancel() // nobody waits for the other end to close
	for _, e := range []*quic.Endpoint{near, far} {
		_ = e.Close(now)
	}
	return all, err
}

func quicEcho(ctx context.Context, e *quic.Endpoint) error {
	conn, err := e.Accept(ctx)
	if err != nil {
		return err
	}
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return err
	}
	if _, err := io.Copy(stream, stream); err != nil {
		return err
	}
	return stream.Close()
}

func quicAsk(ctx context.Context, e *quic.Endpoint, at string, config *quic.Config, payload string) error {
	conn, err := e.Dial(ctx, "udp", at, config)
	if err != nil {
		return err
	}
	stream, err := conn.NewStream(ctx)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(stream, payload); err != nil {
		return err
	}
	stream.CloseWrite()
	if echoed, err := io.ReadAll(stream); err != nil || string(echoed) != payload {
		return err
	}
	return nil
}

func TestQUICIsRead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		tune  func(client, server *quic.Config)
		bytes int
		want  TLSInfo
	}{
		{"post-quantum by default", nil, 100, TLSInfo{Group: "X25519MLKEM768"}},
		{"classic group", func(c, _ *quic.Config) { c.TLSConfig.CurvePreferences = []tls.CurveID{tls.CurveP256} }, 100, TLSInfo{Group: "secp256r1"}},
		{"retried by the handshake", func(_, s *quic.Config) { s.TLSConfig.CurvePreferences = []tls.CurveID{tls.CurveP384} }, 100, TLSInfo{Group: "secp384r1", Retried: true}},
		{"retried for the address", func(_, s *quic.Config) { s.RequireAddressValidation = true }, 100, TLSInfo{Group: "X25519MLKEM768"}},
		{"more than is kept", nil, 50_000, TLSInfo{Group: "X25519MLKEM768"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			all, err := quicTalk(t, tc.tune, strings.Repeat("cleartext ", tc.bytes/10))
			if err != nil {
				t.Fatal(err)
			}
			found := judgeSent(capture.UDP, all)
			if found.Verdict != QUIC || found.Seal != "quic" {
				t.Fatalf("%s: %s", found.Verdict, found.Reason)
			}
			want := tc.want
			want.Version, want.QUICVersion, want.Handshake = "1.3", "v1", "seen"
			want.Cipher, want.SNI, want.ALPNOffered = found.TLS.Cipher, "web.shop.demo.local", []string{"sealmesh/1", "h2"}
			want.Random = found.TLS.Random
			if diff := cmp.Diff(&want, found.TLS); diff != "" {
				t.Error(diff)
			}
			if !strings.HasPrefix(want.Cipher, "TLS_") || len(want.Random) != 64 {
				t.Errorf("cipher %q, random %q", want.Cipher, want.Random)
			}
			alone := judgeSent(capture.UDP, only(all, false))
			if seals := alone.Verdict == QUIC; !alone.OneWay || seals && alone.TLS.Cipher != "" || !seals && alone.Verdict != Unknown {
				t.Errorf("from the client alone: %s %+v, %s", alone.Verdict, alone.TLS, alone.Reason)
			}
			if alone := judgeSent(capture.UDP, only(all, true)); alone.Verdict != Unknown {
				t.Errorf("from the server alone: %s", alone.Verdict)
			}
		})
	}
}

// TestNothingElseIsCalledQUIC takes a conversation and breaks it in one way each.
func TestNothingElseIsCalledQUIC(t *testing.T) {
	all, err := quicTalk(t, nil, strings.Repeat("payload ", 50))
	if err != nil {
		t.Fatal(err)
	}
	refused, err := quicTalk(t, func(c, _ *quic.Config) { c.TLSConfig.NextProtos = []string{"another"} }, "payload")
	if err == nil {
		t.Fatal("a handshake without a common protocol")
	}
	distrusted, err := quicTalk(t, func(c, _ *quic.Config) {
		c.TLSConfig.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not whom I know") }
	}, "payload")
	if err == nil {
		t.Fatal("a handshake with a server that the client does not know")
	}
	client, server := only(all, false), only(all, true)
	last := all[len(all)-1]
	var unused []sent // all but the client's packets with the keys of the handshake's end
	for _, s := range all {
		packets, err := quicwire.Split(s.data, len(s.data))
		if err != nil {
			t.Fatal(err)
		}
		if end := packets[len(packets)-1]; end.Kind == quicwire.OneRTT && !s.fromServer {
			s.data = s.data[:len(s.data)-1-len(end.Sealed)]
		}
		unused = append(unused, s)
	}
	with := func(more ...sent) []sent { return append(append([]sent(nil), all...), more...) }
	patched := func(i int) []sent {
		other := with()
		other[i].data = bytes.Clone(other[i].data)
		other[i].data[len(other[i].data)/2] ^= 1
		return other
	}
	clear := append(bytes.Clone(last.data[:12]), strings.Repeat("cleartext ", 4)...)
	for _, tc := range []struct {
		name string
		all  []sent
		want Verdict
		says string
	}{
		{"a hello without an answer", client[:2], Unknown, "not answered"},
		{"half a hello", client[:1], Unknown, ""},
		{"the first packet missing", all[1:], Unknown, ""},
		{"the client's packets missing", server, Unknown, ""},
		{"refused", refused, Unknown, "gave the handshake up"},
		{"refused in what is encrypted", distrusted, Unknown, "not completed"},
		{"keys that the client does not use", unused, Unknown, "not completed"},
		{"a hello that was changed", patched(0), Unknown, "does not open"},
		{"text behind it", with(sent{false, []byte("this is a test of text")}), Plaintext, "this is a test"},
		{"text in what looks sealed", with(sent{last.fromServer, clear}), Plaintext, "cleartext"},
		{"zeros in what looks sealed", with(sent{last.fromServer, append(bytes.Clone(last.data[:12]), make([]byte, 30)...)}), Unknown, "random"},
		{"another version", with(sent{false, append([]byte{0xc0, 1, 2, 3, 4, 0, 0}, make([]byte, 100)...)}), Unknown, "0x01020304"},
		{"too short a packet", with(sent{true, []byte{0x40, 1, 2}}), Unknown, "too few"},
		{"short headers only", []sent{last, last}, Unknown, ""},
		{"Google's", []sent{{false, []byte("\x0d\x81\x02\x03\x04\x05\x06\x07\x08Q043\x01CHLO")}}, Unknown, "Q043"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := judgeSent(capture.UDP, tc.all)
			said := found.Reason
			if found.Evidence != nil {
				said = found.Evidence.Text
			}
			if found.Verdict != tc.want || found.Seal != "" || !strings.Contains(said, tc.says) {
				t.Errorf("%s, saying %q; want %s, saying %q", found.Verdict, said, tc.want, tc.says)
			}
		})
	}
}

func TestABatchOfQUICIsTakenApart(t *testing.T) {
	id := []byte("an id of it")
	body := func(n int) string { return strings.Repeat("\x91", n) }
	all := batch([]byte(body(60)+"\x43"+string(id)+body(60)+"\x41"+string(id)+body(30)), id)
	if len(all) != 3 || len(all[0]) != 60 || len(all[1]) != 60 || len(all[2]) != 30 {
		t.Errorf("%d packets", len(all))
	}
	if all := batch([]byte(body(60)+"\x43abc"+body(60)), []byte("abc")); len(all) != 1 {
		t.Errorf("%d packets by an ID that may occur by chance", len(all))
	}
}
