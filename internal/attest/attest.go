// Package attest settles who asks for a certificate: a workload that joins
// proves it with a single-use token, one that renews with the certificate it has.
// Either way the answer is a workload of the current state or a refusal with a
// code of its own (*ca.Refusal).
package attest

import (
	"context"
	"errors"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
)

// DefaultTokenLifetime is how long a join token can be used if nobody says.
const DefaultTokenLifetime = time.Hour

// Attested is who a caller proved to be.
type Attested struct {
	Identity id.Identity
	// Workloads bear the identity; exactly one after Join, at least one after
	// Renew, since replicas share a service account.
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
func (a Attestor) Join(ctx context.Context, secret string, now time.Time) (Attested, error) {
	return Attested{}, errors.New("attest: not joined")
}

// Renew returns who bears the identity of a caller whose certificate has been
// verified. Its error is a *ca.Refusal.
func Renew(peer id.Identity, state *platform.State) (Attested, error) {
	return Attested{}, errors.New("attest: not renewed")
}

// NewToken makes a join token for a workload. The secret is for its holder
// alone; the token is what is kept.
func NewToken(namespace, workload string, lifetime time.Duration, now time.Time) (secret string, t platform.Token) {
	return "", platform.Token{}
}
