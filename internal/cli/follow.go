package cli

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/decrypt"
)

// followOptions are what "sealmesh follow" is asked for.
//
//	files ──▶ find the flow ──▶ read it whole ──▶ decrypt ──▶ turns ──▶ text or hex
//	          by number or ends                     if it can   follow_turn.go  follow_print.go
type followOptions struct {
	flow  string
	read  []string
	keys  []string
	as    string
	limit byteSize
}

// Forms of output.
const (
	asText = "text"
	asHex  = "hex"
)

func followCommand() *cobra.Command {
	o := followOptions{limit: 1e6}
	c := &cobra.Command{
		Use:   "follow FLOW --read FILE…",
		Short: "Print what both sides of one flow said",
		Long: `Print what both sides of one flow of a capture said, in the order of the packets.

FLOW is a number as "sealmesh verify -o wide" prints it, or the two ends as
IP:PORT>IP:PORT. TLS is decrypted where its keys are in the capture itself, as
"sealmesh capture --decrypt" leaves them there, or in a key log (SSLKEYLOGFILE); of
lanes of Sealmesh what the applications said is shown. Bytes that are missing are
named. What could move the cursor of a terminal is escaped.

Of a sealed flow without keys, only how much was said is shown; --as hex shows the
bytes as they were on the wire.`,
		Example: `  sealmesh follow 3 --read lab.pcapng
  sealmesh follow '10.1.0.2:40112>10.1.1.2:2929' --read lab.pcapng --as hex
  sealmesh follow 1 --read tls.pcap --keys sslkeylog.txt`,
		Args: cobra.ArbitraryArgs,
	}
	f := c.Flags()
	f.SortFlags = false // as they are needed
	f.StringArrayVar(&o.read, "read", nil, "capture `FILE`, pcap or pcapng, gzip too; \"-\" is standard input (repeatable)")
	f.StringArrayVar(&o.keys, "keys", nil, "key log `FILE` with TLS session secrets, as SSLKEYLOGFILE names it (repeatable)")
	f.StringVar(&o.as, "as", asText, "text or hex")
	f.Var(&o.limit, "limit", fmt.Sprintf("how much of each direction to read, at most %s", size(capture.MaxWindow)))
	_ = c.RegisterFlagCompletionFunc("as", cobra.FixedCompletions([]string{asText, asHex}, cobra.ShellCompDirectiveNoFileComp))
	c.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return hint(errors.New("no flow is named"), "name one by its number or its ends: sealmesh follow 1 --read FILE; \"sealmesh verify --read FILE -o wide\" lists them")
		case len(o.read) == 0:
			return hint(errors.New("no capture is named"), "sealmesh follow %s --read FILE", shellLine(args[:1]))
		}
		o.flow, o.read = args[0], append(o.read, args[1:]...)
		return o.run(cmd.InOrStdin(), cmd.OutOrStdout())
	}
	return c
}

func (o *followOptions) run(stdin io.Reader, stdout io.Writer) error {
	if o.as != asText && o.as != asHex {
		return fmt.Errorf("--as %q: must be %s or %s", o.as, asText, asHex)
	}
	if o.limit <= 0 || o.limit > capture.MaxWindow {
		return fmt.Errorf("--limit %d: must be 1 to %d bytes", o.limit, capture.MaxWindow)
	}
	wanted, err := parseFlowName(o.flow)
	if err != nil {
		return err
	}
	files, forget, err := rereadable(stdin, o.read)
	defer forget()
	if err != nil {
		return err
	}
	followed, err := readFlow(files, wanted, int(o.limit))
	if err != nil {
		return err
	}
	keys, err := o.keyLog(followed.secrets)
	if err != nil {
		return err
	}
	p := printer{out: stdout, hex: o.as == asHex, colours: colorful(stdout)}
	return p.print(tell(followed, keys, o.as == asHex))
}

// keyLog is the keys of the capture itself and of files.
func (o *followOptions) keyLog(embedded []byte) (*decrypt.Keys, error) {
	text := slices.Clone(embedded)
	if _, err := decrypt.ParseKeys(embedded); err != nil {
		return nil, fmt.Errorf("decryption secrets of the capture: %w", err)
	}
	for _, path := range o.keys {
		log, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--keys: %w", err)
		}
		if _, err := decrypt.ParseKeys(log); err != nil {
			return nil, fmt.Errorf("--keys %s: %w", path, err)
		}
		text = append(append(text, '\n'), log...)
	}
	return decrypt.ParseKeys(text)
}

// flowName is how a person names a flow: its number, or its two ends.
type flowName struct {
	number int
	ends   [2]netip.AddrPort
}

func parseFlowName(s string) (flowName, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return flowName{number: n}, nil
	}
	for _, between := range []string{">", "→", "-"} {
		a, b, found := strings.Cut(s, between)
		if !found {
			continue
		}
		from, err1 := netip.ParseAddrPort(strings.TrimSpace(a))
		to, err2 := netip.ParseAddrPort(strings.TrimSpace(b))
		if err1 == nil && err2 == nil {
			return flowName{ends: [2]netip.AddrPort{from, to}}, nil
		}
	}
	return flowName{}, hint(fmt.Errorf("flow %q: must be a number, or two ends as IP:PORT>IP:PORT", s), "\"sealmesh verify --read FILE -o wide\" lists them by number and ends")
}

// means reports whether a flow is the one that is named.
func (n flowName) means(f *capture.Flow) bool {
	if n.number != 0 {
		return f.Number == n.number
	}
	return n.ends == [2]netip.AddrPort{f.Client, f.Server} || n.ends == [2]netip.AddrPort{f.Server, f.Client}
}

// flowKey tells a flow from all others of a capture, in another reading too.
type flowKey struct {
	proto            capture.Proto
	client, server   netip.AddrPort
	macs             [2][6]byte
	vantage, overlay string
}

func keyOfFlow(f *capture.Flow) flowKey {
	return flowKey{f.Proto, f.Client, f.Server, [2][6]byte{f.ClientMAC, f.ServerMAC}, f.Vantage, f.Overlay}
}

// followed is a flow as it was read, and the key log in its capture.
type followed struct {
	*capture.Flow
	number  int // as "sealmesh verify" counts
	secrets []byte
	limit   int
	cut     bool // the capture breaks off
}

// readFlow reads a capture twice: once as "sealmesh verify" does, so that numbers
// mean the same, then with more of the one flow kept.
func readFlow(files []string, wanted flowName, limit int) (*followed, error) {
	var found []flowKey
	var began []time.Time
	var numbers []string
	flows := 0
	_, _, err := readFlows(files, capture.Limits{}, func(f *capture.Flow) {
		flows++
		if wanted.means(f) {
			found, began = append(found, keyOfFlow(f)), append(began, f.First)
			numbers = append(numbers, strconv.Itoa(f.Number))
		}
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, hint(fmt.Errorf("no such flow in the capture: it has %d", flows), "\"sealmesh verify --read FILE -o wide\" lists them by number and ends")
	case len(found) > 1:
		return nil, hint(fmt.Errorf("%d flows have these ends: %s", len(found), strings.Join(numbers, ", ")), "name one by its number")
	}
	result := &followed{limit: limit}
	result.number, _ = strconv.Atoi(numbers[0])
	same := func(f *capture.Flow) bool { return keyOfFlow(f) == found[0] }
	keep := func(f *capture.Flow) int {
		if same(f) {
			return limit + 1023 // the table counts in KiB
		}
		return 0
	}
	result.secrets, result.cut, err = readFlows(files, capture.Limits{Bytes: 256 << 20, Keep: keep}, func(f *capture.Flow) {
		if same(f) && !f.First.After(began[0]) && !f.Last.Before(began[0]) {
			result.Flow = f.Clone()
		}
	})
	if err != nil {
		return nil, err
	}
	if result.Flow == nil {
		return nil, errors.New("the capture has changed while it was read")
	}
	trim(&result.ToServer, limit)
	trim(&result.ToClient, limit)
	return result, nil
}

// trim leaves so many bytes of a direction.
func trim(d *capture.Direction, limit int) {
	for i := range d.Chunks {
		c := &d.Chunks[i]
		if len(c.Data) > limit {
			c.Data, c.Cut, d.Chunks = c.Data[:limit], 0, d.Chunks[:i+1]
			return
		}
		limit -= len(c.Data)
	}
}

// readFlows hands over the flows of capture files. A capture that breaks off is
// read up to there.
func readFlows(files []string, l capture.Limits, each func(*capture.Flow)) (secrets []byte, cut bool, err error) {
	src := capture.Files(files...)
	table := capture.NewTable(l, each)
	err = table.Read(src)
	table.Close()
	if cut = errors.Is(err, io.ErrUnexpectedEOF); cut {
		err = nil
	}
	if s, ok := src.(capture.Secretive); ok {
		secrets = s.Secrets()
	}
	return secrets, cut, err
}

// rereadable makes paths of files that can be read twice: standard input is put
// into one that nobody else can open.
func rereadable(stdin io.Reader, paths []string) (files []string, forget func(), err error) {
	var spool *os.File
	forget = func() {
		if spool != nil {
			_ = spool.Close()
		}
	}
	for _, path := range paths {
		if path == "-" {
			if spool != nil {
				return nil, forget, errors.New("--read -: given twice")
			}
			if spool, err = spooled(stdin); err != nil {
				return nil, forget, err
			}
			path = fmt.Sprintf("/proc/self/fd/%d", spool.Fd())
		}
		files = append(files, path)
	}
	return files, forget, nil
}

// spooled puts what is read into a file without a name.
func spooled(stdin io.Reader) (*os.File, error) {
	if in, ok := stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return nil, hint(errors.New("--read -: standard input is a terminal"), "pipe a capture into it: tcpdump -w - -U | sealmesh follow 1 --read -")
	}
	f, err := os.CreateTemp("", "sealmesh-follow-")
	if err != nil {
		return nil, fmt.Errorf("--read -: %w", err)
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, stdin)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("--read -: %w", err)
	}
	return f, nil
}
