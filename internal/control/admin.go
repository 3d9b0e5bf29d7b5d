package control

import (
	"context"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform"
)

// maxTokenLifetime is the longest a join token may be asked to be good for.
const maxTokenLifetime = 30 * 24 * time.Hour

// admin implements AdminService.
type admin struct{ *Server }

// ownersOnly lets in the user that runs the control plane, and root: whoever else
// may use the socket is a proxy. Fails closed.
func ownersOnly(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if user := linkOf(ctx).user; user != 0 && user != os.Geteuid() {
			return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("user %d: only root and the control plane's own user may ask", user))
		}
		return next(ctx, req)
	}
}

// CreateJoinToken makes a token for a workload that is there and sealed.
func (a *admin) CreateJoinToken(ctx context.Context, req *controlv1.CreateJoinTokenRequest) (*controlv1.CreateJoinTokenResponse, error) {
	view, err := a.view()
	if err != nil {
		return nil, a.answer(err)
	}
	w, err := find(view.State, req.Namespace, req.Workload)
	if err != nil {
		return nil, err
	}
	if req.Lifetime < 0 || req.Lifetime > int64(maxTokenLifetime/time.Second) {
		return nil, connect.NewError(connect.CodeInvalidArgument,
			fmt.Errorf("lifetime %d s: must be 0 to %d s", req.Lifetime, int64(maxTokenLifetime/time.Second)))
	}
	lifetime := time.Duration(req.Lifetime) * time.Second
	secret, token := attest.NewToken(req.Namespace, req.Workload, lifetime, a.cfg.Now())
	if err := a.cfg.Platform.AddToken(ctx, token); err != nil {
		return nil, connect.NewError(connect.CodeInternal, fmt.Errorf("keep the join token: %v", err))
	}
	a.cfg.Log.Info("join token made", obs.KeyWorkload, name(w), obs.KeyExpires, token.Expires)
	return &controlv1.CreateJoinTokenResponse{
		Token:       secret,
		Expires:     token.Expires.Unix(),
		Identity:    view.State.Identity(w).String(),
		TrustDomain: view.TrustDomain.Name(),
		AnchorsPem:  view.Bundles[view.TrustDomain].PEM(),
	}, nil
}

// find is a workload that may join.
func find(state *platform.State, namespace, workload string) (mesh.Workload, error) {
	for _, w := range state.Workloads {
		if w.Metadata.Namespace != namespace || w.Metadata.Name != workload {
			continue
		}
		if w.Spec.Seal == platform.SealDisabled {
			return mesh.Workload{}, connect.NewError(connect.CodeFailedPrecondition,
				fmt.Errorf("workload %s is declared with seal: Disabled", name(w)))
		}
		return w, nil
	}
	return mesh.Workload{}, connect.NewError(connect.CodeNotFound, fmt.Errorf("no workload %s/%s", namespace, workload))
}

// ListIdentities lists who holds which certificate.
func (a *admin) ListIdentities(context.Context, *controlv1.ListIdentitiesRequest) (*controlv1.ListIdentitiesResponse, error) {
	view, err := a.view()
	if err != nil {
		return nil, a.answer(err)
	}
	resp := &controlv1.ListIdentitiesResponse{}
	for _, s := range a.registry.Statuses() {
		resp.Identities = append(resp.Identities, &controlv1.IssuedIdentity{
			Workload:        s.Workload,
			Identity:        s.Identity.String(),
			Serial:          s.Serial,
			NotBefore:       s.NotBefore.Unix(),
			NotAfter:        s.NotAfter.Unix(),
			Issuer:          s.Issuer,
			IssuerSerial:    s.IssuerSerial,
			Connected:       s.Connected,
			SnapshotVersion: s.SnapshotVersion,
			BundleVersions:  s.BundleVersions,
			Node:            view.Node(s.Workload),
		})
	}
	return resp, nil
}

// ListEdges lists who has talked to whom.
func (a *admin) ListEdges(context.Context, *controlv1.ListEdgesRequest) (*controlv1.ListEdgesResponse, error) {
	view, err := a.view()
	if err != nil {
		return nil, a.answer(err)
	}
	edges := a.registry.Edges()
	for _, e := range edges {
		e.PeerWorkload = view.Workload(e.Edge.Peer)
	}
	return &controlv1.ListEdgesResponse{Edges: edges}, nil
}
