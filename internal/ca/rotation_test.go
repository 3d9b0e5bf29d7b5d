package ca_test

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/mtls"
	"github.com/sealmesh/sealmesh/internal/snapshot"
)

const leafLifetime = 24 * time.Hour

// generations is one trust domain with two anchors and an issuer under each.
type generations struct {
	old, new       authority
	both, only     *snapshot.Bundle // old and new; new alone
	oldSer, newSer string
}

func newGenerations(t testing.TB) generations {
	g := generations{old: newAuthority(t, "demo.local", now), new: newAuthority(t, "demo.local", now)}
	g.both = must(snapshot.NewBundle(g.old.td, []*x509.Certificate{g.old.anchor.Cert, g.new.anchor.Cert}))(t)
	g.only = g.new.bundle
	g.oldSer, g.newSer = ca.SerialHex(g.old.issuer.Chain[0]), ca.SerialHex(g.new.issuer.Chain[0])
	return g
}

func TestRotationStepsWaitForWhatWasObserved(t *testing.T) {
	g := newGenerations(t)
	began := now
	proxy := func(bundle *snapshot.Bundle, issuer string, connected bool) []ca.Proxy {
		return []ca.Proxy{{Name: "shop/web", Connected: connected, BundleVersion: bundle.Version(), LeafIssuer: issuer, LeafNotAfter: began.Add(leafLifetime)}}
	}
	base := ca.Rotation{
		Old: g.old.anchor.Cert, New: g.new.anchor.Cert, Bundle: g.old.bundle, Issuer: g.old.issuer.Chain,
		LeafLifetime: leafLifetime, Observed: began.Add(-time.Hour),
	}
	prepared := func(r *ca.Rotation) { r.Bundle, r.Prepared = g.both, began }
	activated := func(r *ca.Rotation) { prepared(r); r.Issuer, r.Activated = g.new.issuer.Chain, began }
	tests := []struct {
		name  string
		edit  func(*ca.Rotation)
		after time.Duration
		step  ca.Step
		waits string // "" may be taken
	}{
		{"no new anchor", func(r *ca.Rotation) { r.New = nil }, 0, ca.StepPrepare, "no new anchor"},
		{"new anchor made", func(*ca.Rotation) {}, 0, ca.StepPrepare, ""},
		{"new anchor is a leaf", func(r *ca.Rotation) { r.New = leafOf(t, g.new) }, 0, ca.StepPrepare, "not a CA"},
		{"new anchor not valid yet", func(*ca.Rotation) {}, -time.Hour, ca.StepPrepare, "not valid before"},
		{"new anchor over", func(*ca.Rotation) {}, ca.AnchorLifetime, ca.StepPrepare, "expired"},
		{"just prepared", prepared, 0, ca.StepActivate, "not before"},
		{"control plane just began", func(r *ca.Rotation) { prepared(r); r.Observed = began.Add(time.Hour) }, time.Hour, ca.StepActivate, "not before"},
		{"all proxies trust both", func(r *ca.Rotation) { prepared(r); r.Proxies = proxy(g.both, g.oldSer, true) }, time.Minute, ca.StepActivate, ""},
		{"one proxy trusts the old only", func(r *ca.Rotation) { prepared(r); r.Proxies = proxy(g.old.bundle, g.oldSer, true) }, time.Minute, ca.StepActivate, "shop/web runs on trust bundle"},
		{"one proxy is cut off", func(r *ca.Rotation) { prepared(r); r.Proxies = proxy(g.old.bundle, g.oldSer, false) }, time.Minute, ca.StepActivate, "not connected"},
		{"its leaf has ended", func(r *ca.Rotation) { prepared(r); r.Proxies = proxy(g.old.bundle, g.oldSer, false) }, leafLifetime + time.Minute, ca.StepActivate, ""},
		{"just activated", activated, 0, ca.StepRetire, "not before"},
		{"old leaf left", func(r *ca.Rotation) {
			activated(r)
			r.Proxies = proxy(g.both, g.oldSer, true)
			r.Proxies[0].LeafNotAfter = began.Add(3 * leafLifetime)
		}, 2 * leafLifetime, ca.StepRetire, "leaf signed by"},
		{"every leaf is new", func(r *ca.Rotation) { activated(r); r.Proxies = proxy(g.both, g.newSer, true) }, leafLifetime + mtls.Skew, ca.StepRetire, ""},
		{"retired", func(r *ca.Rotation) { activated(r); r.Bundle = g.only }, 0, ca.StepDone, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := base
			test.edit(&r)
			next := r.Next(began.Add(test.after))
			if next.Step != test.step {
				t.Fatalf("step %s, want %s", next.Step, test.step)
			}
			if waits := strings.Join(next.Waits, "\n"); (test.waits == "") != (waits == "") || !strings.Contains(waits, test.waits) {
				t.Errorf("waits for %q, want %q", waits, test.waits)
			}
			if may := test.waits == "" && test.step != ca.StepDone; next.May() != may {
				t.Errorf("may %v, want %v", next.May(), may)
			}
		})
	}
}

func leafOf(t *testing.T, a authority) *x509.Certificate {
	return must(ca.Issue(request(t, a, now), a.issuer, a.bundle))(t).Leaf
}

func TestRotationIsDueByTimeAlone(t *testing.T) {
	anchor := newAuthority(t, "demo.local", now).anchor.Cert
	prepare, activate := ca.RotationDue(anchor)
	if !prepare.Before(activate) || !activate.Before(anchor.NotAfter) {
		t.Errorf("prepare %s, activate %s, end %s: not in order", prepare, activate, anchor.NotAfter)
	}
	if renew := ca.IssuerRenewAt(newAuthority(t, "demo.local", now).issuer.Chain[0]); renew.Sub(now) < ca.IssuerLifetime/2 || renew.Sub(now) > ca.IssuerLifetime*3/4 {
		t.Errorf("issuer is renewed %s after it was made, want about two thirds of %s", renew.Sub(now), ca.IssuerLifetime)
	}
}

// TestRotationNeverLeavesALeafThatAPeerCannotVerify lets proxies come, go, lag
// behind and be cut off at random, takes each step the moment Next allows it, and
// checks that any two proxies could shake hands all the way.
func TestRotationNeverLeavesALeafThatAPeerCannotVerify(t *testing.T) {
	g := newGenerations(t)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }
		if err := simulate(draw, g, ca.Next.May); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRotationSimulationCatchesImpatience is the broken twin: with steps taken
// whatever they wait for, the same simulation finds two proxies at odds.
func TestRotationSimulationCatchesImpatience(t *testing.T) {
	g := newGenerations(t)
	impatient := func(n ca.Next) bool { return n.Step != ca.StepDone }
	for seed := range uint64(100) {
		if simulate(rand.New(rand.NewPCG(seed, 0)).IntN, g, impatient) != nil {
			return
		}
	}
	t.Error("steps taken without waiting did no harm: the simulation proves nothing")
}

// simulated is a proxy in the simulation: what it trusts and shows.
type simulated struct {
	connected bool
	bundle    *snapshot.Bundle
	anchor    *x509.Certificate // above its leaf
	issuer    string
	notAfter  time.Time
}

// simulate runs a rotation among three proxies with random events, and returns
// an error when two of them could not verify each other.
func simulate(draw func(n int) int, g generations, may func(ca.Next) bool) error {
	at := now
	r := ca.Rotation{
		Old: g.old.anchor.Cert, New: g.new.anchor.Cert, Bundle: g.old.bundle, Issuer: g.old.issuer.Chain,
		LeafLifetime: leafLifetime, Observed: at,
	}
	renew := func(p *simulated) {
		p.anchor, p.issuer, p.notAfter = g.old.anchor.Cert, g.oldSer, at.Add(leafLifetime)
		if r.Issuer[0].Equal(g.new.issuer.Chain[0]) {
			p.anchor, p.issuer = g.new.anchor.Cert, g.newSer
		}
	}
	proxies := make([]simulated, 3)
	for i := range proxies {
		proxies[i] = simulated{connected: true, bundle: r.Bundle}
		renew(&proxies[i])
	}
	for range 60 {
		p := &proxies[draw(len(proxies))]
		switch event := draw(6); {
		case event == 0:
			p.connected = !p.connected
		case event == 1 && p.connected:
			p.bundle = r.Bundle
		case event == 2 && p.connected:
			renew(p)
		case event >= 3:
			at = at.Add(time.Duration(draw(8*60)) * time.Minute)
		}
		if p.connected && at.After(p.notAfter) { // it joins anew
			p.bundle = r.Bundle
			renew(p)
		}
		r.Proxies = nil
		for i, p := range proxies {
			r.Proxies = append(r.Proxies, ca.Proxy{
				Name: fmt.Sprint(i), Connected: p.connected, BundleVersion: p.bundle.Version(), LeafIssuer: p.issuer, LeafNotAfter: p.notAfter,
			})
		}
		if next := r.Next(at); may(next) {
			step(&r, g, next.Step, at)
		}
		if err := agree(proxies, at); err != nil {
			return err
		}
	}
	return nil
}

// step does what the control plane would.
func step(r *ca.Rotation, g generations, s ca.Step, at time.Time) {
	switch s {
	case ca.StepPrepare:
		r.Bundle, r.Prepared = g.both, at
	case ca.StepActivate:
		r.Issuer, r.Activated = g.new.issuer.Chain, at
	case ca.StepRetire:
		r.Bundle = g.only
	}
}

// agree says which proxy shows a valid leaf that another could not verify.
func agree(proxies []simulated, at time.Time) error {
	for i, from := range proxies {
		for j, to := range proxies {
			valid := !at.After(from.notAfter) && !at.After(to.notAfter) // both can still shake hands
			if valid && !slices.ContainsFunc(to.bundle.Anchors(), from.anchor.Equal) {
				return fmt.Errorf("proxy %d cannot verify the leaf of proxy %d, signed under %s", j, i, from.anchor.Subject)
			}
		}
	}
	return nil
}
