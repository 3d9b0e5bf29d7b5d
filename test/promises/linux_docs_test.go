package promises

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/test/lab"
)

// blocks finds the blocks of a language in a page.
func blocks(tb testing.TB, page, language string) []string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs", page))
	must(tb, err)
	var out []string
	for _, found := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllSubmatch(text, -1) {
		out = append(out, string(found[1]))
	}
	if len(out) == 0 {
		tb.Fatalf("%s has no block of %s", page, language)
	}
	return out
}

// The objects that docs/linux.md shows are a mesh directory, with one of each kind.
func TestDocumentedObjectsAreValid(t *testing.T) {
	files := map[string][]byte{}
	for i, b := range blocks(t, "linux.md", "yaml") {
		files[fmt.Sprintf("block-%d.yaml", i+1)] = []byte(b)
	}
	state, err := dir.Parse(files)
	must(t, err)
	if len(state.Bundles) == 0 || len(state.Nodes) == 0 || len(state.Workloads) == 0 || len(state.Services) == 0 {
		t.Errorf("a kind is missing: %d bundles, %d nodes, %d workloads, %d services",
			len(state.Bundles), len(state.Nodes), len(state.Workloads), len(state.Services))
	}
}

// The rules that docs/linux.md has for another machine seal a workload there, and
// drop what it says while its proxy is away.
func TestDocumentedRulesSealAnotherMachine(t *testing.T) {
	needs(t, "nft", "ip")
	m := newMesh(t)
	guest := m.add(t, 1, "guest", stranger)
	address := freeAddress(t)
	m.start(t, "--listen", address)
	m.expectAt(t, guest)
	control := m.reachable(t, address)
	serve(t, m.Receiver, appPort, echo)

	file := filepath.Join(t.TempDir(), "sealmesh.nft")
	must(t, os.WriteFile(file, []byte(blocks(t, "linux.md", "nft")[0]), 0o600))
	runIn(t, guest, "nft", "-f", file)
	for _, family := range []string{"-4", "-6"} {
		runIn(t, guest, "ip", family, "rule", "add", "fwmark", "0x5ea3/0xffff", "lookup", "24225", "priority", "24225")
		runIn(t, guest, "ip", family, "route", "add", "local", "default", "dev", "lo", "table", "24225")
	}
	uplink := m.record(t, 1, "tcp port 2929")
	caller := guest.Command(t.Context(), "nc", "-n", "-z", "-w", "1", m.Receiver.Addr4.String(), "2929")
	if err := caller.Run(); err == nil {
		t.Error("without a proxy a connection came about")
	}
	if n := uplink.stop(t).packets; n > 0 {
		t.Errorf("without a proxy %d packets left", n)
	}

	_, said := m.startProxy(t, guest, control, m.joinToken(t, "guest"))
	said.await(t, 0, "ready", func(line string) bool { return has("msg", "ready")(parse(line)) })
	uplink = m.record(t, 1, "tcp port 2929")
	must(t, tryEcho(t, guest, m.Receiver, appPort))
	uplink.stop(t).wantSealed(t, m.Receiver, appPort, "exchange")
	serve(t, guest, appPort, echo)
	eventually(t, "an answer of the guest", func() bool { return tryEcho(t, m.Receiver, guest, appPort) == nil })
}

// What stays behind is what docs/linux.md says, and `sealmesh down` removes it.
func TestWhatIsLeftBehind(t *testing.T) {
	needs(t, "nft")
	m := newMesh(t)
	tables := func() string { return runIn(t, m.Sender, "nft", "list", "tables") }
	for _, c := range []struct {
		name string
		args []string
		end  func(testing.TB)
		stay bool
	}{
		{"stopped", nil, m.stop, false},
		{"stopped with --keep-rules", []string{"--keep-rules"}, m.stop, true},
		{"killed", nil, m.kill, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m.start(t, c.args...)
			if _, err := m.sealmesh(t.Context(), "status"); err != nil {
				t.Errorf("status while it runs: %v", err)
			}
			c.end(t)
			if out, err := m.sealmesh(t.Context(), "status"); err == nil {
				t.Errorf("status of a mesh that does not run:\n%s", out)
			}
			if stays := tables() != ""; stays != c.stay {
				t.Errorf("rules stay: %v, must be %v", stays, c.stay)
			}
			_, err := m.sealmesh(t.Context(), "down")
			must(t, err)
			if left := tables(); left != "" {
				t.Errorf("after down there is %s", left)
			}
		})
	}
}

// runIn runs a program in a workload and returns what it prints.
func runIn(tb testing.TB, w *lab.Workload, name string, args ...string) string {
	tb.Helper()
	out, err := w.Command(tb.Context(), name, args...).Output()
	must(tb, err)
	return strings.TrimSpace(string(out))
}
