// Package platform is where the objects of the mesh live. The control plane
// sees this one interface; nothing else knows which implementation runs.
//
//	platform/dir   a directory of YAML files, watched: plain Linux, demo, tests
//	platform/kube  the Kubernetes API server
package platform

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
)

// Platform keeps the objects, the issuer and the join tokens.
type Platform interface {
	// Watch calls apply with the whole state, at once and after each change,
	// until ctx ends. A state that does not validate is logged and skipped: the
	// last good one stays in force.
	Watch(ctx context.Context, apply func(*State)) error
	// AddToken keeps a join token until it is taken or expires.
	AddToken(ctx context.Context, t Token) error
	// TakeToken returns and removes the token with this hash, or ErrNoToken.
	// Of several callers at once only one gets it.
	TakeToken(ctx context.Context, hash [32]byte) (Token, error)
}

// State is all objects at one moment: validated, defaults filled in, and never
// changed once it was handed out. Slices are ordered by namespace and name.
type State struct {
	// Version changes whenever the state does.
	Version   string
	Mesh      mesh.Mesh
	Bundles   []mesh.TrustBundle
	Nodes     []mesh.Node
	Workloads []mesh.Workload
	Services  []mesh.Service
	// Issuer signs leaves. Its key never leaves the control plane.
	Issuer Issuer
}

// Issuer is the certificate that signs leaves, with its key.
type Issuer struct {
	// Chain is the issuer's certificate, then any between it and the anchor,
	// without the anchor itself.
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// Token is a join token as it is kept: the secret itself is known to its
// holder alone.
type Token struct {
	Hash      [32]byte // SHA-256 of the secret
	Namespace string
	Workload  string
	Expires   time.Time
}

// ErrNoToken means that no such token was ever made, or that it has been taken.
var ErrNoToken = errors.New("no such join token")
