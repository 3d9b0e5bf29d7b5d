package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/push"
)

// Bounds of what a proxy says about itself.
const (
	maxName           = 64 // of an instance or a version, in bytes
	maxBundleVersions = 64
)

// Watch implements DiscoveryService. It sends the newest snapshot, and again
// whenever its version changes, until the caller goes or may watch no more. While
// a slow reader takes one, nothing is queued for it.
func (s *Server) Watch(ctx context.Context, req *controlv1.WatchRequest, stream *connect.ServerStream[controlv1.WatchResponse]) error {
	if req.Instance == "" || len(req.Instance) > maxName {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("instance %.80q: must be 1 to %d bytes", req.Instance, maxName))
	}
	view, err := s.view()
	if err != nil {
		return s.answer(err)
	}
	who, err := s.caller(ctx, view, req.Workload)
	if err != nil {
		return s.answer(err)
	}
	disconnect, err := s.registry.Connect(push.NewLeaf(who.workload, who.identity, who.chain), req.Instance)
	if err != nil {
		return s.answer(&ca.Refusal{Code: ca.CodeOverloaded, Subject: who.workload, Message: err.Error()})
	}
	defer disconnect()
	s.cfg.Log.Debug("proxy connected", obs.KeyWorkload, who.workload, obs.KeyAddress, linkOf(ctx).remote)
	err = s.stream(ctx, who, stream)
	s.cfg.Log.Debug("proxy disconnected", obs.KeyWorkload, who.workload, obs.KeyError, fmt.Sprint(err))
	return err
}

// stream is the part of Watch that lasts. At each change the caller is judged as it
// would be if it came anew. Fails closed.
func (s *Server) stream(ctx context.Context, who caller, stream *connect.ServerStream[controlv1.WatchResponse]) error {
	expiry := time.NewTimer(who.chain[0].NotAfter.Sub(s.cfg.Now()))
	defer expiry.Stop()
	for sent := ""; ; {
		view, changed := s.hub.Load()
		if _, err := view.Bearer(who.identity, who.workload); err != nil {
			return s.answer(&ca.Refusal{Code: ca.CodeIdentityRevoked, Subject: who.workload, Message: err.Error()})
		}
		if version := view.Snapshot.Version; version != sent {
			if err := stream.Send(&controlv1.WatchResponse{Snapshot: view.Snapshot}); err != nil {
				return err
			}
			sent = version
			s.metrics.pushed()
		}
		// Only now: whose anchor was retired at once learns of it by the snapshot that
		// retires it, and in no other way, since it does not know us by the new one.
		if err := s.judge(&who, view); err != nil {
			return s.answer(err)
		}
		select {
		case <-ctx.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("the stream ends: caller or control plane stops"))
		case <-changed:
		case <-expiry.C:
			return s.answer(&ca.Refusal{Code: ca.CodeCertificateUntrusted, Subject: who.workload, Message: "the certificate this stream began with has ended"})
		}
	}
}

// Report implements DiscoveryService.
func (s *Server) Report(ctx context.Context, req *controlv1.ReportRequest) (*controlv1.ReportResponse, error) {
	if err := checkReport(req); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	view, err := s.view()
	if err != nil {
		return nil, s.answer(err)
	}
	who, err := s.caller(ctx, view, req.Workload)
	if err != nil {
		return nil, s.answer(err)
	}
	if err := s.registry.Report(who.workload, req); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return &controlv1.ReportResponse{}, nil
}

// checkReport bounds what is kept of a report, besides its edges.
func checkReport(req *controlv1.ReportRequest) error {
	if len(req.BundleVersions) > maxBundleVersions {
		return fmt.Errorf("%d bundle versions: must be at most %d", len(req.BundleVersions), maxBundleVersions)
	}
	names := []string{req.Instance, req.SnapshotVersion, req.LeafSerial, req.ProxyVersion}
	for _, v := range req.BundleVersions {
		names = append(names, v)
	}
	for _, n := range names {
		if len(n) > maxName {
			return fmt.Errorf("value %.80q: must be at most %d bytes", n, maxName)
		}
	}
	return nil
}
