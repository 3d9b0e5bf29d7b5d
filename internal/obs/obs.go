// Package obs is how every part of Sealmesh logs: one handler, one list of keys.
package obs

import (
	"fmt"
	"io"
	"log/slog"
)

// Keys of log attributes. A name means the same in every line.
const (
	KeyDirection = "direction" // outbound or inbound
	KeyClient    = "client"    // ip:port of the application that connected
	KeyServer    = "server"    // ip:port the application meant
	KeyLocal     = "local"     // own identity
	KeyPeer      = "peer"      // identity of the other end
	KeySeal      = "seal"      // mtls or plaintext
	KeyReason    = "reason"    // policy.Reason
	KeyDetail    = "detail"    // one clause for a person
	KeyError     = "error"
	KeySent      = "bytes_sent"
	KeyReceived  = "bytes_received"
	KeyDuration  = "duration"
	KeyWorkload  = "workload"
	KeyVersion   = "version"
	KeySerial    = "serial"
	KeyExpires   = "expires"
	KeyCode      = "code"
	KeyAddress   = "address"
	KeyCount     = "count"
	KeyPath      = "path"
	KeyRetry     = "retry_in" // until the next try
	KeyRenewal   = "renewal"  // when a certificate is to be renewed
	KeyIssuer    = "issuer"   // subject of the certificate that signs
	KeyPID       = "pid"
	KeyUID       = "uid"   // user that asks
	KeyAsked     = "asked" // how many were asked for, 0 for all
	KeyRules     = "rules" // number of redirection rules
	KeyNetNS     = "netns" // path of a network namespace
	KeyDrift     = "drift" // what differed from the rules wanted
)

// NewLogger makes the logger of a process. Format is text or json, level one of
// debug, info, warn and error.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: must be debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log format %q: must be text or json", format)
}
