// Package id is the identity of a workload: a SPIFFE ID of the form
//
//	spiffe://<trust domain>/ns/<namespace>/sa/<service account>
//
// An Identity can only be made by Parse, New or FromCertificate, so holding one
// means it is well formed. The syntax is that of the SPIFFE ID specification,
// sections 2.1 to 2.3; each of namespace and service account is one path segment.
package id

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// TrustDomain is the part of an identity that names who vouches for it.
type TrustDomain = spiffeid.TrustDomain

// ParseTrustDomain reads the name of a trust domain, such as demo.local.
func ParseTrustDomain(s string) (TrustDomain, error) {
	if strings.Contains(s, "/") {
		return TrustDomain{}, fmt.Errorf("trust domain %q: must be a name such as demo.local, without scheme or path", s)
	}
	td, err := spiffeid.TrustDomainFromString(s)
	if err != nil {
		return TrustDomain{}, fmt.Errorf("trust domain %q: %v", s, err)
	}
	return td, nil
}

// Identity is a workload's name. The zero value is no identity. Identities are
// comparable with == and usable as map keys.
type Identity struct {
	domain         TrustDomain
	namespace      string
	serviceAccount string
}

// New makes the identity of a service account of a namespace.
func New(td TrustDomain, namespace, serviceAccount string) (Identity, error) {
	if td.IsZero() {
		return Identity{}, errors.New("identity: trust domain is empty")
	}
	for _, s := range [...]struct{ what, value string }{
		{"namespace", namespace}, {"service account", serviceAccount},
	} {
		if err := spiffeid.ValidatePathSegment(s.value); err != nil {
			return Identity{}, fmt.Errorf("identity: %s %q: %v", s.what, s.value, err)
		}
	}
	return Identity{domain: td, namespace: namespace, serviceAccount: serviceAccount}, nil
}

// Parse reads an identity in its URI form.
func Parse(s string) (Identity, error) {
	uri, err := spiffeid.FromString(s)
	if err != nil {
		return Identity{}, fmt.Errorf("identity %q: %v", s, err)
	}
	segments := strings.Split(strings.TrimPrefix(uri.Path(), "/"), "/")
	if len(segments) != 4 || segments[0] != "ns" || segments[2] != "sa" {
		return Identity{}, fmt.Errorf("identity %q: must be spiffe://<trust domain>/ns/<namespace>/sa/<service account>", s)
	}
	return New(uri.TrustDomain(), segments[1], segments[3])
}

// FromCertificate reads the identity a certificate carries: exactly one URI
// in its subject alternative names (X.509-SVID, section 2).
func FromCertificate(cert *x509.Certificate) (Identity, error) {
	if n := len(cert.URIs); n != 1 {
		return Identity{}, fmt.Errorf("certificate carries %d URI names, must be exactly one", n)
	}
	return Parse(cert.URIs[0].String())
}

// IsZero reports whether i is no identity.
func (i Identity) IsZero() bool { return i == Identity{} }

// TrustDomain is who vouches for i.
func (i Identity) TrustDomain() TrustDomain { return i.domain }

// Namespace is the namespace of i.
func (i Identity) Namespace() string { return i.namespace }

// ServiceAccount is the service account of i.
func (i Identity) ServiceAccount() string { return i.serviceAccount }

// String is the URI form, or "" for the zero value.
func (i Identity) String() string {
	if i.IsZero() {
		return ""
	}
	return "spiffe://" + i.domain.Name() + "/ns/" + i.namespace + "/sa/" + i.serviceAccount
}

// URL is the URI form as a certificate carries it.
func (i Identity) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: i.domain.Name(), Path: "/ns/" + i.namespace + "/sa/" + i.serviceAccount}
}

// ServerName is the SNI under which a client asks for i:
// <service account>.<namespace>.<trust domain>.
func (i Identity) ServerName() string {
	return i.serviceAccount + "." + i.namespace + "." + i.domain.Name()
}
