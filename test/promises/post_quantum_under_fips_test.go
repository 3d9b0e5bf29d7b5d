package promises

import "testing"

// Key exchange is post-quantum where only approved algorithms may be used, too:
// with fips140=only Go refuses every other.
//
//	sender: nc ── lane, X25519MLKEM768 ──▶ receiver: nc -l
//
// Broken twin: the same handshake by X25519 alone is not taken for sealed.
func TestPostQuantumUnderFIPS(t *testing.T) {
	needs(t, "nc")
	t.Setenv("GODEBUG", "fips140=only") // sealmesh up passes it on to its proxies
	m := startMesh(t)
	for _, seen := range m.netcat(t, m.Receiver.Addr4, "an approved secret") {
		seen.wantSealed(t, m.Receiver, appPort, "an approved secret")
		for _, h := range seen.handshakes(t, appPort) {
			h.group = "0x001d"
			if h.sealed(m.Receiver) == nil {
				t.Error("a handshake by X25519 is taken for sealed")
			}
		}
	}
}
