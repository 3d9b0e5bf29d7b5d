package keylog

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealmesh/sealmesh/internal/obs"
)

// Bounds of one exchange: a request is one line of JSON, the answer another one
// and the key log after it.
const (
	exchangeTime = 5 * time.Second
	maxRequest   = 1 << 20
	maxAnswer    = 64 << 20
	maxExchanges = 8
	// MaxSessions is how many sessions one request may name.
	MaxSessions = 8 << 10
)

// request names sessions in hex, or asks for all.
type request struct {
	Sessions []string `json:"sessions,omitempty"`
	All      bool     `json:"all,omitempty"`
}

// answer says how long the key log is that follows, or why there is none.
type answer struct {
	Sessions int      `json:"sessions"`
	Bytes    int      `json:"bytes"`
	Refused  *Refusal `json:"refused,omitempty"`
}

// Code says why secrets were not told.
type Code string

// The codes of a Refusal.
const (
	// CodeDenied: the Mesh does not allow it.
	CodeDenied Code = "denied"
	// CodeCaller: who asks is neither root nor the user who runs the mesh.
	CodeCaller Code = "caller"
	// CodeMalformed: the request cannot be read.
	CodeMalformed Code = "malformed"
)

// Refusal is why secrets were not told. Ask returns it as it was sent.
type Refusal struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// Error is the message.
func (r *Refusal) Error() string { return r.Message }

// Serve answers on a socket until ctx ends, which closes it. It answers root and
// the user who opened the socket, and logs every use.
func (k *Keeper) Serve(ctx context.Context, l *net.UnixListener, log *slog.Logger) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	owner := 0 // fails closed: root alone
	if opened, err := credentials(l); err == nil {
		owner = int(opened.Uid)
	}
	var exchanges sync.WaitGroup
	defer exchanges.Wait()
	slots := make(chan struct{}, maxExchanges)
	for {
		slots <- struct{}{}
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				log.Error("key log is not served any more", obs.KeyError, err.Error())
			}
			return
		}
		exchanges.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			k.exchange(conn, owner, log)
		})
	}
}

// exchange serves one caller: who it is, what it asks for, whether it may have it.
func (k *Keeper) exchange(conn *net.UnixConn, owner int, log *slog.Logger) {
	_ = conn.SetDeadline(time.Now().Add(exchangeTime))
	who, err := credentials(conn)
	if err != nil {
		log.Error("key log refused: who asks is not known", obs.KeyError, err.Error())
		return
	}
	log = log.With(obs.KeyUID, who.Uid, obs.KeyPID, who.Pid)
	var sessions []Random
	var text []byte
	count := 0
	refusal := admit(int(who.Uid), owner)
	if refusal == nil {
		sessions, refusal = read(conn)
	}
	if refusal == nil {
		var allowed bool
		if text, count, allowed = k.Tell(sessions); !allowed {
			refusal = &Refusal{CodeDenied, "the Mesh does not allow it: debug.keyLog is Denied"}
		}
	}
	defer clear(text)
	if refusal != nil {
		log.Warn("key log refused", obs.KeyCode, string(refusal.Code), obs.KeyDetail, refusal.Message)
	} else {
		// Before it is told: a use that is not logged must not be possible.
		log.Warn("key log read", obs.KeyCount, count, obs.KeyAsked, len(sessions))
	}
	head, err := json.Marshal(answer{Sessions: count, Bytes: len(text), Refused: refusal})
	if err != nil {
		return
	}
	if _, err := conn.Write(append(head, '\n')); err == nil {
		_, _ = conn.Write(text)
	}
}

// admit lets in root and the owner of the socket. Fails closed.
func admit(uid, owner int) *Refusal {
	if uid == 0 || uid == owner {
		return nil
	}
	return &Refusal{CodeCaller, fmt.Sprintf("user %d: only root and the user who runs the mesh may read session secrets", uid)}
}

// read takes a request; no session means all.
func read(conn io.Reader) ([]Random, *Refusal) {
	malformed := func(format string, args ...any) *Refusal {
		return &Refusal{CodeMalformed, fmt.Sprintf("request: "+format, args...)}
	}
	decoder := json.NewDecoder(io.LimitReader(conn, maxRequest))
	decoder.DisallowUnknownFields()
	var req request
	if err := decoder.Decode(&req); err != nil {
		return nil, malformed("%v", err)
	}
	if req.All == (len(req.Sessions) > 0) || len(req.Sessions) > MaxSessions {
		return nil, malformed("must name 1 to %d sessions, or ask for all", MaxSessions)
	}
	sessions := make([]Random, len(req.Sessions))
	for i, text := range req.Sessions {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(sessions[i]) {
			return nil, malformed("session %q: must be the %d bytes of a ClientHello's random in hex", text, len(sessions[i]))
		}
		copy(sessions[i][:], b)
	}
	return sessions, nil
}

// Ask asks the proxy behind a socket for the key log of sessions, or of all it has
// if none is named. Sessions it does not know are left out; count is those it knew.
// What the proxy refuses is a *Refusal.
func Ask(ctx context.Context, path string, sessions []Random) (text []byte, count int, err error) {
	conn, err := (&net.Dialer{Timeout: exchangeTime}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, 0, fmt.Errorf("key log: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(exchangeTime))
	req := request{All: len(sessions) == 0}
	for _, s := range sessions {
		req.Sessions = append(req.Sessions, hex.EncodeToString(s[:]))
	}
	// An answer may come before the request is read: it then says why.
	_ = json.NewEncoder(conn).Encode(req)
	in := bufio.NewReader(io.LimitReader(conn, maxAnswer))
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, 0, fmt.Errorf("key log: %s does not answer: %w", path, err)
	}
	var head answer
	if err := json.Unmarshal(line, &head); err != nil || head.Bytes < 0 || head.Bytes > maxAnswer {
		return nil, 0, fmt.Errorf("key log: %s answers nonsense", path)
	}
	if head.Refused != nil {
		return nil, 0, head.Refused
	}
	text = make([]byte, head.Bytes)
	if _, err := io.ReadFull(in, text); err != nil {
		return nil, 0, fmt.Errorf("key log: the answer of %s breaks off: %w", path, err)
	}
	return text, head.Sessions, nil
}

// Listen opens the socket that Serve answers on. Everybody may connect, so that who
// may not ask is told so and logged.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("key log socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("key log socket: %w", err)
	}
	l.SetUnlinkOnClose(false)                     // others may hold it
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // Serve looks at who asks
		_ = l.Close()
		return nil, fmt.Errorf("key log socket: %w", err)
	}
	return l, nil
}

// credentials are those of the process that connected, or that began to listen.
func credentials(conn syscall.Conn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var who *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		who, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return who, errors.Join(cerr, err)
}
