package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/test/pki"
)

// A peer that does not accept our certificate ends the connection with an alert,
// which in TLS 1.3 a client meets on its first read only. The reason must say so.
func TestPeerThatRefusesOurCertificateIsNamed(t *testing.T) {
	d := pki.New(t, "demo.local")
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		defer far.Close()
		_ = tls.Server(far, mtls.Config{
			Leaf: d.Leaf(d.ID("shop", "web")), Bundles: pki.Bundles(d), Protocols: []string{mtls.ALPN},
			Authorize: func(id.Identity) error { return errors.New("never seen you") },
		}.TLS()).HandshakeContext(t.Context())
	}()
	client := tls.Client(near, mtls.Config{
		Leaf: d.Leaf(d.ID("shop", "curl")), Bundles: pki.Bundles(d), Protocols: []string{mtls.ALPN},
		ServerName: "web.shop.demo.local",
	}.TLS())
	err := client.HandshakeContext(t.Context())
	if err == nil {
		_, err = client.Read(make([]byte, 1))
	}
	for what, got := range map[string]error{
		"handshake": handshakeFailed("web", err),
		"stream":    outcome(&link{}, nil, err),
	} {
		if r, ok := errors.AsType[*policy.Refusal](got); !ok || r.Reason != policy.ReasonRefusedByPeer {
			t.Errorf("%s: %v, expected reason %s", what, got, policy.ReasonRefusedByPeer)
		}
	}
}
