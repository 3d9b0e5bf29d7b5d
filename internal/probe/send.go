package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/capture/live"
)

// again is how often a datagram is sent until it arrives: the first one may be
// lost while a neighbour is looked for.
const again = 200 * time.Millisecond

// control sends a marker that the seal lets pass, to a listener that expects it.
func control(ctx context.Context, cfg Config, from, to End) (Leg, error) {
	leg := Leg{From: from.Name, To: to.Name, Proto: capture.UDP, Control: true, Seen: []Sighting{}, marker: newMarker("control")}
	leg.answer = leg.marker
	return leg, datagram(ctx, cfg, from, to, &leg, cfg.Mark)
}

// send carries a marker from one end to the other through the seal, and an
// answer back.
func send(ctx context.Context, cfg Config, proto capture.Proto, from, to End) (Leg, error) {
	leg := Leg{
		From: from.Name, To: to.Name, Proto: proto, Seen: []Sighting{},
		marker: newMarker("probe"), answer: newMarker("answer"),
	}
	if proto == capture.UDP {
		return leg, datagram(ctx, cfg, from, to, &leg, 0)
	}
	return leg, stream(ctx, cfg, from, to, &leg)
}

// stream is one TCP connection: a line there, a line back. The error is of the
// listener; what goes wrong on the way is the leg's.
func stream(ctx context.Context, cfg Config, from, to End, leg *Leg) error {
	ln, err := listen(to)
	if err != nil {
		return err
	}
	defer ln.Close()
	leg.Dst = netip.AddrPortFrom(to.Addr, netip.MustParseAddrPort(ln.Addr().String()).Port())
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	answered := make(chan error, 1)
	go func() { answered <- answer(ctx, ln, leg) }()
	if err := ask(ctx, from, leg); err != nil {
		cancel()
		leg.Error = fmt.Sprintf("%v; %v", err, <-answered)
		return nil
	}
	if err := <-answered; err != nil {
		leg.Error = err.Error()
		return nil
	}
	leg.Carried = true
	return nil
}

// ask connects, sends the marker and reads the answer.
func ask(ctx context.Context, from End, leg *Leg) error {
	var conn net.Conn
	err := live.InNamespace(from.Netns, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", leg.Dst.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("%s does not reach %s: %w", from.Name, leg.Dst, err)
	}
	defer conn.Close()
	return exchange(ctx, conn, func(r *bufio.Reader) error {
		if _, err := conn.Write([]byte(leg.marker + "\n")); err != nil {
			return fmt.Errorf("%s cannot send: %w", from.Name, err)
		}
		line, err := r.ReadString('\n')
		if err != nil || line != leg.answer+"\n" {
			return fmt.Errorf("%s got no answer: %w", from.Name, orWrong(err))
		}
		return nil
	})
}

// answer accepts the connection, reads the marker and answers it.
func answer(ctx context.Context, ln net.Listener, leg *Leg) error {
	conn, err := ln.Accept()
	if err != nil {
		return fmt.Errorf("%s was not reached: %w", leg.To, err)
	}
	defer conn.Close()
	return exchange(ctx, conn, func(r *bufio.Reader) error {
		line, err := r.ReadString('\n')
		if err != nil || line != leg.marker+"\n" {
			return fmt.Errorf("%s did not get the marker: %w", leg.To, orWrong(err))
		}
		_, err = conn.Write([]byte(leg.answer + "\n"))
		return err
	})
}

// exchange ends talk when ctx does.
func exchange(ctx context.Context, conn net.Conn, talk func(*bufio.Reader) error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return talk(bufio.NewReaderSize(conn, 256))
}

var errWrong = errors.New("other bytes came")

func orWrong(err error) error {
	if err == nil {
		return errWrong
	}
	return err
}

// datagram sends the leg's marker until it has arrived, and of a leg that is no
// control until the answer has.
func datagram(ctx context.Context, cfg Config, from, to End, leg *Leg, mark int) error {
	receiver, err := open(to, 0)
	if err != nil {
		return err
	}
	defer receiver.Close()
	sender, err := open(from, mark)
	if err != nil {
		return err
	}
	defer sender.Close()
	leg.Dst = netip.AddrPortFrom(to.Addr, receiver.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_, _ = receiver.SetDeadline(time.Unix(1, 0)), sender.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	arrived := make(chan error, 1)
	go func() { arrived <- receive(receiver, leg) }()
	heard := arrived
	if !leg.Control {
		heard = make(chan error, 1)
		go func() { heard <- hear(sender, leg.answer) }()
	}
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if _, err := sender.WriteToUDPAddrPort([]byte(leg.marker), leg.Dst); err != nil && ctx.Err() == nil {
			leg.Error = fmt.Sprintf("%s cannot send to %s: %v", from.Name, leg.Dst, err)
			return nil
		}
		select {
		case err := <-heard:
			if leg.Carried = err == nil; !leg.Carried {
				leg.Error = fmt.Sprintf("%s did not arrive within %s: %v", what(leg), cfg.Timeout, err)
			}
			return nil
		case <-tick.C:
		}
	}
}

func what(leg *Leg) string {
	if leg.Control {
		return "the control at " + leg.To
	}
	return "an answer of " + leg.To
}

// receive waits for the leg's marker and answers it, unless it is a control:
// its sender is outside of the seal and is told nothing. A second answer may be
// needed where the first is lost.
func receive(conn *net.UDPConn, leg *Leg) error {
	buf := make([]byte, 256)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if string(buf[:n]) != leg.marker {
			continue
		}
		if leg.Control {
			return nil
		}
		if _, err := conn.WriteToUDPAddrPort([]byte(leg.answer), from); err != nil {
			return err
		}
	}
}

// hear waits for an answer.
func hear(conn *net.UDPConn, answer string) error {
	buf := make([]byte, 256)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		if string(buf[:n]) == answer {
			return nil
		}
	}
}

// listen opens a TCP listener at an end, on a port of the kernel's choice.
func listen(e End) (ln net.Listener, err error) {
	err = live.InNamespace(e.Netns, func() error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(context.Background(), "tcp", netip.AddrPortFrom(e.Addr, 0).String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe: %s: %w", e.Name, err)
	}
	return ln, nil
}

// open opens a UDP socket at an end, with a mark unless that is 0.
func open(e End, mark int) (conn *net.UDPConn, err error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if mark == 0 {
			return nil
		}
		failed := raw.Control(func(fd uintptr) {
			err = os.NewSyscallError("set mark", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark))
		})
		return errors.Join(failed, err)
	}}
	err = live.InNamespace(e.Netns, func() error {
		pc, err := lc.ListenPacket(context.Background(), "udp", netip.AddrPortFrom(e.Addr, 0).String())
		if err == nil {
			conn = pc.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("probe: %s: %w", e.Name, err)
	}
	return conn, nil
}
