package control

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/api/control/v1/controlv1connect"
	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/push"
)

// Sizes of requests, in bytes.
const (
	maxRequest = 64 << 10
	maxReport  = 2 << 20 // MaxEdges edges of 500 bytes
)

// remote is what is served to proxies on other machines.
func (s *Server) remote() *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle(controlv1connect.NewIdentityServiceHandler(s, connect.WithReadMaxBytes(maxRequest)))
	mux.Handle(controlv1connect.NewDiscoveryServiceHandler(s, connect.WithReadMaxBytes(maxReport)))
	return mux
}

// local is what is served on the unix socket.
func (s *Server) local() *http.ServeMux {
	mux := s.remote()
	mux.Handle(controlv1connect.NewAdminServiceHandler(&admin{s},
		connect.WithReadMaxBytes(maxRequest), connect.WithInterceptors(connect.UnaryInterceptorFunc(ownersOnly))))
	return mux
}

// caller is a proxy that has shown a certificate.
type caller struct {
	identity id.Identity
	workload string // "namespace/name"
	chain    []*x509.Certificate
}

// caller finds out who a request comes from: the certificate, and the workload
// the request says it is. The error is a refusal.
func (s *Server) caller(ctx context.Context, view *push.View, claimed string) (caller, error) {
	c, err := s.certified(ctx, view)
	if err != nil {
		return caller{}, err
	}
	if c.workload, err = view.Bearer(c.identity, claimed); err != nil {
		return caller{}, &ca.Refusal{Code: ca.CodeWorkloadMismatch, Subject: c.identity.String(), Message: err.Error()}
	}
	return c, nil
}

// certified reads the certificate that a request's connection showed, and judges
// it as of now: the handshake may have been long ago.
func (s *Server) certified(ctx context.Context, view *push.View) (caller, error) {
	state := linkOf(ctx).tls
	if state == nil || len(state.PeerCertificates) == 0 {
		return caller{}, &ca.Refusal{Code: ca.CodeProofMissing, Message: "a client certificate is needed"}
	}
	c := caller{chain: state.PeerCertificates}
	return c, s.judge(&c, view)
}

// judge says whether a caller's certificate holds, and whether anybody still
// bears its identity. Fails closed.
func (s *Server) judge(c *caller, view *push.View) (err error) {
	if c.identity, err = mtls.Verify(c.chain, view.Bundles, s.cfg.Now()); err != nil {
		return &ca.Refusal{Code: ca.CodeCertificateUntrusted, Message: err.Error()}
	}
	if view.Live(c.identity) {
		return nil
	}
	if _, err := attest.Renew(c.identity, view.State); err != nil { // which knows why
		return err
	}
	return &ca.Refusal{Code: ca.CodeIdentityRevoked, Subject: c.identity.String(), Message: "no workload bears this identity any more"}
}

// view is the newest view, or a refusal if there is none yet.
func (s *Server) view() (*push.View, error) {
	if view, _ := s.hub.Load(); view != nil {
		return view, nil
	}
	return nil, &ca.Refusal{Code: ca.CodeUnavailable, Message: "the control plane has not read its objects yet"}
}

// answer makes an error of ours one that goes over the wire: a refusal keeps its
// code and message, as detail; of anything else the caller learns nothing.
func (s *Server) answer(err error) error {
	var refused *ca.Refusal
	if !errors.As(err, &refused) {
		refused = &ca.Refusal{Code: ca.CodeUnavailable, Message: "the control plane cannot answer now"}
	}
	s.metrics.refused(refused.Code)
	out := connect.NewError(status(refused.Code), refused)
	if detail, err := connect.NewErrorDetail(&controlv1.Refusal{Code: string(refused.Code), Message: refused.Message}); err == nil {
		out.AddDetail(detail)
	}
	return out
}

// status is the gRPC status that goes with a refusal's code.
func status(code ca.Code) connect.Code {
	switch code {
	case ca.CodeBadCSR, ca.CodeBadKey:
		return connect.CodeInvalidArgument
	case ca.CodeTokenMalformed, ca.CodeTokenUnknown, ca.CodeTokenExpired, ca.CodeProofMissing, ca.CodeCertificateUntrusted:
		return connect.CodeUnauthenticated
	case ca.CodeWorkloadGone, ca.CodeWorkloadUnsealed, ca.CodeWorkloadMismatch,
		ca.CodeIdentityRevoked, ca.CodeIdentityReserved, ca.CodeWrongTrustDomain:
		return connect.CodePermissionDenied
	case ca.CodeOverloaded:
		return connect.CodeResourceExhausted
	}
	return connect.CodeUnavailable // ours to mend: issuer_*, bad_lifetime, unavailable
}
