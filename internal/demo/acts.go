package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/verify"
	"github.com/sealmesh/sealmesh/test/lab"
)

// secret is what the sender says, as it would stand on the wire.
var secret = []byte("test\n")

// wire is what a capture of one exchange holds.
type wire struct {
	report verify.Report
	stats  lab.CaptureStats
	raw    []byte // the file itself
}

// exchange lets the sender send "test" while tcpdump reads on the receiver's
// node, and returns once the receiver has printed it and the sender has ended.
func (s *stage) exchange(ctx context.Context, show *page, file string) (wire, error) {
	running, err := s.receiver.Node.Capture(ctx, "eth0", file, fmt.Sprintf("tcp port %d", port))
	if err != nil {
		return wire{}, err
	}
	command := s.send("test", s.receiver)
	show.command("sender", command)
	printed := s.inbox.len()
	if err := run(ctx, s.sender, command); err != nil {
		return wire{}, err
	}
	if _, err := s.inbox.wait(ctx, printed, is("test")); err != nil {
		return wire{}, fmt.Errorf("the receiver did not print it: %w", err)
	}
	var w wire
	if w.stats, err = running.Stop(); err != nil {
		return wire{}, err
	}
	if w.raw, err = os.ReadFile(file); err != nil {
		return wire{}, err
	}
	packets, err := capture.Open(file)
	if err != nil {
		return wire{}, err
	}
	w.report = verify.Summarize(packets, w.stats.Dropped)
	return w, nil
}

// path is a flow's way and how much of it was seen.
func path(f verify.Finding) string {
	return fmt.Sprintf("%s → %s, %d packets", f.Src, f.Dst, f.Packets[0]+f.Packets[1])
}

// showPlaintext is step 1.
func (s *stage) showPlaintext(ctx context.Context, show *page) ([]claim, error) {
	w, err := s.exchange(ctx, show, s.before)
	if err != nil {
		return nil, err
	}
	leak := claim{Text: "and so does everyone on the way", Evidence: doubts(w.report)}
	for _, f := range w.report.Flows {
		if f.Verdict == verify.Plaintext && f.Evidence.Hex == hex.EncodeToString(secret) {
			leak.Mark = exposed
			leak.Evidence = []string{fmt.Sprintf("%s  %q in packet %d", f.Evidence.Hex, secret, f.Evidence.Packet), path(f)}
		}
	}
	return []claim{claimed(true, "the receiver prints it", "test"), leak}, nil
}

// doubts is what a report says against its own result.
func doubts(r verify.Report) []string {
	out := []string{string(r.Result)}
	for _, f := range r.Flows {
		switch {
		case f.Reason != "":
			out = append(out, f.Reason)
		case f.Evidence != nil:
			out = append(out, f.Evidence.Text)
		}
	}
	return append(out, r.Doubts...)
}

// seal is step 2.
func (s *stage) seal(ctx context.Context, show *page) ([]claim, error) {
	began := time.Now()
	var err error
	if s.mesh, err = s.startMesh(); err != nil {
		return nil, err
	}
	show.command("root", "sealmesh "+strings.Join(s.mesh.command()[:3], " "))
	workloads := []*lab.Workload{s.sender, s.receiver, s.thief}
	for _, w := range workloads {
		if err := s.mesh.wait(ctx, begins("sealed "+namespace+"/"+w.Name+":")); err != nil {
			return nil, fmt.Errorf("%s was not sealed: %w", w.Name, err)
		}
	}
	took := time.Since(began)
	var identities []identity
	var stati []status
	if err := errors.Join(s.mesh.ask(ctx, "identity", &identities), s.mesh.ask(ctx, "status", &stati)); err != nil {
		return nil, err
	}
	claims := []claim{}
	for _, w := range workloads {
		claims = append(claims, sealedClaim(w.Name, identities, stati))
	}
	return append(claims,
		claimed(true, fmt.Sprintf("sealed within %.1f s", took.Seconds()), "inbound and outbound are strict: nothing else passes"),
		claimed(alive(s.nc), "the programs were not touched", fmt.Sprintf("the receiver is still the nc of process %d", s.nc.Process.Pid)),
	), nil
}

// sealedClaim says which identity a workload has got, and what was installed.
func sealedClaim(name string, identities []identity, stati []status) claim {
	full := namespace + "/" + name
	i := slices.IndexFunc(identities, func(i identity) bool { return i.Workload == full })
	j := slices.IndexFunc(stati, func(s status) bool { return s.Workload == full })
	if i < 0 || j < 0 {
		return claimed(false, name, "has no identity or no rules")
	}
	id, st := identities[i], stati[j]
	want := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, name)
	return claimed(id.Identity == want && id.Serial != "" && st.Rules > 0 && st.PID > 0, name,
		id.Identity,
		fmt.Sprintf("certificate %s for %s", id.Serial, id.NotAfter.Sub(id.NotBefore).Round(time.Hour)),
		fmt.Sprintf("%d redirection rules, proxy of process %d", st.Rules, st.PID))
}

// alive reports whether a program still runs.
func alive(c *lab.Cmd) bool { return c.Process.Signal(syscall.Signal(0)) == nil }

// showSealed is step 3.
func (s *stage) showSealed(ctx context.Context, show *page) ([]claim, error) {
	w, err := s.exchange(ctx, show, s.after)
	if err != nil {
		return nil, err
	}
	claims := append([]claim{claimed(true, "the receiver prints it", "test")}, wireClaims(w)...)
	var seen *verify.TLSInfo
	for _, f := range w.report.Flows {
		if f.Verdict == verify.TLS {
			seen = f.TLS
		}
	}
	if seen == nil {
		return claims, nil // what was seen instead has been claimed, and failed
	}
	attested, err := s.attested(ctx, seen.Random)
	if err != nil {
		return nil, err
	}
	claims = append(claims, attested)
	if s.tshark != "" {
		agreed, err := s.asked(ctx, seen)
		if err != nil {
			return nil, err
		}
		claims = append(claims, agreed)
	}
	return claims, nil
}

// wireClaims are what the capture itself shows after sealing. Without packets
// nothing holds: a capture that saw nothing proves nothing.
func wireClaims(w wire) []claim {
	sealed := claimed(false, "the wire carries TLS 1.3", doubts(w.report)...)
	for _, f := range w.report.Flows {
		if w.report.Result != verify.Sealed || f.Verdict != verify.TLS {
			continue
		}
		ok := f.TLS.Version == "1.3" && f.TLS.Group == "X25519MLKEM768" && f.TLS.SNI == "receiver."+namespace+"."+trustDomain
		sealed = claimed(ok, "the wire carries TLS "+f.TLS.Version,
			f.TLS.Cipher+", "+f.TLS.Group,
			fmt.Sprintf("SNI %s, ALPN %s", f.TLS.SNI, strings.Join(f.TLS.ALPNOffered, " ")),
			path(f))
	}
	nowhere := claimed(w.stats.Captured > 0 && w.stats.Dropped == 0 && !bytes.Contains(w.raw, secret),
		fmt.Sprintf("%x is nowhere", secret),
		fmt.Sprintf("in %d packets, %d bytes; %d packets dropped", w.stats.Captured, len(w.raw), w.stats.Dropped))
	return []claim{sealed, nowhere}
}

// attested finds the connection that was seen on the wire, by the random of its
// ClientHello, in what the proxies of both ends report.
func (s *stage) attested(ctx context.Context, random string) (claim, error) {
	var stati []status
	if err := s.mesh.ask(ctx, "status", &stati); err != nil {
		return claim{}, err
	}
	ends := map[string]string{} // who attests whom
	for _, w := range []*lab.Workload{s.sender, s.receiver} {
		j := slices.IndexFunc(stati, func(st status) bool { return st.Workload == namespace+"/"+w.Name })
		if j < 0 {
			continue
		}
		all, err := lanes(ctx, w, stati[j].Admin)
		if err != nil {
			return claim{}, err
		}
		for _, l := range all {
			if l.HelloRandom == random {
				ends[l.Local] = l.Peer
			}
		}
	}
	mine := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, s.sender.Name)
	theirs := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, s.receiver.Name)
	return claimed(ends[mine] == theirs && ends[theirs] == mine, "both proxies attest it",
		s.sender.Name+" and "+s.receiver.Name+" name each other",
		"for the ClientHello "+random[:16]+"… seen on the wire"), nil
}

// asked asks tshark, which shares no code with us, about the same file.
func (s *stage) asked(ctx context.Context, seen *verify.TLSInfo) (claim, error) {
	query := func(filter string, fields ...string) (string, error) {
		args := []string{"-r", s.after, "-d", fmt.Sprintf("tcp.port==%d,tls", port), "-Y", filter, "-T", "fields"}
		for _, f := range fields {
			args = append(args, "-e", f)
		}
		out, err := exec.CommandContext(ctx, s.tshark, args...).Output()
		if err != nil {
			return "", fmt.Errorf("tshark: %w", err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	octets := strings.Trim(strings.ReplaceAll(fmt.Sprintf("% x", secret), " ", ":"), ":")
	// One run for both: frames with a ClientHello, and frames with the secret.
	got, err := query("tls.handshake.type == 1 || frame contains "+octets, "tls.handshake.random", "tls.handshake.extensions_server_name")
	if err != nil {
		return claim{}, err
	}
	return claimed(got == seen.Random+"\t"+seen.SNI, "tshark agrees",
		"the same ClientHello, and no frame with "+octets), nil
}

// showIntruders is step 4.
func (s *stage) showIntruders(ctx context.Context, show *page) ([]claim, error) {
	var claims []claim
	for _, intrude := range []func(context.Context, *page) (claim, error){s.strangerKnocks, s.senderStrays, s.thiefAnswers} {
		c, err := intrude(ctx, show)
		if err != nil {
			return nil, err
		}
		claims = append(claims, c)
	}
	return claims, nil
}

// strangerKnocks: a workload without identity sends to the receiver.
func (s *stage) strangerKnocks(ctx context.Context, show *page) (claim, error) {
	printed, logged := s.inbox.len(), s.mesh.log.len()
	command := s.send("let me in", s.receiver)
	show.command("stranger", command)
	if err := run(ctx, s.stranger, command); err != nil {
		return claim{}, err
	}
	r, err := s.mesh.connection(ctx, logged, "inbound", s.stranger)
	if err != nil {
		return claim{}, fmt.Errorf("the receiver's proxy does not tell of it: %w", err)
	}
	quiet := s.inbox.len() == printed
	return claimed(r.Reason == "plaintext" && quiet, "a stranger is refused", r.Detail, "the receiver prints nothing"), nil
}

// senderStrays: a sealed workload sends to one that nobody vouches for.
func (s *stage) senderStrays(ctx context.Context, show *page) (claim, error) {
	inbox, logged := newJournal(), s.mesh.log.len()
	nc, err := listen(ctx, s.stranger, inbox)
	if err != nil {
		return claim{}, err
	}
	command := s.send("secret", s.stranger)
	show.command("sender", command)
	if err := run(ctx, s.sender, command); err != nil {
		return claim{}, err
	}
	r, err := s.mesh.connection(ctx, logged, "outbound", s.sender)
	if err != nil {
		return claim{}, fmt.Errorf("the sender's proxy does not tell of it: %w", err)
	}
	_ = nc.Process.Kill()
	_ = nc.Wait() // it was killed
	return claimed(r.Reason == "unknown_destination" && inbox.len() == 0, "nothing is sent to a stranger", r.Detail), nil
}

// thiefAnswers: a sealed workload with an identity of its own takes the
// receiver's address, and the sender connects to it.
func (s *stage) thiefAnswers(ctx context.Context, show *page) (claim, error) {
	inbox := newJournal()
	if _, err := listen(ctx, s.thief, inbox); err != nil {
		return claim{}, err
	}
	if err := s.lab.TakeAddress(s.thief, s.receiver); err != nil {
		return claim{}, err
	}
	show.command("thief", fmt.Sprintf("takes the address %s", s.receiver.Addr4))
	command := s.send("secret", s.receiver)
	show.command("sender", command)
	printed := s.inbox.len()
	// The lane to the real receiver, idle since step 3, may have to break first.
	const tries = 3
	var r connection
	for try := 0; try < tries && r.Reason != "wrong_identity"; try++ {
		logged := s.mesh.log.len()
		if err := run(ctx, s.sender, command); err != nil {
			return claim{}, err
		}
		var err error
		if r, err = s.mesh.connection(ctx, logged, "outbound", s.sender); err != nil {
			return claim{}, fmt.Errorf("the sender's proxy does not tell of it: %w", err)
		}
	}
	quiet := inbox.len() == 0 && s.inbox.len() == printed
	return claimed(r.Reason == "wrong_identity" && quiet, "a thief of the address is refused", r.Detail, "nobody prints anything"), nil
}
