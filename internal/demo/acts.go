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
	report *verify.Report
	stats  lab.CaptureStats
	raw    []byte // the file itself
}

// exchange lets the sender send "test" while tcpdump reads on the receiver's
// node, and returns once the receiver has printed it and the sender has ended.
func (s *stage) exchange(ctx context.Context, show *narration, file string) (wire, error) {
	running, err := s.receiver.Node.Capture(ctx, "eth0", file, fmt.Sprintf("tcp port %d", port))
	if err != nil {
		return wire{}, err
	}
	command := s.send("test", s.receiver)
	show.command("sender", command)
	show.gap()
	printed := s.inbox.len()
	if err := run(ctx, s.sender, command); err != nil {
		return wire{}, err
	}
	if _, err := s.inbox.wait(ctx, printed, is("test")); err != nil {
		return wire{}, fmt.Errorf("the receiver did not print it: %w", err)
	}
	show.claim(claimed(true, "the receiver prints it", "test"))
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

// path is a flow's way, and how much of it was seen.
func path(f verify.Finding) []string {
	return []string{f.Src + " → " + f.Dst, fmt.Sprintf("%d packets", f.Packets[0]+f.Packets[1])}
}

// showPlaintext is step 1.
func (s *stage) showPlaintext(ctx context.Context, show *narration) error {
	w, err := s.exchange(ctx, show, s.before)
	if err != nil {
		return err
	}
	leak := claim{Text: "and so can everyone on the way", Evidence: doubts(w.report)}
	for f := range w.report.Flows() {
		if f.Verdict == verify.Plaintext && f.Evidence.Hex == hex.EncodeToString(secret) {
			leak.Mark = exposed
			leak.Evidence = append([]string{fmt.Sprintf("%s is %q, packet %d", f.Evidence.Hex, secret, f.Evidence.Packet)}, path(f)...)
		}
	}
	show.claim(leak)
	return nil
}

// doubts is what a report says against its own result.
func doubts(r *verify.Report) []string {
	out := []string{string(r.Result)}
	for f := range r.Flows() {
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
func (s *stage) seal(ctx context.Context, show *narration) error {
	began := time.Now()
	var err error
	if s.mesh, err = s.startMesh(ctx); err != nil {
		return err
	}
	show.command("root", "sealmesh up -f "+s.mesh.dir)
	show.gap()
	workloads := []*lab.Workload{s.sender, s.receiver, s.thief}
	for _, w := range workloads {
		if err := s.mesh.wait(ctx, begins("sealed "+namespace+"/"+w.Name+":")); err != nil {
			return fmt.Errorf("%s was not sealed: %w", w.Name, err)
		}
	}
	took := time.Since(began)
	var identities []identity
	var stati []status
	if err := errors.Join(s.mesh.ask(ctx, "identity", &identities), s.mesh.ask(ctx, "status", &stati)); err != nil {
		return err
	}
	for _, w := range workloads {
		show.claim(sealedClaim(w.Name, identities, stati))
	}
	show.claim(claimed(true, fmt.Sprintf("sealed within %.1f s", took.Seconds()),
		"inbound and outbound strict: what is not sealed does not pass"))
	show.claim(claimed(alive(s.nc), "the programs were not touched",
		fmt.Sprintf("the receiver still is the nc of process %d", s.nc.Process.Pid)))
	return nil
}

// sealedClaim says which identity a workload has got, and what was installed.
func sealedClaim(name string, identities []identity, stati []status) claim {
	full := namespace + "/" + name
	i := slices.IndexFunc(identities, func(i identity) bool { return i.Workload == full })
	j := slices.IndexFunc(stati, func(s status) bool { return s.Workload == full })
	if i < 0 || j < 0 {
		return claimed(false, name, "has no identity, or no rules")
	}
	id, st := identities[i], stati[j]
	return claimed(id.Identity == spiffe(name) && id.Serial != "" && st.Rules > 0 && st.PID > 0, name,
		id.Identity,
		"serial "+id.Serial,
		fmt.Sprintf("valid %.0f h, until %s", id.NotAfter.Sub(id.NotBefore).Hours(), id.NotAfter.UTC().Format("Jan _2 15:04 MST")),
		fmt.Sprintf("%d redirection rules, proxy pid %d", st.Rules, st.PID))
}

// spiffe is the identity that a workload of the demo should have.
func spiffe(name string) string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, name)
}

// alive reports whether a program still runs.
func alive(c *lab.Cmd) bool { return c.Process.Signal(syscall.Signal(0)) == nil }

// showSealed is step 3.
func (s *stage) showSealed(ctx context.Context, show *narration) error {
	w, err := s.exchange(ctx, show, s.after)
	if err != nil {
		return err
	}
	for _, c := range wireClaims(w) {
		show.claim(c)
	}
	for f := range w.report.Flows() {
		if f.Verdict != verify.TLS {
			continue // what it is instead has been claimed, and failed
		}
		c, err := s.attested(ctx, f.TLS.Random)
		if err != nil {
			return err
		}
		show.claim(c)
		if s.tshark == "" {
			continue
		}
		if c, err = s.secondOpinion(ctx, f.TLS); err != nil {
			return err
		}
		show.claim(c)
	}
	return nil
}

// wireClaims are what the capture itself shows after sealing. Without packets
// nothing holds: a capture that saw nothing proves nothing.
func wireClaims(w wire) []claim {
	sealed := claimed(false, "the wire carries TLS 1.3", doubts(w.report)...)
	for f := range w.report.Flows() {
		if w.report.Result != verify.Sealed || f.Verdict != verify.TLS {
			continue
		}
		ok := f.TLS.Version == "1.3" && f.TLS.Group == "X25519MLKEM768" && f.TLS.SNI == "receiver."+namespace+"."+trustDomain
		sealed = claimed(ok, "the wire carries TLS "+f.TLS.Version,
			append([]string{f.TLS.Cipher, f.TLS.Group, "SNI " + f.TLS.SNI}, path(f)...)...)
	}
	nowhere := claimed(w.stats.Captured > 0 && w.stats.Dropped == 0 && !bytes.Contains(w.raw, secret),
		fmt.Sprintf("%x is nowhere", secret),
		fmt.Sprintf("in %d packets, %d bytes; %d dropped", w.stats.Captured, len(w.raw), w.stats.Dropped))
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
	mine, theirs := spiffe(s.sender.Name), spiffe(s.receiver.Name)
	return claimed(ends[mine] == theirs && ends[theirs] == mine, "both proxies attest it",
		s.sender.Name+" and "+s.receiver.Name+" name each other for ClientHello "+random[:16]+"…"), nil
}

// secondOpinion is that of tshark, which shares no code with us, on the same file.
func (s *stage) secondOpinion(ctx context.Context, seen *verify.TLSInfo) (claim, error) {
	octets := strings.ReplaceAll(fmt.Sprintf("% x", secret), " ", ":")
	// One run for both: frames with a ClientHello, and frames with the secret.
	out, err := exec.CommandContext(ctx, s.tshark, "-r", s.after, "-d", fmt.Sprintf("tcp.port==%d,tls", port),
		"-Y", "tls.handshake.type == 1 || frame contains "+octets,
		"-T", "fields", "-e", "tls.handshake.random", "-e", "tls.handshake.extensions_server_name").Output()
	if err != nil {
		return claim{}, fmt.Errorf("tshark: %w", err)
	}
	return claimed(strings.TrimSpace(string(out)) == seen.Random+"\t"+seen.SNI, "tshark agrees",
		"the same ClientHello, and no frame with "+octets), nil
}

// showIntruders is step 4.
func (s *stage) showIntruders(ctx context.Context, show *narration) error {
	for i, intrude := range []func(context.Context, *narration) error{s.strangerKnocks, s.senderStrays, s.thiefAnswers} {
		if i > 0 {
			show.gap()
		}
		if err := intrude(ctx, show); err != nil {
			return err
		}
	}
	return nil
}

// attempt runs a command in a workload and returns what a proxy logs about the
// connection that it made.
func (s *stage) attempt(ctx context.Context, from *lab.Workload, command, direction string) (connection, error) {
	logged := s.mesh.log.len()
	if err := run(ctx, from, command); err != nil {
		return connection{}, err
	}
	c, err := s.mesh.connection(ctx, logged, direction, from)
	if err != nil {
		return connection{}, fmt.Errorf("no proxy tells of the connection: %w", err)
	}
	return c, nil
}

// refused claims that a connection was refused for a reason, in the proxy's own
// words, and that nobody who listens has printed anything.
func refused(c connection, reason, text string, silent bool) claim {
	evidence := []string{c.Detail, "nobody prints it"}
	if c.Reason == "" {
		evidence[0] = "the connection was not refused"
	}
	if !silent {
		evidence[1] = "but it was printed"
	}
	return claimed(c.Reason == reason && silent, text, evidence...)
}

// strangerKnocks: a workload without identity sends to the receiver.
func (s *stage) strangerKnocks(ctx context.Context, show *narration) error {
	printed := s.inbox.len()
	command := s.send("secret", s.receiver)
	show.command("stranger", command)
	c, err := s.attempt(ctx, s.stranger, command, "inbound")
	if err != nil {
		return err
	}
	show.claim(refused(c, "plaintext", "a stranger is refused", s.inbox.len() == printed))
	return nil
}

// senderStrays: a sealed workload sends to one that nobody vouches for.
func (s *stage) senderStrays(ctx context.Context, show *narration) error {
	inbox := newJournal()
	if _, err := listen(ctx, s.stranger, inbox); err != nil {
		return err
	}
	command := s.send("secret", s.stranger)
	show.command("sender", command)
	c, err := s.attempt(ctx, s.sender, command, "outbound")
	if err != nil {
		return err
	}
	show.claim(refused(c, "unknown_destination", "nothing is sent to a stranger", inbox.len() == 0))
	return nil
}

// thiefAnswers: a sealed workload with an identity of its own takes the
// receiver's address, and the sender connects to it.
func (s *stage) thiefAnswers(ctx context.Context, show *narration) error {
	inbox, printed := newJournal(), s.inbox.len()
	if _, err := listen(ctx, s.thief, inbox); err != nil {
		return err
	}
	giveBack, err := s.lab.TakeAddress(s.thief, s.receiver)
	if err != nil {
		return err
	}
	show.event("thief", "takes the address "+s.receiver.Addr4.String())
	command := s.send("secret", s.receiver)
	show.command("sender", command)
	// The lane to the real receiver, idle since step 3, may have to break first.
	const tries = 3
	var c connection
	for try := 0; try < tries && c.Reason != "wrong_identity"; try++ {
		if c, err = s.attempt(ctx, s.sender, command, "outbound"); err != nil {
			return err
		}
	}
	show.claim(refused(c, "wrong_identity", "a thief of the address, too", inbox.len()+s.inbox.len() == printed))
	if err := giveBack(); err != nil {
		return err
	}
	return s.reachedAgain(ctx, show)
}

// reachedAgain shows that the refusals were refusals, and not a broken network.
func (s *stage) reachedAgain(ctx context.Context, show *narration) error {
	command := s.send("again", s.receiver)
	show.gap()
	show.event("thief", "gives the address back")
	show.command("sender", command)
	printed := s.inbox.len()
	if err := run(ctx, s.sender, command); err != nil {
		return err
	}
	line, err := s.inbox.wait(ctx, printed, anyLine)
	if err != nil {
		return fmt.Errorf("the receiver did not print it: %w", err)
	}
	show.claim(claimed(line == "again", "the receiver is reached again", line))
	return nil
}
