package promises

import "testing"

// A workload that is given another service account has the identity that comes with
// it, without anybody's help, and the former one is nobody's any more.
//
//	sender as sa/sender ══▶ receiver
//	sender as sa/other  ══▶ receiver     after an edit of its object
func TestNewIdentityTakesEffect(t *testing.T) {
	m := startMesh(t)
	serve(t, m.Receiver, appPort, echo)
	before := converse(t, m.Sender, m.Receiver)

	told := m.stdout.count()
	m.objects.workload(m.Sender).Spec.ServiceAccount = "other"
	m.write(t)
	before.isCut(t, patience)
	m.awaitSealed(t, namespace+"/"+m.Sender.Name, told)
	after := converse(t, m.Sender, m.Receiver)
	if c := connections(t, m.Receiver).Connections; len(c) != 1 || c[0].Peer != "spiffe://"+trustDomain+"/ns/"+namespace+"/sa/other" {
		t.Errorf("the receiver is connected to %+v", c)
	}
	after.goesOn(t, "as someone else")
}
