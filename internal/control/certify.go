package control

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform"
	"github.com/sealmesh/sealmesh/internal/push"
)

// Bounds of Certify.
const (
	// maxSigning is how many requests are at work at a time.
	maxSigning = 64
	// signingWait is how long a request waits for its turn.
	signingWait = 2 * time.Second
)

// proof is how a caller showed who it is.
type proof string

const (
	proofToken       proof = "token"
	proofCertificate proof = "certificate"
)

// Certify implements IdentityService. Each answer is one line in the log.
func (s *Server) Certify(ctx context.Context, req *controlv1.CertifyRequest) (*controlv1.CertifyResponse, error) {
	by := proofCertificate
	if req.JoinToken != "" {
		by = proofToken
	}
	leaf, ders, err := s.certify(ctx, req)
	if err != nil {
		s.auditRefusal(ctx, by, err)
		return nil, s.answer(err)
	}
	s.registry.Issued(leaf)
	s.metrics.issued(by)
	s.cfg.Log.Info("certificate issued", obs.KeyWorkload, leaf.Workload, obs.KeyPeer, leaf.Identity.String(),
		obs.KeySerial, leaf.Serial, obs.KeyExpires, leaf.NotAfter, obs.KeyIssuer, leaf.Issuer,
		keyProof, string(by), obs.KeyAddress, linkOf(ctx).remote)
	return &controlv1.CertifyResponse{Chain: ders, Workload: leaf.Workload}, nil
}

// certify checks in this order, so that a request which could not be met leaves
// its join token unused: turn, request, issuer, proof, signature.
func (s *Server) certify(ctx context.Context, req *controlv1.CertifyRequest) (push.Leaf, [][]byte, error) {
	done, err := s.turn(ctx)
	if err != nil {
		return push.Leaf{}, nil, err
	}
	defer done()
	if _, err := ca.ParseCSR(req.Csr); err != nil {
		return push.Leaf{}, nil, err
	}
	view, err := s.view()
	if err != nil {
		return push.Leaf{}, nil, err
	}
	now := s.cfg.Now()
	issuer, bundle := view.State.Issuer, view.Bundles[view.TrustDomain]
	if err := ca.CheckIssuer(issuer, bundle, now); err != nil {
		return push.Leaf{}, nil, err
	}
	who, workload, err := s.attest(ctx, req, view, now)
	if err != nil {
		return push.Leaf{}, nil, err
	}
	signed, err := ca.Issue(ca.Request{Identity: who.Identity, CSR: req.Csr, Lifetime: view.LeafLifetime, Now: now}, issuer, bundle)
	if err != nil {
		return push.Leaf{}, nil, err
	}
	chain := append([]*x509.Certificate{signed.Leaf}, issuer.Chain...)
	return push.NewLeaf(workload, who.Identity, chain), signed.Chain, nil
}

// attest settles who asks, by token if there is one, else by certificate.
func (s *Server) attest(ctx context.Context, req *controlv1.CertifyRequest, view *push.View, now time.Time) (who attest.Attested, workload string, err error) {
	if req.JoinToken != "" {
		joining := attest.Attestor{
			Tokens: s.cfg.Platform,
			State:  func() *platform.State { return view.State },
		}
		if who, err = joining.Join(ctx, req.JoinToken, now); err != nil {
			return who, "", err
		}
		return who, name(who.Workloads[0]), nil
	}
	c, err := s.caller(ctx, view, req.Workload)
	if err != nil {
		return who, "", err
	}
	who, err = attest.Renew(c.identity, view.State)
	return who, c.workload, err
}

func name(w mesh.Workload) string { return w.Metadata.Namespace + "/" + w.Metadata.Name }

// turn waits until fewer than maxSigning requests are at work.
func (s *Server) turn(ctx context.Context) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, signingWait)
	defer cancel()
	select {
	case s.signing <- struct{}{}:
		return func() { <-s.signing }, nil
	case <-ctx.Done():
		return nil, &ca.Refusal{Code: ca.CodeOverloaded, Message: "too many ask for certificates at once; try again"}
	}
}

// Keys of the audit lines that no other part of the mesh writes.
const (
	keyProof = "proof" // token or certificate
)

// auditRefusal is the one line that a refused request leaves.
func (s *Server) auditRefusal(ctx context.Context, by proof, err error) {
	attrs := []slog.Attr{slog.String(keyProof, string(by)), slog.String(obs.KeyAddress, linkOf(ctx).remote)}
	level := slog.LevelWarn
	if refused, ok := errors.AsType[*ca.Refusal](err); ok {
		attrs = append(attrs, slog.String(obs.KeyCode, string(refused.Code)),
			slog.String(obs.KeyPeer, refused.Subject), slog.String(obs.KeyDetail, refused.Message))
	} else {
		level = slog.LevelError
		attrs = append(attrs, slog.String(obs.KeyError, err.Error()))
	}
	s.cfg.Log.LogAttrs(ctx, level, "certificate refused", attrs...)
}
