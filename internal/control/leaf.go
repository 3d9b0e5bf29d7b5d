package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/push"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// leafRetry is how long to wait after the own leaf could not be made.
const leafRetry = 10 * time.Second

// keepLeaf keeps the server's own leaf: it makes a new one when half of the
// lifetime has passed, when another issuer signs, and when the bundle no longer
// holds what vouches for the present one. The present one serves on meanwhile.
func (s *Server) keepLeaf(ctx context.Context) {
	for ctx.Err() == nil {
		view, changed := s.hub.Load()
		wait := leafRetry
		if view != nil {
			wait = s.refreshLeaf(view)
		}
		due := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due.C:
		}
		due.Stop()
	}
}

// refreshLeaf makes a new leaf if it is time, and returns when to look again.
func (s *Server) refreshLeaf(view *push.View) time.Duration {
	now := s.cfg.Now()
	present := s.leaf.Load()
	if present != nil {
		if wait := s.leafDue(present, view, now); wait > 0 {
			return wait
		}
	}
	made, err := ca.SelfIssue(view.State.Issuer, view.Bundles[view.TrustDomain], view.LeafLifetime, now)
	if err != nil {
		s.cfg.Log.Error("own certificate not made", obs.KeyError, err.Error(), obs.KeyRetry, leafRetry)
		return leafRetry
	}
	s.leaf.Store(made)
	if present == nil {
		close(s.ready)
	}
	s.cfg.Log.Info("own certificate made", obs.KeySerial, ca.SerialHex(made.Leaf),
		obs.KeyExpires, made.Leaf.NotAfter, obs.KeyIssuer, made.Leaf.Issuer.String())
	return max(s.leafDue(made, view, now), leafRetry)
}

// leafDue is how long the present leaf is good for; nothing if it is to be
// replaced now.
func (s *Server) leafDue(present *tls.Certificate, view *push.View, now time.Time) time.Duration {
	leaf := present.Leaf
	if leaf.CheckSignatureFrom(view.State.Issuer.Chain[0]) != nil {
		return 0
	}
	if _, err := mtls.Verify(parsed(present), view.Bundles, now); err != nil {
		return 0
	}
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2).Sub(now)
}

// parsed is the chain of a certificate that this process made.
func parsed(cert *tls.Certificate) []*x509.Certificate {
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			chain = append(chain, c)
		}
	}
	return chain
}

// serverTLS is the TLS of every front. Who we are and whom we trust is looked up
// at each handshake. Fails closed: before the first leaf nobody gets through.
func (s *Server) serverTLS() *tls.Config {
	config := s.handshake(nil, nil)
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		view, _ := s.hub.Load()
		leaf := s.leaf.Load()
		if view == nil || leaf == nil {
			return nil, errors.New("control plane has no certificate yet")
		}
		return s.handshake(leaf, view.Bundles), nil
	}
	return config
}

func (s *Server) handshake(leaf *tls.Certificate, bundles map[id.TrustDomain]*snapshot.Bundle) *tls.Config {
	return mtls.Config{
		Leaf:      leaf,
		Bundles:   bundles,
		PeerCert:  mtls.PeerCertOptional,
		Authorize: s.ofOwnDomain,
		Protocols: []string{"h2"},
		Now:       s.cfg.Now,
	}.TLS()
}

// ofOwnDomain admits only identities of the mesh's own trust domain. Whether they
// are live is judged at each request, which can say so.
func (s *Server) ofOwnDomain(peer id.Identity) error {
	if view, _ := s.hub.Load(); view == nil || peer.TrustDomain() != view.TrustDomain {
		return fmt.Errorf("%s is not of this trust domain", peer)
	}
	return nil
}
