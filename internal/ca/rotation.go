package ca

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

// Step is what is done next when one trust anchor replaces another:
//
//	          bundle        issuer under   the step waits until
//	          old           old
//	prepare   old and new   old            the new anchor is fit
//	activate  old and new   new            every proxy trusts both
//	retire    new           new            no leaf under the old one is left
//
// At no moment does a proxy meet a leaf whose anchor it does not hold.
type Step string

// The steps, in their order.
const (
	// StepPrepare adds the new anchor to the trust bundle.
	StepPrepare Step = "prepare"
	// StepActivate puts an issuer under the new anchor in force.
	StepActivate Step = "activate"
	// StepRetire takes the old anchor out of the trust bundle.
	StepRetire Step = "retire"
	// StepDone: nothing is left to do.
	StepDone Step = "done"
)

// ObserveFor is how long proxies are watched before they are believed to be
// all: time for each to find its way back to the control plane after a change or
// a restart.
const ObserveFor = time.Minute

// Rotation is what is known at one moment about the replacement of a trust
// anchor. All of it is observed; nothing is remembered between two steps.
type Rotation struct {
	// Old and New are the two anchors. New is nil until it has been made.
	Old, New *x509.Certificate
	// Bundle is the trust bundle in force.
	Bundle *snapshot.Bundle
	// Issuer is the issuer's chain in force, as in platform.Issuer.
	Issuer []*x509.Certificate
	// Prepared is when New came into the bundle, Activated when an issuer under
	// it came into force; zero before.
	Prepared, Activated time.Time
	// LeafLifetime is the longest any leaf has been issued for since Old.
	LeafLifetime time.Duration
	// Proxies are all that may hold a valid leaf, complete since Observed: the
	// start of the control plane.
	Proxies  []Proxy
	Observed time.Time
}

// Proxy is what one proxy was last seen to run on.
type Proxy struct {
	// Name is for people: workload and instance.
	Name string
	// Connected: it reports now. One that does not is waited for until its leaf
	// has ended.
	Connected bool
	// BundleVersion of the mesh's own trust domain.
	BundleVersion string
	// LeafIssuer is the serial number, in hex, of the certificate that signed its
	// leaf, LeafNotAfter when that ends.
	LeafIssuer   string
	LeafNotAfter time.Time
}

// Next is the step to take and what it still waits for.
type Next struct {
	Step Step
	// NotBefore is the earliest moment for it as far as time alone decides; zero
	// if any will do.
	NotBefore time.Time
	// Waits says, for a person, what has to happen first. The step may be taken
	// when it is empty.
	Waits []string
}

// May reports whether the step may be taken now.
func (n Next) May() bool { return n.Step != StepDone && len(n.Waits) == 0 }

// Next says which step comes next. It is pure: asked again with the same
// rotation, it never takes back at a later time what it allowed.
func (r Rotation) Next(now time.Time) Next {
	switch {
	case r.New == nil || !slices.ContainsFunc(r.Bundle.Anchors(), r.New.Equal):
		return Next{Step: StepPrepare, Waits: r.unfit(now)}
	case !signedUnder(r.Issuer, r.New):
		return r.await(StepActivate, now, latest(r.Prepared, r.Observed).Add(ObserveFor), func(p Proxy) string {
			if p.BundleVersion != r.Bundle.Version() {
				return fmt.Sprintf("runs on trust bundle %s, not yet on %s", p.BundleVersion, r.Bundle.Version())
			}
			return ""
		})
	case r.Old != nil && slices.ContainsFunc(r.Bundle.Anchors(), r.Old.Equal):
		issuer := SerialHex(r.Issuer[0])
		return r.await(StepRetire, now, latest(r.RetireNotBefore(), r.Observed.Add(ObserveFor)), func(p Proxy) string {
			if p.LeafIssuer != issuer {
				return fmt.Sprintf("has a leaf signed by %s, not yet by %s", p.LeafIssuer, issuer)
			}
			return ""
		})
	}
	return Next{Step: StepDone}
}

// RetireNotBefore is when the last leaf that could have been signed under the
// old anchor has ended, even one of a proxy nobody knows of.
func (r Rotation) RetireNotBefore() time.Time {
	return r.Activated.Add(r.LeafLifetime + mtls.Skew)
}

// RotationDue says when an anchor ought to be replaced: prepared at half of its
// life, and activated while a sixth of it is left.
func RotationDue(anchor *x509.Certificate) (prepare, activate time.Time) {
	life := anchor.NotAfter.Sub(anchor.NotBefore)
	return anchor.NotBefore.Add(life / 2), anchor.NotAfter.Add(-life / 6)
}

// SerialHex is a certificate's serial number as reports carry it: hex, without
// separators, an even number of digits.
func SerialHex(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

// unfit says why New cannot become an anchor.
func (r Rotation) unfit(now time.Time) (why []string) {
	switch {
	case r.New == nil:
		return []string{"there is no new anchor yet"}
	case !r.New.BasicConstraintsValid || !r.New.IsCA:
		why = append(why, fmt.Sprintf("%s is not a CA certificate", r.New.Subject))
	case now.Before(r.New.NotBefore):
		why = append(why, fmt.Sprintf("%s is not valid before %s", r.New.Subject, stamp(r.New.NotBefore)))
	case !now.Before(r.New.NotAfter):
		why = append(why, fmt.Sprintf("%s expired at %s", r.New.Subject, stamp(r.New.NotAfter)))
	}
	return why
}

// await waits for a moment, and for every proxy until it lags no more; one that
// is cut off, only until its leaf has ended, since it must join anew after that.
func (r Rotation) await(step Step, now, notBefore time.Time, lag func(Proxy) string) Next {
	next := Next{Step: step, NotBefore: notBefore}
	if now.Before(notBefore) {
		next.Waits = append(next.Waits, fmt.Sprintf("not before %s", stamp(notBefore)))
	}
	for _, p := range r.Proxies {
		if !p.Connected && now.After(p.LeafNotAfter.Add(mtls.Skew)) {
			continue
		}
		if why := lag(p); why != "" {
			if !p.Connected {
				why += fmt.Sprintf(" and is not connected; waited for until its leaf ends at %s", stamp(p.LeafNotAfter))
			}
			next.Waits = append(next.Waits, p.Name+" "+why)
		}
	}
	return next
}

// signedUnder reports whether an issuer's chain ends at an anchor, by signature
// alone: validity is judged elsewhere.
func signedUnder(chain []*x509.Certificate, anchor *x509.Certificate) bool {
	if len(chain) == 0 {
		return false
	}
	top := chain[len(chain)-1]
	return top.Equal(anchor) || top.CheckSignatureFrom(anchor) == nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
