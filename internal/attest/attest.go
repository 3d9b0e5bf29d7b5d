// Package attest settles who asks for a certificate: a workload that joins
// proves it with a single-use token, one that renews with the certificate it has.
// Either way the answer is a workload of the current state or a refusal with a
// code of its own (*ca.Refusal).
//
//	secret ─▶ well formed? ─▶ taken from the platform ─▶ in time? ─┐
//	                                                                ├─▶ workload of the
//	certificate (verified by TLS) ─▶ of this trust domain? ─────────┘   state, sealed?
//
// A token is used up by being presented, whatever comes of it.
package attest

import (
	"context"
	"errors"
	"fmt"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
)

// Attested is who a caller proved to be.
type Attested struct {
	Identity id.Identity
	// Workloads bear the identity, sealed each: exactly one after Join, at least
	// one after Renew, since replicas share a service account.
	Workloads []mesh.Workload
}

// Tokens is where join tokens are kept: the part of platform.Platform that
// attestation needs.
type Tokens interface {
	// TakeToken returns and removes the token with this hash, or platform.ErrNoToken.
	TakeToken(ctx context.Context, hash [32]byte) (platform.Token, error)
}

// Attestor lets workloads in.
type Attestor struct {
	// Tokens is where join tokens are taken from.
	Tokens Tokens
	// State is the current state, never nil.
	State func() *platform.State
}

// Join takes the token with this secret and returns whom it was made for. Every
// refusal is a *ca.Refusal; any other error means the platform could not answer.
// Fails closed.
func (a Attestor) Join(ctx context.Context, secret string, now time.Time) (Attested, error) {
	hash, ok := tokenHash(secret)
	if !ok {
		return Attested{}, refuse(ca.CodeTokenMalformed, "", "must be %s and %d letters of base64url", tokenPrefix, encoding.EncodedLen(tokenBytes))
	}
	token, err := a.Tokens.TakeToken(ctx, hash)
	if errors.Is(err, platform.ErrNoToken) {
		return Attested{}, refuse(ca.CodeTokenUnknown, "", "join token was never made here, or has been used; each is good for one certificate")
	}
	if err != nil {
		return Attested{}, fmt.Errorf("take join token: %v", err)
	}
	name := token.Namespace + "/" + token.Workload
	if now.After(token.Expires) {
		return Attested{}, refuse(ca.CodeTokenExpired, name, "join token expired at %s", token.Expires.UTC().Format(time.RFC3339))
	}
	return workloadOf(a.State(), token)
}

// workloadOf is the workload a token was made for, as it stands now.
func workloadOf(state *platform.State, token platform.Token) (Attested, error) {
	name := token.Namespace + "/" + token.Workload
	for _, w := range state.Workloads {
		if w.Metadata.Namespace != token.Namespace || w.Metadata.Name != token.Workload {
			continue
		}
		if w.Spec.Seal == platform.SealDisabled {
			return Attested{}, refuse(ca.CodeWorkloadUnsealed, name, "workload is declared with seal: Disabled")
		}
		return admit(state, state.Identity(w), []mesh.Workload{w})
	}
	return Attested{}, refuse(ca.CodeWorkloadGone, name, "the workload this join token was made for is no more")
}

// Renew returns who bears the identity of a caller whose certificate has been
// verified. Its error is a *ca.Refusal. Fails closed.
func Renew(peer id.Identity, state *platform.State) (Attested, error) {
	if td := state.TrustDomain(); peer.TrustDomain() != td {
		return Attested{}, refuse(ca.CodeWrongTrustDomain, peer.String(), "only identities of trust domain %s are issued here", td.Name())
	}
	var sealed []mesh.Workload
	unsealed := false
	for _, w := range state.Workloads {
		switch {
		case state.Identity(w) != peer:
		case w.Spec.Seal == platform.SealDisabled:
			unsealed = true
		default:
			sealed = append(sealed, w)
		}
	}
	switch {
	case len(sealed) > 0:
		return admit(state, peer, sealed)
	case unsealed:
		return Attested{}, refuse(ca.CodeWorkloadUnsealed, peer.String(), "its workloads are declared with seal: Disabled")
	}
	return Attested{}, refuse(ca.CodeIdentityRevoked, peer.String(), "no workload bears this identity any more")
}

// admit is the last gate of both ways in: the control plane's own identity is
// for nobody else, whatever the platform let pass.
func admit(state *platform.State, identity id.Identity, workloads []mesh.Workload) (Attested, error) {
	if identity.IsZero() || identity == ca.ControlIdentity(state.TrustDomain()) {
		return Attested{}, refuse(ca.CodeIdentityReserved, identity.String(), "this identity is for no workload")
	}
	return Attested{Identity: identity, Workloads: workloads}, nil
}

func refuse(code ca.Code, subject, format string, args ...any) *ca.Refusal {
	return &ca.Refusal{Code: code, Subject: subject, Message: fmt.Sprintf(format, args...)}
}
