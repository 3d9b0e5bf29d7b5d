package promises

import (
	"testing"
	"time"
)

// Certificates of a minute are renewed at half to seventy percent of their life,
// each by its own clock, and nothing notices: neither a connection that lasts nor
// those that are made meanwhile.
//
//	issued −20 s ──────── 50 % ══ renewed ══ 70 % ──────── +60 s
//
// Broken twin: a lane of a peer that does not renew is ended with its certificate.
func TestCertificatesAreRenewedWhileTheyServe(t *testing.T) {
	t.Parallel() // most of it is waiting
	m := newMesh(t)
	idler := m.add(t, 1, "idler", stranger)
	m.objects.mesh.Spec.LeafLifetime = "1m"
	m.write(t)
	m.start(t)
	serve(t, m.Receiver, appPort, echo)
	m.expectAt(t, idler)
	first := map[string]validity{}
	for _, v := range m.validities(t) {
		first[v.Workload] = v
	}
	long := converse(t, m.Sender, m.Receiver)
	l := startPaced(t, m.Sender, at(m.Receiver, appPort), 1, 50*time.Millisecond)

	d := m.domain(t)
	leaf := d.Leaf(identityOf(d, idler), endsIn(20*time.Second))
	twin, err := dialPeer(t, idler, at(m.Receiver, appPort), careless(leaf))
	must(t, err)
	must(t, twin.open(at(m.Receiver, appPort)))

	for workload, before := range first {
		renewed := m.waitLog(t, 0, "renewal of "+workload, has("msg", "certificate issued", "workload", workload, "proof", "certificate"))
		at, err := time.Parse(time.RFC3339Nano, renewed.text("time"))
		must(t, err)
		life := before.NotAfter.Sub(before.NotBefore)
		// NotBefore is in whole seconds.
		if part := float64(at.Sub(before.NotBefore)) / float64(life); part < 0.5 || part > 0.7+float64(2*time.Second)/float64(life) {
			t.Errorf("%s renewed after %.0f %% of %s", workload, 100*part, life)
		}
		if renewed.text("serial") == before.Serial {
			t.Errorf("%s got the same certificate again", workload)
		}
	}
	long.goesOn(t, "after the renewals")
	l.more(t, 20)
	newest := connections(t, m.Receiver).Lanes
	seen := map[string]bool{}
	for _, lane := range newest {
		seen[lane.PeerSerial] = true
	}
	if !seen[m.serialOf(t, "sender")] {
		t.Error("no lane shows the sender's new certificate")
	}
	l.wantNoneFailed(t, 100)

	must(t, twin.SetReadDeadline(time.Now().Add(patience)))
	for err == nil { // until then it may be asked to open no further stream
		_, _, _, err = twin.read()
	}
	if isTimeout(err) {
		t.Error("the lane of an expired certificate is open")
	}
	if now := time.Now(); now.Before(leaf.Leaf.NotAfter) {
		t.Errorf("it was ended at %s, its certificate ends at %s", now, leaf.Leaf.NotAfter)
	}
	m.waitLog(t, 0, "why", has("msg", "connection", "direction", "inbound", "peer", identityOf(d, idler).String(), "reason", "untrusted_certificate"))
}
