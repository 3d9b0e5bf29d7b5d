package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// What both proxies said of a lane while it was captured makes its seal mutual;
// without a word of theirs, it is no more than what is seen.
func TestLanesAreMutualWhereBothProxiesAttestThem(t *testing.T) {
	for _, s := range laneScenes {
		t.Run(s.name, func(t *testing.T) {
			frames, err := load("testdata/" + s.name + ".pcap")
			if err != nil {
				t.Fatal(err)
			}
			var lanes []verify.Lane
			for _, side := range []string{"client", "server"} {
				answer, err := os.ReadFile(filepath.Join("testdata", s.name+"."+side+".json"))
				if err != nil {
					t.Fatal(err)
				}
				said, err := verify.ParseLanes(answer)
				if err != nil {
					t.Fatal(err)
				}
				lanes = append(lanes, said...)
			}
			for want, said := range map[string][]verify.Lane{"tls": nil, "mtls": lanes} {
				session := verify.NewSession(verify.Config{})
				session.Attest(said)
				flowsOf(frames, theJudge, func(f *capture.Flow, _ verify.Finding) { session.Add(f) })
				flows := 0
				for found := range session.Report(verify.Seen{}).Flows() {
					flows++
					if found.Seal != want {
						t.Errorf("%s → %s: seal %q with %d lanes attested, want %q", found.Src, found.Dst, found.Seal, len(said), want)
					}
					if want == "mtls" && (found.Attested == nil || found.Attested.Client != "spiffe://demo.local/ns/shop/sa/client" ||
						found.Attested.Server != "spiffe://demo.local/ns/shop/sa/server" || found.Attested.By != "both") {
						t.Errorf("attested as %+v", found.Attested)
					}
				}
				if flows != 1 {
					t.Errorf("%d flows, want 1", flows)
				}
			}
		})
	}
}
