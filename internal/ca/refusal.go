package ca

import (
	"fmt"
	"time"
)

// Code names why a certificate was refused. The set is closed, so that a code
// can be a metric label, a word in a script and a row of docs/identity.md.
type Code string

// Every code there is.
const (
	// CodeBadCSR: the request is not PKCS #10, or its signature is not by the key
	// it names.
	CodeBadCSR Code = "bad_csr"
	// CodeBadKey: the key is not ECDSA P-256.
	CodeBadKey Code = "bad_key"
	// CodeBadLifetime: the lifetime asked for is under MinLifetime.
	CodeBadLifetime Code = "bad_lifetime"
	// CodeIssuerExpired: the issuer is outside its validity, or so near its end
	// that a leaf would live less than MinLifetime.
	CodeIssuerExpired Code = "issuer_expired"
	// CodeIssuerUntrusted: what the issuer signs does not verify with the trust
	// bundle, or it is not fit to sign at all.
	CodeIssuerUntrusted Code = "issuer_untrusted"
	// CodeTokenMalformed: the join token does not look like one.
	CodeTokenMalformed Code = "token_malformed"
	// CodeTokenUnknown: no such join token was ever made, or it has been used.
	CodeTokenUnknown Code = "token_unknown"
	// CodeTokenExpired: the join token was presented too late.
	CodeTokenExpired Code = "token_expired"
	// CodeWorkloadGone: the workload a join token was made for is no more.
	CodeWorkloadGone Code = "workload_gone"
	// CodeWorkloadUnsealed: the workload is declared outside the mesh.
	CodeWorkloadUnsealed Code = "workload_unsealed"
	// CodeIdentityRevoked: no workload bears the identity any more.
	CodeIdentityRevoked Code = "identity_revoked"
	// CodeIdentityReserved: the identity is the control plane's own.
	CodeIdentityReserved Code = "identity_reserved"
	// CodeWrongTrustDomain: the identity is of another trust domain.
	CodeWrongTrustDomain Code = "wrong_trust_domain"
	// CodeProofMissing: the caller showed neither a join token nor a certificate.
	CodeProofMissing Code = "proof_missing"
	// CodeCertificateUntrusted: the caller's certificate is trusted no more.
	CodeCertificateUntrusted Code = "certificate_untrusted"
	// CodeWorkloadMismatch: the workload that the caller says it is does not bear
	// its identity, or it must say which of several it is.
	CodeWorkloadMismatch Code = "workload_mismatch"
	// CodeOverloaded: too many ask at once.
	CodeOverloaded Code = "overloaded"
	// CodeUnavailable: the control plane, or its platform, cannot answer now.
	CodeUnavailable Code = "unavailable"
)

// Refusal is an error that says why no certificate was issued. It is meant for
// the caller and for the audit log alike: it holds no secret.
type Refusal struct {
	Code Code
	// Subject is the identity or the "namespace/name" of the workload refused, as
	// far as it is known; for the audit log.
	Subject string
	// Message says what was wrong and what is allowed.
	Message string
}

// Error is the refusal in one line.
func (r *Refusal) Error() string {
	if r.Subject == "" {
		return fmt.Sprintf("refused (%s): %s", r.Code, r.Message)
	}
	return fmt.Sprintf("refused %s (%s): %s", r.Subject, r.Code, r.Message)
}

func refuse(code Code, subject, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Subject: subject, Message: fmt.Sprintf(format, args...)}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
