// Package mtls is the only place that builds a tls.Config, and the only place
// that decides whether a certificate chain proves an identity.
//
// Every config is TLS 1.3 with post-quantum key exchange first, without session
// tickets, and does all its checks in VerifyConnection, which runs on every
// handshake (VerifyPeerCertificate does not run on resumed sessions).
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"time"

	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/policy"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// ALPN is the application protocol of a lane.
const ALPN = "sealmesh/1"

// PeerCert says whether the peer must show a certificate.
type PeerCert uint8

// The zero value is the safe one.
const (
	// PeerCertRequired refuses a peer without a certificate.
	PeerCertRequired PeerCert = iota
	// PeerCertOptional verifies a certificate if one is shown. Only the control
	// plane uses it: a workload that joins has none yet.
	PeerCertOptional
)

// Config says what one end of a connection shows and demands.
type Config struct {
	// Leaf is shown to the peer; nil shows none (a client that joins).
	Leaf *tls.Certificate
	// Bundles are the trust anchors by trust domain.
	Bundles map[id.TrustDomain]*snapshot.Bundle
	// Authorize is asked once the peer's chain has verified; nil admits every
	// verified identity. Its error ends the handshake and is returned by it.
	Authorize func(id.Identity) error
	// PeerCert says whether the peer must show a certificate.
	PeerCert PeerCert
	// ServerName is the SNI a client sends.
	ServerName string
	// Protocols are the ALPN names, in order of preference; one must be agreed.
	Protocols []string
	// KeyLog takes the session secrets of the handshake; nil, as it must be unless
	// the mesh allows it, lets nobody have them.
	KeyLog io.Writer
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// TLS is the tls.Config for either end.
func (c Config) TLS() *tls.Config {
	now := c.Now
	if now == nil {
		now = time.Now
	}
	t := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Order is not ours to choose in Go: X25519MLKEM768 first whenever it is
		// listed, AES-128-GCM first whenever the CPU has AES.
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		NextProtos:             c.Protocols,
		ServerName:             c.ServerName,
		SessionTicketsDisabled: true,
		Time:                   now,
		// Fails closed: names are SPIFFE IDs, which the default check cannot
		// read, so the default check is off and VerifyConnection does it all.
		InsecureSkipVerify: true,
		ClientAuth:         tls.RequireAnyClientCert,
		// A record of full size from the first byte: lanes carry bulk and small
		// messages alike, and flush whole frames.
		DynamicRecordSizingDisabled: true,
		KeyLogWriter:                c.KeyLog,
	}
	if c.PeerCert == PeerCertOptional {
		t.ClientAuth = tls.RequestClientCert
	}
	if c.Leaf != nil {
		t.Certificates = []tls.Certificate{*c.Leaf}
	}
	t.VerifyConnection = func(cs tls.ConnectionState) error {
		return c.verify(cs, now())
	}
	return t
}

// Inspect is a server's config that shows the ClientHello to look, and whose
// handshake always fails: with look's error, or because it has no certificate.
func Inspect(look func(*tls.ClientHelloInfo) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS10, // only read, never spoken
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return nil, look(hello)
		},
	}
}

// verify is all that is checked of a peer. Fails closed.
func (c Config) verify(cs tls.ConnectionState, now time.Time) error {
	if len(c.Protocols) > 0 && cs.NegotiatedProtocol == "" {
		return &policy.Refusal{Reason: policy.ReasonHandshake, Detail: "peer agreed to none of our protocols"}
	}
	if len(cs.PeerCertificates) == 0 {
		if c.PeerCert == PeerCertOptional {
			return nil
		}
		return &policy.Refusal{Reason: policy.ReasonUntrusted, Detail: "peer showed no certificate"}
	}
	peer, err := Verify(cs.PeerCertificates, c.Bundles, now)
	if err != nil {
		return err
	}
	if c.Authorize != nil {
		return c.Authorize(peer)
	}
	return nil
}

// Expect admits exactly one identity: a client's check that it reached whom it
// meant.
func Expect(want id.Identity) func(id.Identity) error {
	return func(got id.Identity) error {
		if got != want {
			return &policy.Refusal{Reason: policy.ReasonWrongIdentity, Peer: got.String(), Detail: "expected " + want.String()}
		}
		return nil
	}
}

// Peer is the identity a finished handshake proved. The chain was verified by
// the handshake; this only reads the name.
func Peer(cs tls.ConnectionState) (id.Identity, error) {
	if len(cs.PeerCertificates) == 0 {
		return id.Identity{}, errors.New("peer showed no certificate")
	}
	return id.FromCertificate(cs.PeerCertificates[0])
}

// LeafExpiry is when the first of the two ends' leaves stops being valid.
func LeafExpiry(own, peer *x509.Certificate) time.Time {
	if own != nil && own.NotAfter.Before(peer.NotAfter) {
		return own.NotAfter
	}
	return peer.NotAfter
}
