package platform

import (
	"fmt"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Values of WorkloadSpec.Seal.
const (
	SealEnabled  = "Enabled"
	SealDisabled = "Disabled"
)

// Values of DebugSpec.KeyLog.
const (
	KeyLogAllowed = "Allowed"
	KeyLogDenied  = "Denied"
)

// TrustDomain is the trust domain of the mesh.
func (s *State) TrustDomain() id.TrustDomain {
	td, _ := id.ParseTrustDomain(s.Mesh.Spec.TrustDomain) // zero for a State nobody validated
	return td
}

// Identity is who a workload is once it is sealed.
func (s *State) Identity(w mesh.Workload) id.Identity {
	identity, _ := id.New(s.TrustDomain(), w.Metadata.Namespace, w.Spec.ServiceAccount) // zero likewise: no identity
	return identity
}

// Bundle is the trust bundle of a trust domain. There is always one of the
// mesh's own.
func (s *State) Bundle(td id.TrustDomain) (*snapshot.Bundle, error) {
	for _, b := range s.Bundles {
		if b.Metadata.Name == td.Name() {
			return snapshot.ParseBundle(td, []byte(b.Spec.Anchors))
		}
	}
	return nil, fmt.Errorf("no trust bundle for trust domain %s", td.Name())
}
