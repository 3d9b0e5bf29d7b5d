package demo

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sealmesh/sealmesh/internal/verify"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmesh/sealmesh/internal/platform/dir"
	"github.com/sealmesh/sealmesh/test/lab"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got, -update writes it anew):\n%s", path, diff)
	}
}

// sample is a page with everything on it.
func sample(color bool) string {
	var out bytes.Buffer
	p := &page{out: &out, color: color}
	p.opening(scene{Sender: "10.77.1.11", Receiver: "10.77.2.11", Listens: "nc -lk 2929"})
	p.act(1, "Before", "as it is today")
	p.command("sender", "echo test | nc -N 10.77.2.11 2929")
	p.gap()
	p.claim(claimed(true, "the receiver prints it", "test"))
	p.claim(claim{Mark: exposed, Text: "and so can everyone on the way", Evidence: []string{`746573740a is "test\n", packet 4`, "10.77.1.11:40112 → 10.77.2.11:2929"}})
	p.claim(claimed(false, "a claim that did not hold", "because of a reason that takes more than the width of one line to tell"))
	p.claim(claimed(true, "a claim without evidence"))
	p.event("thief", "takes the address 10.77.2.11")
	v := verdict{Held: 14, Claimed: 14, Took: 4200 * time.Millisecond, Before: "/tmp/d/before.pcap", After: "/tmp/d/after.pcap", Next: []string{"tshark -r /tmp/d/after.pcap", "sealmesh demo --keep"}}
	p.verdict(v)
	v.Held--
	p.verdict(v)
	p.invitation([][2]string{{"send something", "ip netns exec sm1-sender sh"}, {"who is who", "sealmesh identity"}})
	p.received("hello")
	return out.String()
}

func TestThePageIsRenderedAsBefore(t *testing.T) {
	golden(t, "page.txt", sample(false))
	golden(t, "page-color.txt", sample(true))
}

var escape = regexp.MustCompile("\x1b\\[[0-9;]+m")

func TestWithoutColorThereIsNoEscape(t *testing.T) {
	plain, color := sample(false), sample(true)
	if strings.Contains(plain, "\x1b") {
		t.Error("the plain page holds escapes")
	}
	if color = escape.ReplaceAllString(color, ""); strings.Contains(color, "\x1b") {
		t.Error("there are escapes other than styles")
	}
	if color != plain {
		t.Error("the coloured page says something else than the plain one")
	}
}

func TestLinesFitATerminal(t *testing.T) {
	for line := range strings.Lines(sample(false)) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestWithoutPacketsNothingHolds: a capture that saw nothing proves nothing.
func TestWithoutPacketsNothingHolds(t *testing.T) {
	for _, c := range wireClaims(wire{report: &verify.Report{}}) {
		if c.Mark != failed {
			t.Errorf("%q holds", c.Text)
		}
	}
}

func TestTheObjectsAreAsBeforeAndValid(t *testing.T) {
	node := &lab.Node{Number: 1, Host: &lab.Host{Name: "sm1-n1", Addr4: netip.MustParseAddr("10.77.0.11"), Addr6: netip.MustParseAddr("fd77::11")}}
	sender := &lab.Workload{Name: "sender", Node: node, Host: &lab.Host{Name: "sm1-sender", Addr4: netip.MustParseAddr("10.77.1.11")}}
	got, err := objects([]*lab.Node{node}, []*lab.Workload{sender})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "objects.yaml", string(got))
	if _, err := dir.Parse(map[string][]byte{objectsFile: got}); err != nil {
		t.Error(err)
	}
}

func TestAJournalWaitsForALine(t *testing.T) {
	j := newJournal()
	for _, part := range []string{"one\ntw", "o\nthr"} {
		if _, err := j.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := j.wait(t.Context(), 1, anyLine); line != "two" || err != nil {
		t.Errorf("line %q, %v", line, err)
	}
	found := make(chan string)
	go func() {
		line, _ := j.wait(t.Context(), 2, begins("th"))
		found <- line
	}()
	if _, err := j.Write([]byte("ee\n")); err != nil {
		t.Fatal(err)
	}
	if line := <-found; line != "three" {
		t.Errorf("line %q", line)
	}
	late := errors.New("too late")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(late)
	if _, err := j.wait(ctx, 0, is("four")); !errors.Is(err, late) || !strings.Contains(err.Error(), "three") {
		t.Errorf("error %v, must say why, and the last line", err)
	}
}
