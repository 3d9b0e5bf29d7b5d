// Package policy decides, from values alone, whether a connection may pass and
// says why not when it may not.
//
// Every decision is pure: it takes what is known about the two ends and the
// mode in force, and touches no network, clock or lock.
package policy

import "fmt"

// Mode is how a side treats connections that carry no identity.
type Mode uint8

// The two modes. The zero value is the safe one.
const (
	// Strict refuses what is not sealed.
	Strict Mode = iota
	// Permissive accepts plaintext too.
	Permissive
)

// String is the mode's name in objects: Strict or Permissive.
func (m Mode) String() string {
	if m == Permissive {
		return "Permissive"
	}
	return "Strict"
}

// ParseMode reads a mode by its name in objects.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "Strict":
		return Strict, nil
	case "Permissive":
		return Permissive, nil
	}
	return Strict, fmt.Errorf("mode %q: must be Strict or Permissive", s)
}

// Reason names why a connection was refused. The set is closed, so a reason can
// be a metric label.
type Reason string

// Every reason there is.
const (
	// ReasonNone: not refused.
	ReasonNone Reason = ""
	// ReasonUnknownDestination: strict outbound, and nobody vouches for an
	// identity at the destination.
	ReasonUnknownDestination Reason = "unknown_destination"
	// ReasonUnsealedDestination: strict outbound, and the destination is known
	// to be outside the mesh.
	ReasonUnsealedDestination Reason = "unsealed_destination"
	// ReasonPlaintext: strict inbound, and the caller did not seal.
	ReasonPlaintext Reason = "plaintext"
	// ReasonExpectedSeal: the caller is a sealed workload, yet did not seal.
	ReasonExpectedSeal Reason = "expected_seal"
	// ReasonHandshake: the TLS handshake failed or took too long.
	ReasonHandshake Reason = "handshake_failed"
	// ReasonUntrusted: the peer's certificate does not verify.
	ReasonUntrusted Reason = "untrusted_certificate"
	// ReasonWrongIdentity: the peer proved another identity than the one meant.
	ReasonWrongIdentity Reason = "wrong_identity"
	// ReasonRevoked: the identity is valid but no workload bears it any more.
	ReasonRevoked Reason = "revoked_identity"
	// ReasonRefusedByPeer: the other proxy refused; its log says why.
	ReasonRefusedByPeer Reason = "refused_by_peer"
	// ReasonWrongDestination: OPEN names an address that is not this workload.
	ReasonWrongDestination Reason = "wrong_destination"
	// ReasonNotReady: the proxy has no identity yet.
	ReasonNotReady Reason = "not_ready"
	// ReasonOverload: a bound on handshakes, connections or descriptors was hit.
	ReasonOverload Reason = "overload"
	// ReasonDraining: the proxy is shutting down.
	ReasonDraining Reason = "draining"
	// ReasonUnreachable: the next hop could not be reached.
	ReasonUnreachable Reason = "unreachable"
	// ReasonProtocol: the peer broke the wire format.
	ReasonProtocol Reason = "protocol_error"
)

// Refusal is an error that explains itself: who, by which rule, and why.
type Refusal struct {
	Reason Reason
	Peer   string // identity or address of the other end
	Detail string // for a person, one clause
}

// Error is the refusal in one line.
func (r *Refusal) Error() string {
	if r.Peer == "" {
		return fmt.Sprintf("refused (%s): %s", r.Reason, r.Detail)
	}
	return fmt.Sprintf("refused %s (%s): %s", r.Peer, r.Reason, r.Detail)
}
