package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/capture/live"
	"github.com/sealmesh/sealmesh/internal/capture/pcapng"
)

// captureOptions are the flags of "sealmesh capture".
type captureOptions struct {
	targets     []target
	dir         string
	dirNamed    bool
	write       string
	loopback    bool
	snaplen     int
	filter      filterOptions
	duration    time.Duration
	count       int
	fileSize    byteSize
	files       int
	comments    bool
	application string
	// decrypt is whom to ask for the keys of sessions; nil, or returns nil, if they
	// are not wanted.
	decrypt func(context.Context, atlas) (askKeys, error)
	use     string // of decryption secrets, as the file tells it

	stdout, stderr io.Writer
}

// filterOptions are the flags of a filter.
type filterOptions struct {
	ports, peers, protos []string
	notLoopback          bool
}

func captureCommand(version string) *cobra.Command {
	o := captureOptions{application: "sealmesh " + version}
	c := &cobra.Command{
		Use:   "capture TARGET… -w FILE",
		Short: "Capture workloads and nodes into a file that names them",
		Long: `Capture workloads and nodes into a pcapng file that names them: Wireshark shows
workloads and services by name, which way packets went, and on which of them a
verdict was reached.

A target is workload/NAMESPACE/NAME or NAMESPACE/NAME, node/NAME (its uplinks),
netns/NAME or netns//PATH, or iface/NAME. Packets are taken inside the network
namespace of a workload, where all of its interfaces are captured, loopback only
with --loopback. Ctrl-C ends in order; packets that the kernel dropped are counted
in the file and told at the end.

A filter spares work. What it cannot judge passes: fragments, and what is inside
tunnels. "sealmesh verify" takes none.`,
		Example: `  sealmesh capture shop/web shop/cart -w shop.pcapng --for 30s
  sealmesh capture node/n1 -w - | wireshark -k -i -
  sealmesh capture iface/eth0 -w ring.pcapng --file-size 10MB --files 5 --port 443`,
		Args: cobra.ArbitraryArgs,
	}
	f := c.Flags()
	f.SortFlags = false // as they are needed
	f.StringVarP(&o.write, "write", "w", "", "`FILE` to write; \"-\" is standard output")
	f.DurationVar(&o.duration, "for", 0, "how long to capture, such as 30s (default: until Ctrl-C)")
	f.IntVar(&o.count, "count", 0, "end after so many packets")
	dir := flagDir(c)
	f.BoolVar(&o.loopback, "loopback", false, "capture loopback, too")
	f.StringSliceVar(&o.filter.ports, "port", nil, "only these ports, at either end")
	f.StringSliceVar(&o.filter.peers, "peer", nil, "only these addresses, prefixes, workloads or nodes, at either end")
	f.StringSliceVar(&o.filter.protos, "proto", nil, "only these protocols: "+strings.Join(live.Protos(), ", "))
	f.BoolVar(&o.filter.notLoopback, "not-loopback", false, "leave out packets from or to loopback addresses")
	f.IntVar(&o.snaplen, "snaplen", 0, fmt.Sprintf("bytes to keep of a packet, at most %d (default: all)", live.MaxSnapLen))
	f.Var(&o.fileSize, "file-size", "go on in a next file when one is this large, such as 10MB")
	f.IntVar(&o.files, "files", 0, "how many of those files to keep, the newest (default: all)")
	f.BoolVar(&o.comments, "comments", true, "comment packets where a verdict is reached")
	flagDecrypt(c, &o)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		o.dir, o.dirNamed = *dir, cmd.Flags().Changed("file")
		o.stdout, o.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
		switch {
		case len(args) == 0:
			return hint(errors.New("no target is named"), "name one: %s", targetForms)
		case o.write == "":
			return hint(errors.New("-w: no file is named"), "sealmesh capture %s -w capture.pcapng", shellLine(args))
		}
		for _, arg := range args {
			t, err := parseTarget(arg)
			if err != nil {
				return err
			}
			o.targets = append(o.targets, t)
		}
		return o.run(cmd.Context())
	}
	return c
}

// run captures until ctx ends, or what was asked for is there.
func (o *captureOptions) run(ctx context.Context) (err error) {
	if err := o.validate(); err != nil {
		return err
	}
	a, err := openAtlas(o.dir, o.dirNamed, o.loopback)
	if err != nil {
		return err
	}
	filter, err := o.filter.parse(a)
	if err != nil {
		return err
	}
	var ask askKeys
	if o.decrypt != nil {
		if ask, err = o.decrypt(ctx, a); err != nil {
			return err
		}
	}
	// Whoever reads our output may go away before we do; writing fails then, and all
	// ends in order.
	signal.Ignore(syscall.SIGPIPE)
	ctx, end := context.WithCancel(ctx)
	defer end()
	packets, err := captureLive(ctx, a, o.targets, live.Config{SnapLen: o.snaplen, Filter: filter})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, packets.Close()) }()
	file, err := o.open(packets, filter, a.names())
	if err != nil {
		return err
	}
	fmt.Fprintln(o.stderr, packets.announce())
	if o.duration > 0 {
		timer := time.AfterFunc(o.duration, end)
		defer timer.Stop()
	}
	r := &recorder{packets: packets, file: file, limit: o.count, judge: newCommentator(), comments: o.comments}
	if ask != nil {
		r.keys = &keyring{ask: ask, ctx: context.WithoutCancel(ctx), file: file, wanted: map[string]time.Time{}}
		r.judge.patient = true
	}
	err = r.record()
	missed := packets.missed()
	if closed := file.Close(); err == nil && !errors.Is(closed, unix.EPIPE) {
		err = closed
	}
	o.summarize(packets, r)
	if missed != "" && (err == nil || errors.Is(err, live.ErrGone)) {
		err = fmt.Errorf("the capture is not whole: %s", missed)
	}
	return err
}

// validate reports what cannot be, before anything is opened.
func (o *captureOptions) validate() error {
	ring := pcapng.Ring{Size: int64(o.fileSize), Files: o.files}
	if err := ring.Validate(); err != nil {
		return hint(err, "such as --file-size 10MB --files 5")
	}
	if o.write == "-" && ring != (pcapng.Ring{}) {
		return errors.New("--file-size and --files: standard output is one stream")
	}
	if out, ok := o.stdout.(*os.File); ok && o.write == "-" && term.IsTerminal(int(out.Fd())) {
		return hint(errors.New("standard output is a terminal, and a capture is not text"), "name a file with -w, or add \"| wireshark -k -i -\"")
	}
	if o.count < 0 || o.duration < 0 {
		return errors.New("--count and --for must not be negative")
	}
	if o.snaplen < 0 || o.snaplen > live.MaxSnapLen {
		return fmt.Errorf("--snaplen %d: must be 1 to %d bytes, or 0 for all", o.snaplen, live.MaxSnapLen)
	}
	return nil
}

// parse is the filter that the flags mean.
func (o filterOptions) parse(a atlas) (live.Filter, error) {
	f := live.Filter{NotLoopback: o.notLoopback}
	for _, s := range o.ports {
		port, err := strconv.ParseUint(s, 10, 16)
		if err != nil || port == 0 {
			return f, fmt.Errorf("--port %q: must be 1 to 65535", s)
		}
		f.Ports = append(f.Ports, uint16(port))
	}
	for _, s := range o.peers {
		prefixes, err := a.peer(s)
		if err != nil {
			return f, fmt.Errorf("--peer %w", err)
		}
		f.Peers = append(f.Peers, prefixes...)
	}
	for _, s := range o.protos {
		f.Protos = append(f.Protos, capture.Proto(s))
	}
	return f, f.Validate()
}

// open begins the file.
func (o *captureOptions) open(packets *liveCapture, filter live.Filter, names []pcapng.Name) (*pcapng.File, error) {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	head := pcapng.Head{
		Application: o.application,
		OS:          unix.ByteSliceToString(uts.Sysname[:]) + " " + unix.ByteSliceToString(uts.Release[:]),
		Hardware:    unix.ByteSliceToString(uts.Machine[:]),
		Comment:     strings.Join(o.notes(packets), "; "),
		Interfaces:  packets.interfaces(filter),
		Names:       names,
	}
	if o.write == "-" {
		return pcapng.Stream(o.stdout, head, packets.endings)
	}
	file, err := pcapng.Create(o.write, head, pcapng.Ring{Size: int64(o.fileSize), Files: o.files}, packets.endings)
	if err != nil {
		return nil, fmt.Errorf("-w: %w", err)
	}
	return file, nil
}

// notes are what a file says of itself.
func (o *captureOptions) notes(packets *liveCapture) []string {
	if o.use == "" {
		return packets.notes
	}
	return append(slices.Clone(packets.notes), o.use)
}

// summarize says what was captured, and what was not.
func (o *captureOptions) summarize(packets *liveCapture, r *recorder) {
	tw := tabwriter.NewWriter(o.stderr, 0, 0, 2, ' ', 0)
	for i, s := range packets.statistics() {
		fmt.Fprintf(tw, "%s\t%s\t%d dropped by the kernel\n", packets.vantages[i].name, counted(r.written[i], "packet"), s.Dropped)
	}
	_ = tw.Flush()
	switch {
	case r.keys == nil:
	case r.keys.found == 0:
		fmt.Fprintln(o.stderr, "the file holds no keys: no lane whose beginning was captured had any")
	default:
		fmt.Fprintf(o.stderr, "the file holds the keys of %s: whoever has it reads what they carried\n", counted(r.keys.found, "session"))
	}
	if o.write != "-" {
		fmt.Fprintln(o.stderr, "wrote", strings.Join(r.file.Paths(), ", "))
	}
}

// counted is a number of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// recorder writes packets as they come.
type recorder struct {
	packets  *liveCapture
	file     *pcapng.File
	judge    *commentator
	comments bool     // are written
	keys     *keyring // nil if none are wanted
	limit    int      // of packets; 0 is none
	written  []int    // by interface
}

// record returns nil at the end of the capture, at the limit, and when nobody reads
// any more.
func (r *recorder) record() error {
	r.written = make([]int, len(r.packets.handles))
	r.packets.Idle = r.idle
	if r.keys != nil {
		r.packets.Every = keysEvery
	}
	var f capture.Frame
	for n := 0; r.limit == 0 || n < r.limit; n++ {
		err := r.packets.Next(&f)
		if err == nil {
			err = r.write(&f)
		}
		if errors.Is(err, unix.EPIPE) {
			return nil
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.Join(err, r.end())
		}
	}
	return r.end()
}

// idle uses the time until the next packet.
func (r *recorder) idle() error {
	if r.keys != nil {
		if err := r.keys.turn(); err != nil {
			return err
		}
	}
	return r.file.Flush()
}

// end writes what waits for keys.
func (r *recorder) end() error {
	if r.keys == nil {
		return nil
	}
	return r.keys.end()
}

// write adds one packet to the file.
func (r *recorder) write(f *capture.Frame) error {
	i, direction := r.packets.Origin()
	p := pcapng.Packet{Interface: i, Time: f.Time, Data: f.Data, Length: f.Length, Direction: pcapng.Inbound}
	if direction == live.Outbound {
		p.Direction = pcapng.Outbound
	}
	if r.comments || r.keys != nil {
		p.Comment = r.judge.comment(f)
	}
	if !r.comments {
		p.Comment = ""
	}
	r.written[i]++
	if r.keys == nil {
		return r.file.Packet(&p)
	}
	r.keys.want(r.judge.session)
	return r.keys.packet(&p)
}
