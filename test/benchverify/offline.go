package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// writer writes frames as a capture file.
type writer struct {
	*pcapgo.Writer
	buffer *bufio.Writer
	at     time.Time
}

func newWriter(w io.Writer) (*writer, error) {
	b := bufio.NewWriterSize(w, 1<<20)
	p := pcapgo.NewWriterNanos(b)
	return &writer{p, b, time.Unix(1_700_000_000, 0)}, p.WriteFileHeader(1<<16, layers.LinkTypeEthernet)
}

// emit writes a frame, 50 µs after the one before.
func (w *writer) emit(frame []byte) error {
	w.at = w.at.Add(50 * time.Microsecond)
	return w.WritePacket(gopacket.CaptureInfo{Timestamp: w.at, CaptureLength: len(frame), Length: len(frame)}, frame)
}

// usage is what a process took.
type usage struct {
	wall, cpu time.Duration
	resident  int64 // most, in bytes
}

// measured runs a command to its end. An exit code other than 2 is a result.
func measured(cmd *exec.Cmd) (usage, error) {
	var stderr strings.Builder
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	began := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(began)}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() != 2 && exit.ExitCode() > 0 {
		err = nil
	}
	if err != nil {
		return u, fmt.Errorf("%s: %w: %s", cmd.Args[0], err, stderr.String())
	}
	r := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	u.resident = r.Maxrss << 10
	return u, nil
}

// benchFile reads one file with everyone.
func benchFile(ctx context.Context, c config, t *traffic) error {
	f, err := os.Create(c.file())
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	defer f.Close()
	w, err := newWriter(f)
	if err != nil {
		return err
	}
	total, err := t.generate(func(m made) bool { return m.bytes >= c.size || ctx.Err() != nil }, w.emit)
	if err := errors.Join(err, w.buffer.Flush(), ctx.Err()); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "file: %d packets, %d flows, %.2f GB\n\n", total.packets, total.flows, float64(total.bytes)/1e9)
	fields := []string{
		"frame.number", "tls.handshake.type", "tls.handshake.extensions_server_name", "tls.handshake.ciphersuite",
		"tls.handshake.extensions.supported_version", "tls.handshake.extensions_key_share_group", "tls.handshake.extensions_alpn_str",
	}
	tshark := []string{"tshark", "-n", "-r", c.file(), "-T", "fields"}
	for _, field := range fields {
		tshark = append(tshark, "-e", field)
	}
	verify := []string{c.program, "verify", "--read", c.file()}
	fmt.Fprintf(c.out, "%-28s %12s %8s %10s %10s %10s\n", "", "packets/s", "ratio", "CPU s", "wall s", "resident")
	var base float64
	for _, p := range []struct {
		name    string
		command []string
		env     string
	}{
		{"tshark, TLS fields", tshark, ""},
		{"tcpdump -nn", []string{"tcpdump", "-nn", "-r", c.file()}, ""},
		{"sealmesh verify, one core", verify, "GOMAXPROCS=1"},
		{"sealmesh verify", verify, ""},
	} {
		cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
		cmd.Env = append(os.Environ(), p.env)
		u, err := measured(cmd)
		if err != nil {
			return err
		}
		rate := float64(total.packets) / u.wall.Seconds()
		if base == 0 {
			base = rate
		}
		fmt.Fprintf(c.out, "%-28s %12.0f %7.1fx %10.1f %10.1f %7d MB\n", p.name, rate, rate/base, u.cpu.Seconds(), u.wall.Seconds(), u.resident>>20)
	}
	fmt.Fprintln(c.out)
	return nil
}

// benchMemory pipes a great many flows into one verify.
func benchMemory(ctx context.Context, c config, t *traffic) error {
	cmd := exec.CommandContext(ctx, c.program, "verify", "--read", "-", "-o", "table")
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	var out strings.Builder
	cmd.Stdout = &out
	type sent struct {
		made
		error
	}
	done := make(chan sent, 1)
	go func() {
		defer in.Close()
		w, err := newWriter(in)
		if err != nil {
			done <- sent{error: err}
			return
		}
		m, err := t.generate(func(m made) bool { return m.flows >= c.flows }, w.emit)
		done <- sent{m, errors.Join(err, w.buffer.Flush())}
	}()
	u, err := measured(cmd)
	m := <-done
	if err := errors.Join(err, m.error); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "memory: %d flows, %d packets: %d MB resident, %.1f CPU s\n", m.flows, m.packets, u.resident>>20, u.cpu.Seconds())
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	fmt.Fprintln(c.out, strings.Join(lines[max(0, len(lines)-14):], "\n")+"\n")
	return nil
}
