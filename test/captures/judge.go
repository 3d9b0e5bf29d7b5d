package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// judge is what is measured.
type judge func(*capture.Flow) verify.Finding

// theJudge is the one we ship.
func theJudge(f *capture.Flow) verify.Finding { return verify.Judge(f, verify.Knowledge{}) }

// judged is one flow's finding with the label that it should bear.
type judged struct {
	scene string
	label label // of at only if nothing is known of the flow
	known bool
	// nth of the flows with this label, from 1.
	nth     int
	found   verify.Finding
	overlay bool
}

// load reads all packets of a capture file.
func load(file string) ([]capture.Frame, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("captures: %w", err)
	}
	defer f.Close()
	src, err := capture.OpenSource(bufio.NewReader(f), file)
	if err != nil {
		return nil, fmt.Errorf("captures: %v", err)
	}
	var all []capture.Frame
	for {
		var frame capture.Frame
		switch err := src.Next(&frame); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("captures: %v", err)
		}
		frame.Data = slices.Clone(frame.Data)
		frame.Number, frame.Vantage = 0, "" // the table counts anew
		all = append(all, frame)
	}
}

// golden is a scene as it was recorded.
type golden struct {
	scene
	frames []capture.Frame
}

// loadGoldens reads the captures of all scenes; one that is missing is an error.
func loadGoldens(dir string) ([]golden, error) {
	var all []golden
	for _, s := range scenes {
		frames, err := load(filepath.Join(dir, s.name+".pcap"))
		if err != nil {
			return nil, err
		}
		all = append(all, golden{scene: s, frames: frames})
	}
	return all, nil
}

// flowsOf has every flow in packets judged, in the order they began.
func flowsOf(frames []capture.Frame, by judge, each func(*capture.Flow, verify.Finding)) {
	table := capture.NewTable(capture.Limits{}, func(f *capture.Flow) { each(f, by(f)) })
	for i := range frames {
		table.Add(&frames[i])
	}
	table.Close()
}

// judgeScene judges one scene's packets against its labels.
func judgeScene(s scene, frames []capture.Frame, by judge) []judged {
	var all []judged
	flowsOf(frames, by, func(f *capture.Flow, found verify.Finding) {
		all = append(all, s.labelled(f, found))
	})
	slices.SortStableFunc(all, func(a, b judged) int { return a.found.Number - b.found.Number })
	counts := map[string]int{}
	for i := range all {
		counts[all[i].label.at]++
		all[i].nth = counts[all[i].label.at]
	}
	return all
}

// labelled finds the label of a flow: by the server's port, or where only one
// direction is left, by the other.
func (s scene) labelled(f *capture.Flow, found verify.Finding) judged {
	j := judged{scene: s.name, found: found, overlay: f.Overlay != ""}
	for _, end := range []netip.AddrPort{f.Server, f.Client} {
		at := string(f.Proto)
		if end.Port() != 0 {
			at = fmt.Sprintf("%s/%d", f.Proto, end.Port())
		}
		i := slices.IndexFunc(s.flows, func(l label) bool { return l.at == at })
		if i >= 0 {
			j.label, j.known = s.flows[i], true
			return j
		}
		if j.label.at == "" {
			j.label.at = at
		}
	}
	return j
}

// differences are what is not found as the label says.
func (j judged) differences() []string {
	if !j.known {
		return []string{fmt.Sprintf("%s: a flow without a label: %s", j.label.at, j.found.Verdict)}
	}
	l, found := j.label, j.found
	var all []string
	differ := func(what string, want, got any) {
		all = append(all, fmt.Sprintf("%s: %s is %v, want %v", l.at, what, got, want))
	}
	text := func(what, want, got string) {
		if want != "" && want != got {
			differ(what, want, fmt.Sprintf("%q", got))
		}
	}
	if l.verdict != "" && l.verdict != found.Verdict {
		differ("verdict", l.verdict, fmt.Sprintf("%s (%s)", found.Verdict, found.Reason))
	}
	tls := found.TLS
	if tls == nil {
		tls = &verify.TLSInfo{}
	}
	text("version", l.version, tls.Version)
	text("cipher", l.cipher, tls.Cipher)
	text("group", l.group, tls.Group)
	text("server name", l.sni, tls.SNI)
	text("protocol", l.protocol, found.Protocol)
	upgrade := ""
	if found.Upgrade != nil {
		upgrade = found.Upgrade.From
	}
	text("upgrade", l.upgrade, upgrade)
	if want := l.resumed && (l.only == nil || slices.Contains(l.only, j.nth)); want != tls.Resumed {
		differ("resumed", want, tls.Resumed)
	}
	if l.retried != tls.Retried {
		differ("retried", l.retried, tls.Retried)
	}
	if l.clientCert != (tls.ClientCert != nil) {
		differ("client certificate seen", l.clientCert, tls.ClientCert != nil)
	}
	if l.weak != (len(found.Weak) > 0) {
		differ("weak", l.weak, strings.Join(found.Weak, ", "))
	}
	return all
}

// wrong says how a finding breaks the rule that holds however little was seen,
// or is empty. whole: nothing of the flow was taken away.
func (j judged) wrong(whole bool) string {
	seals := j.found.Verdict.Seals()
	switch j.label.truth {
	case sealed:
		if j.found.Verdict == verify.Plaintext {
			return falsePlaintext
		}
	case inClear:
		if seals {
			return falseSealed
		}
	case mixed, mimic:
		if seals && whole {
			return falseSealed
		}
	case neither:
		switch {
		case seals && whole:
			return falseSealed
		case j.found.Verdict == verify.Plaintext:
			return falsePlaintext
		}
	case nothing:
		switch {
		case seals:
			return falseSealed
		case j.found.Verdict == verify.Plaintext:
			return falsePlaintext
		}
	case untold:
	default: // no label: what it is called cannot be right
		if seals {
			return falseSealed
		}
	}
	return ""
}

// The two ways to be wrong.
const (
	falseSealed    = "false sealed"
	falsePlaintext = "false plaintext"
)
