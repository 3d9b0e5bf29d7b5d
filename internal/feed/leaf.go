package feed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"connectrpc.com/connect"

	controlv1 "github.com/sealmesh/sealmesh/api/control/v1"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// certifyTimeout bounds one request for a certificate, connection included.
const certifyTimeout = 20 * time.Second

// errNoToken: there is neither a leaf to renew with nor a token to join with.
var errNoToken = errors.New("no valid certificate to renew with and no join token to join with")

// keepLeaf gets the first leaf and renews it, each time it is due, until ctx
// ends. The leaf held serves on while it is valid. Its error says that nothing can
// come of trying again.
func (f *Feed) keepLeaf(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		now, changed := f.current()
		if wait := f.untilRenewal(now); wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-changed: // perhaps it is due by now
			case <-t.C:
			}
			t.Stop()
			continue
		}
		err := f.certify(ctx, now, failures)
		if err == nil {
			failures = 0
			continue
		}
		if f.hopeless(err) {
			return fmt.Errorf("the only join token is refused, and there is no certificate to go on with: %v", err)
		}
		failures++
		wait := backoff(failures, certifyFirst, certifyCap, mathrand.Float64())
		f.logFailure(ctx, now, err, wait)
		pause(ctx, wait)
	}
	return nil
}

// hopeless reports whether an error means that neither leaf nor token will ever do.
func (f *Feed) hopeless(err error) bool {
	r := refusal(err)
	if !f.cfg.OneToken || r == nil {
		return false
	}
	switch r.Code {
	case "token_malformed", "token_unknown", "token_expired", "workload_gone":
		h, _ := f.current()
		return !f.good(h) || h.refused
	}
	return false
}

// good reports whether there is a leaf that our peers would accept.
func (f *Feed) good(h held) bool {
	if h.leaf == nil {
		return false
	}
	_, err := mtls.Verify(h.chain, f.bundles(h), f.cfg.Now())
	return err == nil
}

func (f *Feed) untilRenewal(h held) time.Duration {
	if h.leaf == nil {
		return 0
	}
	return h.renewal.Sub(f.cfg.Now())
}

// certify makes a key, has it signed, verifies what came back, and holds it. The
// key never leaves the process, and is made anew each time. failures is how often
// it was tried in vain.
func (f *Feed) certify(ctx context.Context, h held, failures int) error {
	ctx, cancel := context.WithTimeout(ctx, certifyTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %v", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make a certificate request: %v", err)
	}
	req, err := f.proof(&h, failures)
	if err != nil {
		return err
	}
	req.Csr = csr
	c, err := f.connect(ctx, h)
	if err != nil {
		return err
	}
	defer c.close()
	resp, err := c.identity().Certify(ctx, req)
	if err != nil {
		return fmt.Errorf("certify: %w", err)
	}
	return f.accept(key, resp)
}

// proof begins a request with what shows who we are: the leaf while it is good,
// else a join token. A good leaf may still be refused, by a control plane that has
// retired its anchor: so every second try is made with a token, if there is one.
// The leaf is taken out of h if it is not to be shown.
func (f *Feed) proof(h *held, failures int) (*controlv1.CertifyRequest, error) {
	good := f.good(*h)
	renewal := &controlv1.CertifyRequest{Workload: h.workload}
	if good && failures%2 == 0 {
		return renewal, nil
	}
	token, err := f.cfg.Token()
	switch {
	case err == nil && token != "":
		h.leaf = nil
		return &controlv1.CertifyRequest{JoinToken: token}, nil
	case good:
		return renewal, nil
	case err != nil:
		return nil, fmt.Errorf("read the join token: %v", err)
	}
	return nil, errNoToken
}

// accept holds a leaf once it has passed the check that our peers will make.
// Fails closed: the leaf before it stays.
func (f *Feed) accept(key *ecdsa.PrivateKey, resp *controlv1.CertifyResponse) error {
	chain, err := parseChain(resp.Chain)
	if err != nil {
		return err
	}
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return errors.New("certificate received: it is for another key than ours")
	}
	h, _ := f.current()
	now := f.cfg.Now()
	identity, err := mtls.Verify(chain, f.bundles(h), now)
	if err != nil {
		return fmt.Errorf("certificate received: %v", err)
	}
	leaf := &tls.Certificate{Certificate: resp.Chain, PrivateKey: key, Leaf: chain[0]}
	renewal := renewAt(chain[0].NotBefore, chain[0].NotAfter, mathrand.Float64())
	if least := now.Add(renewPause); renewal.Before(least) {
		renewal = least
	}
	f.update(func(h *held) {
		h.leaf, h.chain, h.workload, h.renewal, h.refused = leaf, chain, resp.Workload, renewal, false
	})
	f.cfg.Log.Info("certificate issued", obs.KeyLocal, identity.String(), obs.KeyWorkload, resp.Workload,
		obs.KeySerial, serial(chain[0]), obs.KeyExpires, chain[0].NotAfter, obs.KeyRenewal, renewal)
	return nil
}

func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	if len(ders) == 0 {
		return nil, errors.New("certificate received: chain is empty")
	}
	chain := make([]*x509.Certificate, 0, len(ders))
	for n, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate received: number %d of the chain: %v", n+1, err)
		}
		chain = append(chain, cert)
	}
	return chain, nil
}

// outdated reports whether the own leaf is to be replaced before its time: it was
// signed by another issuer than the one that signs now, or it does not verify, or
// will not up to its end, with what is learned. With either of that it is renewed
// while it still can be.
func outdated(h held, own id.TrustDomain, learned *snapshot.Snapshot, issuer string, now time.Time) bool {
	if h.leaf == nil {
		return false
	}
	if issuer != "" && (len(h.chain) < 2 || fingerprint(h.chain[1]) != issuer) {
		return true
	}
	bundles := map[id.TrustDomain]*snapshot.Bundle{own: learned.Bundle(own)}
	for _, at := range []time.Time{now, h.chain[0].NotAfter} {
		if _, err := mtls.Verify(h.chain, bundles, at); err != nil {
			return true
		}
	}
	return false
}

// fingerprint is how a snapshot names the issuer: SHA-256 in hex.
func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// serial is a certificate's serial number in hex.
func serial(cert *x509.Certificate) string { return hex.EncodeToString(cert.SerialNumber.Bytes()) }

// logFailure says what came of a try to get a leaf, and what it means.
func (f *Feed) logFailure(ctx context.Context, h held, err error, retry time.Duration) {
	if ctx.Err() != nil {
		return
	}
	attrs := []any{obs.KeyError, err.Error(), obs.KeyRetry, retry}
	if r := refusal(err); r != nil {
		attrs = append(attrs, obs.KeyCode, r.Code)
	}
	switch {
	case h.leaf == nil:
		f.cfg.Log.Warn("not joined yet", attrs...)
	case !f.cfg.Now().Before(h.chain[0].NotAfter):
		f.cfg.Log.Error("certificate has expired and could not be replaced", append(attrs, obs.KeyExpires, h.chain[0].NotAfter)...)
	default:
		f.cfg.Log.Warn("certificate not renewed, the present one serves on", append(attrs, obs.KeyExpires, h.chain[0].NotAfter)...)
	}
}

// refusal is what the control plane said with its error, nil if it said nothing.
func refusal(err error) *controlv1.Refusal {
	var from *connect.Error
	if !errors.As(err, &from) {
		return nil
	}
	for _, d := range from.Details() {
		if msg, err := d.Value(); err == nil {
			if r, ok := msg.(*controlv1.Refusal); ok {
				return r
			}
		}
	}
	return nil
}

// sameBundle reports whether two snapshots hold the same anchors for a domain.
func sameBundle(td id.TrustDomain, a, b *snapshot.Snapshot) bool {
	return a != nil && b != nil && a.Bundle(td).Version() == b.Bundle(td).Version()
}
