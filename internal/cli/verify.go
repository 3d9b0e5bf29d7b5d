package cli

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v2"
	"golang.org/x/term"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/report"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// verifyOptions are what "sealmesh verify" is asked for.
//
//	input ──► table of flows ──► session ──► report ──► document ──► output
//	verify_input.go                                          verify_output.go
type verifyOptions struct {
	read   []string
	format reportFormat
	out    string
	expect string
	attest []string
	keys   []string
	logs   []string // of session secrets
	live   liveOptions
	probe  probeOptions
	// command that was typed.
	command string
}

// expectExample is indented, for the help.
const expectExample = `  expect:
  - {name: web to cart, from: 10.1.1.2, to: "10.1.1.3:2929", seal: mtls}
  - {name: the bank, to: "192.0.2.10:443", seal: "tls>=1.3", server: pay.example.com}
  exempt:
  - {reason: probes of the kubelet, to: "*:15090", protocol: http}`

func verifyCommand(args []string) *cobra.Command {
	o := verifyOptions{format: reportFormat(report.Table), command: shellLine(append([]string{"sealmesh"}, args...))}
	c := &cobra.Command{
		Use:   "verify --read FILE... | --iface NAME | --netns NAME | --workload NAME | --node NAME | --probe",
		Short: "Say from packets which connections are encrypted, how, and which are not",
		Long: `Say from packets which connections are encrypted, how, and which are not.

Every flow is judged by what it carries, never by its port. It is sealed (tls,
wireguard, dtls, quic, ipsec, macsec, ssh) if that is seen in its bytes, in both
directions; plaintext if bytes can be read, and those are shown; unknown if neither
is so, for what looks random need not be encrypted; silent if it carried nothing.

Packets come from capture files, or live from interfaces, network namespaces,
workloads and nodes. A live capture needs root and ends with --for, or with Ctrl-C,
which gives the verdict so far; it takes no filter, and leaves loopback out unless
--loopback is given.

With --probe the packets are made for the purpose: random markers go between two
workloads of a mesh, each way, by TCP and UDP, and must not be seen on their
interfaces nor on the uplinks of their nodes. A marker that is sent outside of the
seal on purpose must be seen by every capture, or the result is inconclusive.

Exit codes, for scripts and CI jobs:
  0  sealed: every flow with payload is, or is exempt for a reason (--expect)
  1  plaintext was found, or a flow is not sealed as --expect asks
  2  wrong use, or a file that could not be read
  3  inconclusive: no plaintext, but not enough was seen. Packets were dropped, the
     capture ended early, nothing was captured, or a flow is unknown

What must be there and what need not be sealed is said in YAML, for --expect:
` + expectExample,
		Example: `  sealmesh verify --read lab.pcapng
  sealmesh verify --iface eth0 --for 30s
  sealmesh verify --workload shop/web,shop/cart --node n1 --for 1m
  sealmesh verify --probe --workload shop/web,shop/cart --proto tcp
  tcpdump -i eth0 -w - -U | sealmesh verify --read -
  sealmesh verify --read *.pcap.gz --expect edges.yaml -o junit --out verify.xml
  sealmesh verify --read lab.pcapng -o html --out for-the-auditor.html`,
		Args: cobra.ArbitraryArgs,
	}
	f := c.Flags()
	f.SortFlags = false // as they are needed
	f.StringArrayVar(&o.read, "read", nil, "capture `FILE` to judge, pcap or pcapng, gzip too; \"-\" is standard input (repeatable)")
	o.live.flags(c)
	o.probe.flags(c)
	f.StringVar(&o.expect, "expect", "", "`FILE` with the edges that must be there, how each must be sealed, and what is exempt")
	f.StringArrayVar(&o.attest, "attest", nil, "what a proxy answers at /connections, saved to a `FILE` (repeatable)")
	f.StringArrayVar(&o.logs, "keys", nil, "key log `FILE` with TLS session secrets, which tell who the ends are (repeatable)")
	f.StringArrayVar(&o.keys, "wireguard-key", nil, "public key of a WireGuard peer, as `NAME=BASE64` (repeatable)")
	f.VarP(&o.format, "output", "o", "table, wide, json, junit, sarif or html; of a probe table or json")
	f.StringVar(&o.out, "out", "", "write the report to this `FILE`")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formatNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.MarkFlagFilename("expect", "yaml", "yml")
	c.RunE = o.run
	return c
}

// From so many flows on, only so many percent of what is in use may be garbage: as
// much again, as is usual, would be a lot.
const (
	manyFlows      = 100_000
	garbagePercent = 25
)

// run judges, writes the report and returns what the result means for a script.
func (o *verifyOptions) run(cmd *cobra.Command, files []string) error {
	out, err := o.openOutput(cmd.OutOrStdout())
	if err != nil {
		return err
	}
	defer out.discard()
	cfg, lanes, err := o.config()
	if err != nil {
		return err
	}
	if err := o.idle(cmd); err != nil {
		return err
	}
	if o.probe.on {
		return o.experiment(cmd, files, cfg.Knowledge, out)
	}
	ring, err := openSessionKeys(o.logs)
	if err != nil {
		return err
	}
	in, err := o.input(cmd, files)
	if err != nil {
		return err
	}
	ring.source, cfg.Identify = in.source, ring.identify
	session := verify.NewSession(cfg)
	for _, l := range lanes {
		session.Attest(l)
	}
	progress := startProgress(cmd.ErrOrStderr(), in.status)
	judged, meta, err := judge(in, session, progress)
	progress.stop()
	if err != nil {
		return err
	}
	meta.Command, meta.Version = o.command, cmd.Root().Version
	d := report.Of(judged, meta)
	err = out.write(report.Line(d), func(w io.Writer, f report.Format, s report.Style) error { return report.Write(w, f, d, s) })
	if err != nil {
		return err
	}
	return verdictError(judged.Result)
}

// verdictError is what a result means for a script.
func verdictError(r verify.Result) error {
	switch r {
	case verify.Sealed:
		return nil
	case verify.Inconclusive:
		return inconclusive{errors.New("inconclusive")}
	}
	return checkFailed{errors.New(string(r))}
}

// config is by what to judge.
func (o *verifyOptions) config() (cfg verify.Config, lanes [][]verify.Lane, err error) {
	if o.expect != "" {
		if cfg.Expect, err = readExpectations(o.expect); err != nil {
			return cfg, nil, err
		}
	}
	for _, path := range o.attest {
		answer, err := os.ReadFile(path)
		if err != nil {
			return cfg, nil, fmt.Errorf("--attest: %w", err)
		}
		l, err := verify.ParseLanes(answer)
		if err != nil {
			return cfg, nil, hint(fmt.Errorf("--attest %s: %w", path, err), "save what the admin port of a proxy answers: curl -s http://127.0.0.1:PORT/connections > FILE")
		}
		lanes = append(lanes, l)
	}
	cfg.Knowledge.WireGuardKeys, err = parseKeys(o.keys)
	return cfg, lanes, err
}

// readExpectations reads the file of --expect.
func readExpectations(path string) (*verify.Expectations, error) {
	const example = "\"sealmesh verify --help\" shows an example"
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, hint(fmt.Errorf("--expect: %w", err), example)
	}
	if severalDocuments(text) {
		return nil, hint(fmt.Errorf("--expect %s: must be one YAML document: what follows \"---\" would not be read", path), "put all edges into one list \"expect\", and all exemptions into one list \"exempt\"")
	}
	e, err := verify.ParseExpectations(text)
	if err != nil {
		return nil, hint(fmt.Errorf("--expect %s: %w", path, err), example)
	}
	return e, nil
}

// severalDocuments reports whether a YAML stream goes on behind its first document.
func severalDocuments(text []byte) bool {
	documents := yaml.NewDecoder(bytes.NewReader(text))
	var first, second any
	return documents.Decode(&first) == nil && !errors.Is(documents.Decode(&second), io.EOF)
}

// parseKeys reads NAME=BASE64.
func parseKeys(list []string) (map[string][32]byte, error) {
	keys := map[string][32]byte{}
	for _, s := range list {
		name, text, _ := strings.Cut(s, "=")
		raw, err := base64.StdEncoding.DecodeString(text)
		if name == "" || err != nil || len(raw) != 32 {
			return nil, hint(fmt.Errorf("--wireguard-key %q: must be NAME=BASE64, a key of 32 bytes", s), "\"wg show all dump\" prints the public keys")
		}
		if _, twice := keys[name]; twice {
			return nil, fmt.Errorf("--wireguard-key %q: %s has one already", s, name)
		}
		keys[name] = [32]byte(raw)
	}
	return keys, nil
}

// judge takes all packets of an input and says what they show.
func judge(in *input, session *verify.Session, p *progress) (*verify.Report, report.Meta, error) {
	table := capture.NewTable(capture.Limits{}, func(f *capture.Flow) {
		session.Add(f)
		p.flow()
		if session.Judged() == manyFlows {
			debug.SetGCPercent(garbagePercent)
		}
	})
	var first, last time.Time
	var f capture.Frame
	for {
		err := in.source.Next(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, report.Meta{}, err
		}
		if first.IsZero() || f.Time.Before(first) {
			first = f.Time
		}
		if f.Time.After(last) {
			last = f.Time
		}
		table.Add(&f)
		p.packet()
	}
	end := in.end()
	for _, lanes := range end.attested {
		session.Attest(lanes)
	}
	seen := verify.Seen{Counts: table.Close(), Cut: end.cut, Doubts: end.doubts}
	seen.Dropped = seen.Counts.Dropped + end.dropped
	return session.Report(seen), report.Meta{First: first, Last: last, Where: end.where, Files: end.files}, nil
}

// input is where packets come from: capture files, or what verify_live.go finds.
type input struct {
	// source returns io.EOF when there is no more, for whatever reason. Any other
	// error means that nothing can be said.
	source capture.Source
	// status is what the progress line says behind its counts. It is called from
	// another goroutine.
	status func() string
	// end is called once, after the source has ended.
	end func() ending
}

// ending is what is known of an input at its end.
type ending struct {
	// where the packets were taken from, in words, if not from files.
	where string
	files []report.File
	// dropped packets were lost by the capture itself, over what the table counts.
	dropped int
	// cut says why it ended before it should have; empty if it did not.
	cut string
	// doubts are further reasons not to call it sealed.
	doubts []string
	// attested is what proxies said while it was captured.
	attested [][]verify.Lane
}

// input finds the input that was asked for.
func (o *verifyOptions) input(cmd *cobra.Command, files []string) (*input, error) {
	ctx, stdin := cmd.Context(), cmd.InOrStdin()
	switch wrong := o.live.misused(cmd); {
	case wrong != nil:
		return nil, wrong
	case o.live.wanted() && len(o.read) > 0:
		return nil, hint(fmt.Errorf("--read %s: packets are either read or captured", o.read[0]), "leave out --read, or what is to be captured")
	case o.live.wanted() && len(files) > 0:
		return nil, hint(fmt.Errorf("%q: nothing says what to do with it", files[0]), "name several interfaces with commas: --iface eth0,eth1")
	case o.live.wanted():
		return o.live.input(cmd)
	case len(o.read) == 0 && len(files) > 0:
		return nil, hint(fmt.Errorf("%q: nothing says what to do with it", files[0]), "to judge capture files: sealmesh verify --read %s", shellLine(files))
	case len(o.read) == 0:
		return nil, hint(errors.New("nothing to judge"), "name a capture file: sealmesh verify --read FILE; or an interface: sealmesh verify --iface NAME --for 30s")
	}
	files = append(o.read, files...)
	if f, ok := stdin.(*os.File); ok && contains(files, "-") && term.IsTerminal(int(f.Fd())) {
		return nil, hint(errors.New("--read -: standard input is a terminal"), "pipe a capture into it: tcpdump -w - -U | sealmesh verify --read -")
	}
	return openFiles(ctx, stdin, files, o.format.hashes())
}
