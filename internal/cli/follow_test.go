package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// What follow prints, in goldens: clear text, hexadecimal, a name that resolves,
// frames of bytes that are no text, and TLS with and without its keys.
func TestFollow(t *testing.T) {
	const tls13 = "testdata/follow/tls13.pcap"
	captures := func(name string) string { return filepath.Join("../../test/captures/testdata", name) }
	for name, args := range map[string][]string{
		"http":      {"1", "--read", captures("http.pcap")},
		"dns-hex":   {"1", "--read", captures("dns-udp.pcap"), "--as", "hex"},
		"amqp":      {"1", "--read", captures("amqp.pcap")},
		"starttls":  {"1", "--read", captures("smtp-starttls.pcap")},
		"limited":   {"1", "--read", captures("http-base64-upload.pcap"), "--limit", "100"},
		"encrypted": {"1", "--read", tls13},
		"decrypted": {"10.0.0.2:443-10.0.0.1:40000", "--read", tls13, "--keys", "testdata/follow/tls13.keys"},
		"in-hex":    {"10.0.0.1:40000>10.0.0.2:443", "--read", tls13, "--keys", "testdata/follow/tls13.keys", "--as", "hex"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, complaints bytes.Buffer
			if code := Run(context.Background(), "test", append([]string{"follow"}, args...), &out, &complaints); code != 0 {
				t.Fatalf("ends with %d: %s", code, complaints.String())
			}
			golden(t, "follow/"+name+".golden", out.Bytes())
		})
	}
}

// A number means the same flow to verify and to follow.
func TestNumbersAreThoseOfVerify(t *testing.T) {
	files, err := filepath.Glob("../../test/captures/testdata/*.pcap")
	check(t, err)
	several := 0
	for _, file := range files {
		var out, complaints bytes.Buffer
		if code := Run(t.Context(), "test", []string{"verify", "--read", file, "-o", "json"}, &out, &complaints); code == 2 {
			t.Fatalf("%s: %s", file, complaints.String())
		}
		var judged struct {
			Flows []struct {
				Number          int
				Src, Dst, Proto string
			}
		}
		check(t, json.Unmarshal(out.Bytes(), &judged))
		if len(judged.Flows) < 2 {
			continue
		}
		several++
		for _, f := range judged.Flows {
			out.Reset()
			if code := Run(t.Context(), "test", []string{"follow", strconv.Itoa(f.Number), "--read", file}, &out, &complaints); code != 0 {
				t.Fatalf("%s, flow %d: %s", file, f.Number, complaints.String())
			}
			if first, _, _ := strings.Cut(out.String(), "\n"); first != fmt.Sprintf("flow %d  %s → %s  %s", f.Number, f.Src, f.Dst, f.Proto) {
				t.Errorf("%s: %q, want flow %d from %s to %s", file, first, f.Number, f.Src, f.Dst)
			}
		}
	}
	if several == 0 {
		t.Error("no capture has several flows")
	}
}

// Standard input is read as a file is, and its flows bear the same numbers.
func TestFollowReadsStandardInput(t *testing.T) {
	file, err := os.Open("testdata/follow/tls13.pcap")
	check(t, err)
	defer file.Close()
	o := followOptions{flow: "1", read: []string{"-"}, keys: []string{"testdata/follow/tls13.keys"}, as: asText, limit: 1e6}
	var out bytes.Buffer
	check(t, o.run(file, &out))
	golden(t, "follow/decrypted.golden", out.Bytes())
	o.read = []string{"-", "-"}
	if err := o.run(file, &out); err == nil || !strings.Contains(err.Error(), "given twice") {
		t.Errorf("standard input twice: %v", err)
	}
}

func TestFollowRefuses(t *testing.T) {
	const http = "../../test/captures/testdata/http.pcap"
	bad := filepath.Join(t.TempDir(), "keys")
	check(t, os.WriteFile(bad, []byte("CLIENT_RANDOM 00 11\n"), 0o600))
	for want, args := range map[string][]string{
		`flow "x": must be a number`:                {"x", "--read", http},
		`flow "0": must be a number`:                {"0", "--read", http},
		`flow "10.0.0.1:80": must be`:               {"10.0.0.1:80", "--read", http},
		"no such flow in the capture: it has 1":     {"99", "--read", http},
		"no such flow in the capture":               {"10.0.0.1:1>10.0.0.2:2", "--read", http},
		`--as "xml": must be text or hex`:           {"1", "--read", http, "--as", "xml"},
		"--limit 0: must be 1 to":                   {"1", "--read", http, "--limit", "0"},
		"--limit 17000000: must be 1 to":            {"1", "--read", http, "--limit", "17MB"},
		"key log line 1: CLIENT_RANDOM: the random": {"1", "--read", http, "--keys", bad},
		"no such file":                              {"1", "--read", "absent.pcap"},
		"no capture is named":                       {"1"},
		"no flow is named":                          {},
	} {
		var out, complaints bytes.Buffer
		if code := Run(context.Background(), "test", append([]string{"follow"}, args...), &out, &complaints); code != 2 || !strings.Contains(complaints.String(), want) || out.Len() > 0 {
			t.Errorf("%q: ends with %d: %s%s", args, code, complaints.String(), out.String())
		}
	}
}

// What a flow says cannot move a terminal's cursor or pass for a line of ours.
func TestNothingAFlowSaysMovesTheTerminal(t *testing.T) {
	hostile := "a\x1b[2Jb\rc\x07d\u202ee\u009bf\x7fg\xffh\u2028i\u200bj\n→ flow 2 ends\nä€\t世\r\nend"
	got := readable([]byte(hostile))
	want := "a\\x1b[2Jb\\x0dc\\x07d\\u{202e}e\\u{9b}f\\x7fg\\xffh\\u{2028}i\\u{200b}j\n→ flow 2 ends\nä€\t世\nend"
	if got != want {
		t.Errorf("reads\n%q, want\n%q", got, want)
	}
	var out bytes.Buffer
	check(t, printer{out: &out}.print(story{head: []string{"head"}, turns: []turn{{packet: 3, data: []byte(hostile)}}}))
	for line := range strings.Lines(out.String()) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line != "head" && !strings.HasPrefix(line, "→ ") {
			t.Errorf("a line of the flow is not marked: %q", line)
		}
	}
	if at := strings.Index(out.String(), "→ flow"); at > 0 && out.String()[at-1] == '\n' {
		t.Error("content passes for a mark")
	}
}

// FuzzReadable: whatever comes, what is shown is printable.
func FuzzReadable(f *testing.F) {
	f.Add([]byte("text\x1b[0m\r\n\xff\xfe"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range readable(b) {
			if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
				t.Errorf("%q is shown", r)
			}
		}
		if s := neutral(string(b)); strings.ContainsAny(s, "\n\t") {
			t.Errorf("%q is not one line", s)
		}
	})
}
