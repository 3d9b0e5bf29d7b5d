// Package verify judges flows: sealed how, plaintext with the bytes that show
// it, or not enough seen to say. It is pure: it takes what package capture read
// and touches no file, network or clock.
//
//	no payload at all ───────────────────────────────────────────► silent
//	both hellos, and every record after them as TLS has it,
//	  with a cipher that encrypts and nothing readable inside ───► tls
//	bytes that a person can read, outside of a handshake ────────► plaintext
//	everything else, random-looking bytes included ──────────────► unknown
//
// Calling something sealed that is not is the worst bug this package can have.
// So a flow whose beginning was not captured, that has gaps or contradicting
// bytes, or whose handshake did not complete is unknown, never tls; and one
// readable piece makes plaintext of a flow that looks like TLS otherwise.
package verify

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Verdict is what a flow was found to be.
type Verdict string

// The verdicts.
const (
	// TLS: both hellos were seen, and consistent records in both directions.
	TLS Verdict = "tls"
	// Plaintext: the evidence is the bytes.
	Plaintext Verdict = "plaintext"
	// Unknown: neither could be shown. High entropy is not encryption.
	Unknown Verdict = "unknown"
	// Silent: no payload in either direction.
	Silent Verdict = "silent"
)

// Finding is the judgement of one flow.
type Finding struct {
	// Src opened the flow toward Dst, as far as the capture tells: "ip:port".
	Src     string  `json:"src"`
	Dst     string  `json:"dst"`
	Proto   string  `json:"proto"` // "tcp"
	Verdict Verdict `json:"verdict"`
	// Seal is "tls", or empty if the flow was not found sealed.
	Seal string `json:"seal"`
	// TLS is set if both hellos were read, whatever the verdict.
	TLS *TLSInfo `json:"tls,omitempty"`
	// Protocol of a plaintext: "http", "text", or "tls" for TLS that does not
	// encrypt.
	Protocol string    `json:"protocol,omitempty"`
	Evidence *Evidence `json:"evidence,omitempty"`
	// Reason says why the verdict is unknown.
	Reason string `json:"reason,omitempty"`
	// Packets and Bytes of payload, from Src and from Dst.
	Packets [2]int   `json:"packets"`
	Bytes   [2]int64 `json:"bytes"`
}

// TLSInfo is what the hellos of a connection say.
type TLSInfo struct {
	Version     string   `json:"version"` // "1.3"
	Cipher      string   `json:"cipher"`
	Group       string   `json:"group,omitempty"` // TLS 1.3 only
	SNI         string   `json:"sni,omitempty"`
	ALPNOffered []string `json:"alpn_offered,omitempty"`
	// Handshake is "seen".
	Handshake string `json:"handshake"`
	// Random of the ClientHello in hex, by which a proxy's own record of the
	// connection is found.
	Random string `json:"random"`
}

// Evidence is the bytes that show a plaintext.
type Evidence struct {
	// Text is the bytes in readable form: what is not printable is escaped.
	Text string `json:"text"`
	Hex  string `json:"hex"`
	// Packet is the number of the packet in the file, from 1.
	Packet int `json:"packet"`
}

// Judge judges one flow.
func Judge(f *capture.Flow) Finding {
	found := Finding{
		Src: f.Client.String(), Dst: f.Server.String(), Proto: "tcp",
		Packets: [2]int{f.ToServer.Packets, f.ToClient.Packets},
		Bytes:   [2]int64{f.ToServer.Bytes, f.ToClient.Bytes},
	}
	if silent(&f.ToServer) && silent(&f.ToClient) {
		found.Verdict = Silent
		return found
	}
	if speaksSSH(&f.ToServer) && speaksSSH(&f.ToClient) {
		found.Verdict, found.Reason = Unknown, "ssh, whose records are not read here"
		return found
	}
	conn, err := readTLS(f)
	found.TLS = conn
	if protocol, evidence := readable(f); evidence != nil {
		found.Verdict, found.Protocol, found.Evidence = Plaintext, protocol, evidence
		return found
	}
	switch {
	case err != nil:
		found.Verdict, found.Reason = Unknown, err.Error()
	case plainSuite(conn.Cipher):
		found.Verdict, found.Protocol = Plaintext, "tls"
		found.Evidence = &Evidence{Text: conn.Cipher}
	case strings.HasPrefix(conn.Cipher, "0x"):
		found.Verdict, found.Reason = Unknown, "whether cipher suite "+conn.Cipher+" encrypts is not known here"
	default:
		found.Verdict, found.Seal = TLS, "tls"
	}
	return found
}

// silent reports whether a direction carried no byte, seen or unseen.
func silent(d *capture.Direction) bool { return d.Bytes == 0 && d.Missing == 0 }

// complete says why the kept bytes of a direction are not all there is of it, or
// nil if they are. Nothing can be shown about a flow with holes.
func complete(d *capture.Direction, name string) error {
	switch {
	case !d.Began:
		return fmt.Errorf("the beginning of what the %s sent was not captured", name)
	case d.Conflict:
		return fmt.Errorf("the %s sent bytes again with another content", name)
	case d.Missing > 0 && len(d.Start()) < capture.Window:
		return fmt.Errorf("%d bytes of what the %s sent were not captured", d.Missing, name)
	case len(d.Start()) == 0:
		return fmt.Errorf("the %s sent nothing", name)
	}
	return nil
}

// speaksSSH reports whether a direction begins with the banner of RFC 4253,
// section 4.2.
func speaksSSH(d *capture.Direction) bool {
	return bytes.HasPrefix(d.Start(), []byte("SSH-2.0-"))
}
