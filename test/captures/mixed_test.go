package main

import (
	"encoding/base64"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// Damage comes in company, and in other places than the fixed seed puts it.
func TestNoMixOfDamageMakesAVerdictFalse(t *testing.T) {
	all := goldens(t)
	named := map[string]golden{}
	for _, g := range all {
		named[g.name] = g
	}
	var damages, wrapping []string
	makes := map[string]variant{}
	for _, v := range variants {
		makes[v.name] = v
		switch v.kind {
		case lossless:
			wrapping = append(wrapping, v.name)
		case losing:
			damages = append(damages, v.name)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		g := named[rapid.SampledFrom(slices.Sorted(maps.Keys(named))).Draw(t, "golden")]
		seeded := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		frames, did := g.frames, append(rapid.SliceOfN(rapid.SampledFrom(damages), 0, 2).Draw(t, "damages"),
			rapid.SliceOfN(rapid.SampledFrom(wrapping), 0, 1).Draw(t, "wrapping")...)
		for _, name := range did {
			frames = makes[name].make(frames, seeded)
		}
		for _, j := range judgeScene(g.scene, frames, theJudge) {
			if wrong := j.wrong(false); wrong != "" {
				t.Fatalf("%s, %s: %s: %s is in truth %s: %s", g.name, strings.Join(did, ", "), wrong, j.found.Verdict, j.label.truth, excerpt(j.found))
			}
		}
	})
}

// A handshake is addressed to a key: whoever knows the public keys of the nodes
// sees between which of them it was.
func TestWireGuardIsNamedByItsPublicKeys(t *testing.T) {
	for _, name := range []string{"wireguard", "wireguard-ping"} {
		keys := map[string][32]byte{}
		for side, file := range map[string]string{"server": ".s.pub", "client": ".c.pub"} {
			text, err := os.ReadFile("testdata/" + name + file)
			if err != nil {
				t.Fatal(err)
			}
			key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
			if err != nil || len(key) != 32 {
				t.Fatalf("%s%s: %d bytes: %v", name, file, len(key), err)
			}
			keys[side] = [32]byte(key)
		}
		frames, err := load("testdata/" + name + ".pcap")
		if err != nil {
			t.Fatal(err)
		}
		by := func(f *capture.Flow) verify.Finding { return verify.Judge(f, verify.Knowledge{WireGuardKeys: keys}) }
		flowsOf(frames, by, func(_ *capture.Flow, found verify.Finding) {
			if w := found.WireGuard; w == nil || w.Client != "client" || w.Server != "server" || w.Handshake != "seen" {
				t.Errorf("%s: found %s %+v, want both ends named", name, found.Verdict, w)
			}
		})
	}
}
