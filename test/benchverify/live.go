package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/test/lab"
)

// Rates that are tried, in packets a second, and for how long.
var rates = []int{50_000, 100_000, 200_000, 300_000, 400_000, 600_000, 800_000}

const liveFor = 5 * time.Second

// outcome of one capture at one rate.
type outcome struct {
	sent, dropped int
	took          time.Duration
	result        string
}

// benchLive sends traffic over a veth at rising rates, to one capture at a time.
func benchLive(ctx context.Context, c config, t *traffic) error {
	l, err := lab.New(ctx, lab.Config{Nodes: 1, IPv4Only: true})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }() // what it leaves, the next lab sweeps
	from, err := l.AddWorkload(l.Nodes[0], "sender")
	if err != nil {
		return err
	}
	var frames [][]byte
	// Sealed ones only: whatever the verdict is not, a loss must make it.
	sealed := t.only("https-tls12", "https-tls13", "https-h2", "https-download", "postgres-tls", "redis-tls", "mqtt-tls", "tls13-aes128")
	_, err = sealed.generate(func(m made) bool { return m.packets >= 2_200_000 }, func(b []byte) error {
		frames = append(frames, append([]byte(nil), b...))
		return nil
	})
	if err != nil {
		return err
	}
	wire := link{from, l.Nodes[0], frames}
	fmt.Fprintf(c.out, "live: over a veth, %s at each rate\n\n%12s %12s %22s %30s\n", liveFor, "asked", "sent/s", "tcpdump -w dropped", "sealmesh verify dropped")
	for _, rate := range rates {
		dump, err := live(ctx, c, wire, rate, watchTcpdump)
		if err != nil {
			return err
		}
		ours, err := live(ctx, c, wire, rate, watchSealmesh)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%12d %12.0f %12d %8.3f %% %12d %8.3f %%  %s\n", rate, float64(ours.sent)/ours.took.Seconds(),
			dump.dropped, share(dump), ours.dropped, share(ours), ours.result)
	}
	return nil
}

func share(o outcome) float64 { return 100 * float64(o.dropped) / float64(max(o.sent, 1)) }

// watcher is a capture that runs on an interface of the node.
type watcher struct {
	cmd  *lab.Cmd
	end  func(*watcher) (dropped int, result string)
	out  strings.Builder
	errs strings.Builder
}

// link is where frames are sent from, and where they are captured.
type link struct {
	from   *lab.Workload
	node   *lab.Node
	frames [][]byte
}

// live sends frames while a capture watches.
func live(ctx context.Context, c config, l link, rate int, watch func(context.Context, config, *lab.Node) *watcher) (outcome, error) {
	w := watch(ctx, c, l.node)
	w.cmd.Stdout, w.cmd.Stderr = &w.out, &w.errs
	if err := w.cmd.Start(); err != nil {
		return outcome{}, err
	}
	if err := awaitRing(ctx, l.node); err != nil {
		return outcome{}, err
	}
	o, err := flood(l.from, l.frames, rate)
	if err != nil {
		return o, err
	}
	if err := w.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return o, err
	}
	_ = w.cmd.Wait() // its exit code is its result
	o.dropped, o.result = w.end(w)
	return o, nil
}

// awaitRing waits until a packet socket is open in the node's namespace.
func awaitRing(ctx context.Context, node *lab.Node) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var table []byte
		err := node.Do(func() (err error) {
			table, err = os.ReadFile("/proc/thread-self/net/packet")
			return err
		})
		if err != nil {
			return err
		}
		if strings.Count(string(table), "\n") > 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no capture began: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

var droppedLine = regexp.MustCompile(`(\d+) packets? dropped by kernel`)

func watchTcpdump(ctx context.Context, c config, node *lab.Node) *watcher {
	file := filepath.Join(c.dir, "live.pcap")
	return &watcher{
		cmd: node.Command(ctx, "tcpdump", "-n", "-Z", "root", "-i", veth, "-w", file),
		end: func(w *watcher) (int, string) {
			_ = os.Remove(file) // the directory is removed as well
			m := droppedLine.FindStringSubmatch(w.errs.String())
			if m == nil {
				return -1, ""
			}
			n, _ := strconv.Atoi(m[1]) // digits
			return n, ""
		},
	}
}

var droppedJSON = regexp.MustCompile(`"dropped": (\d+)`)
var resultJSON = regexp.MustCompile(`"result": "(\w+)"`)

func watchSealmesh(ctx context.Context, c config, node *lab.Node) *watcher {
	program, err := filepath.Abs(c.program)
	if err != nil {
		program = c.program
	}
	return &watcher{
		cmd: node.Command(ctx, program, "verify", "--iface", veth, "-o", "json"),
		end: func(w *watcher) (int, string) {
			m, r := droppedJSON.FindStringSubmatch(w.out.String()), resultJSON.FindStringSubmatch(w.out.String())
			if m == nil || r == nil {
				return -1, "no verdict: " + w.errs.String()
			}
			n, _ := strconv.Atoi(m[1]) // digits
			return n, r[1]
		},
	}
}

// veth is the node's end of the sender's link, as the lab names it.
const veth = "w11"

// flood sends all frames again and again, at a rate, from the workload's end of the
// link.
func flood(from *lab.Workload, frames [][]byte, rate int) (o outcome, err error) {
	err = from.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index}); err != nil {
			return err
		}
		began := time.Now()
		for time.Since(began) < liveFor { // and no conversation is left half said
			for _, frame := range frames {
				for o.sent >= int(time.Since(began).Seconds()*float64(rate)) {
				}
				if _, err := unix.Write(fd, frame); err != nil {
					return fmt.Errorf("send: %w", err)
				}
				o.sent++
			}
		}
		o.took = time.Since(began)
		return nil
	})
	return o, err
}
