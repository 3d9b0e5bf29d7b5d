package cli

import (
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/verify"
)

// A command in a report is typed again as it stands.
func TestShellLinesAreReadBackByAShell(t *testing.T) {
	for in, want := range map[string]string{"lab.pcap": "lab.pcap", "it is": "'it is'", "it's": `'it'\''s'`, "": "''", "$(id)": "'$(id)'", "~/x": "'~/x'"} {
		if got := shellLine([]string{in}); got != want {
			t.Errorf("shellLine(%q) = %s, want %s", in, got, want)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[ -~äß\n\t]{0,12}`), 1, 4).Draw(rt, "words")
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `printf '%s\0' `+shellLine(words)).Output()
		if err != nil || string(out) != strings.Join(words, "\x00")+"\x00" {
			rt.Fatalf("%q is read back as %q: %v", words, out, err)
		}
	})
}

func TestWireGuardKeysAreNamed(t *testing.T) {
	const key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
	keys, err := parseKeys([]string{"node-a=" + key, "node b=" + strings.Repeat("A", 43) + "="})
	if err != nil || len(keys) != 2 || keys["node-a"][0] != 1 || keys["node-a"][31] != 32 {
		t.Errorf("keys %v: %v", keys, err)
	}
	for _, wrong := range []string{"", "node-a", "=" + key, "node-a=", "node-a=" + key[:40], "node-a=!" + key[1:]} {
		if _, err := parseKeys([]string{wrong}); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestTheExampleOfExpectationsIsOne(t *testing.T) {
	e, err := verify.ParseExpectations([]byte(expectExample))
	if err != nil || len(e.Expect) != 2 || len(e.Exempt) != 1 {
		t.Errorf("%+v: %v", e, err)
	}
}
