// Package verify judges flows: sealed how, plaintext with the bytes that show
// it, or not enough seen to say. It is pure: it takes what package capture read
// and touches no file, network or clock.
//
//	flow ──► recognizers, in order, until one knows it ──► finding ──► ledger ──► report
//	         tls.go dtls.go quic.go wireguard.go ssh.go        ledger.go  report.go
//	         ipsec.go clear.go: what is left
//
// Calling something sealed that is not is the worst bug this package can have.
// So what encrypts must be shown, by its own framing and in both directions;
// whatever contradicts it makes the flow unknown; and one readable piece makes
// it plaintext. High entropy is not encryption.
package verify

import (
	"net"
	"net/netip"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// Verdict is what a flow was found to be.
type Verdict string

// The verdicts.
const (
	// TLS: both hellos were seen and consistent records in both directions, or
	// only such records (TLSInfo.Handshake says which).
	TLS Verdict = "tls"
	// DTLS and QUIC: the same over datagrams.
	DTLS Verdict = "dtls"
	QUIC Verdict = "quic"
	// WireGuard: a handshake pair, a handshake addressed to a known key, or
	// several data messages of one session.
	WireGuard Verdict = "wireguard"
	// IPsec, MACsec and SSH: recognised by their own framing.
	IPsec  Verdict = "ipsec"
	MACsec Verdict = "macsec"
	SSH    Verdict = "ssh"
	// Plaintext: the evidence is the bytes.
	Plaintext Verdict = "plaintext"
	// Unknown: neither could be shown.
	Unknown Verdict = "unknown"
	// Silent: no payload in either direction.
	Silent Verdict = "silent"
)

// Verdicts are all there are, those that seal first.
var Verdicts = []Verdict{TLS, WireGuard, DTLS, QUIC, IPsec, MACsec, SSH, Plaintext, Unknown, Silent}

// Seals reports whether v is one of the verdicts that say a flow is encrypted.
func (v Verdict) Seals() bool {
	switch v {
	case TLS, DTLS, QUIC, WireGuard, IPsec, MACsec, SSH:
		return true
	}
	return false
}

// Finding is the judgement of one flow.
type Finding struct {
	// Number of the flow in the capture, from 1; "sealmesh follow" takes it.
	Number int `json:"number"`
	// Src opened the flow toward Dst, as far as the capture tells: "ip:port", an
	// address alone where the protocol has no ports, or a MAC address.
	Src     string        `json:"src"`
	Dst     string        `json:"dst"`
	Proto   capture.Proto `json:"proto"`
	Verdict Verdict       `json:"verdict"`
	// Seal is "mtls" if proxies attest both ends, else the verdict if that is one
	// that seals, else empty. It is empty too where what encrypts is broken
	// (see Weak) or proves nobody's identity.
	Seal string `json:"seal"`
	// Protocol inside or instead: "http", "postgresql", "text", …; of TLS that
	// does not encrypt "tls".
	Protocol string `json:"protocol,omitempty"`
	// TLS is what the hellos said, of TLS, DTLS and QUIC, whatever the verdict.
	TLS       *TLSInfo       `json:"tls,omitempty"`
	WireGuard *WireGuardInfo `json:"wireguard,omitempty"`
	SSH       *SSHInfo       `json:"ssh,omitempty"`
	// Upgrade is set if another protocol led to TLS in the same connection.
	Upgrade  *Upgrade     `json:"upgrade,omitempty"`
	Attested *Attestation `json:"attested,omitempty"`
	// Decrypted is who the ends proved to be inside of TLS, read with session
	// secrets.
	Decrypted *Peers    `json:"decrypted,omitempty"`
	Evidence  *Evidence `json:"evidence,omitempty"`
	// Weak says what of the seal is out of date or broken, such as "SSL 3.0".
	Weak []string `json:"weak,omitempty"`
	// Reason says why the verdict is unknown.
	Reason string `json:"reason,omitempty"`
	// Notes are worth knowing and change no verdict.
	Notes []string `json:"notes,omitempty"`
	// Vantage and Overlay: see capture.Flow.
	Vantage string `json:"vantage,omitempty"`
	Overlay string `json:"overlay,omitempty"`
	// Packets and Bytes of payload, from Src and from Dst.
	Packets [2]int   `json:"packets"`
	Bytes   [2]int64 `json:"bytes"`
	// Midstream: its beginning was not captured. OneWay: only one direction was.
	Midstream bool `json:"midstream,omitempty"`
	OneWay    bool `json:"one_way,omitempty"`
	// Exempt is the reason of the exemption that covers it, or empty.
	Exempt string `json:"exempt"`
	// Violates says which expectation the flow does not meet, and how.
	Violates string `json:"violates,omitempty"`

	expected bool // it meets an expectation
}

// TLSInfo is what the hellos of a connection say.
type TLSInfo struct {
	// Version is "1.3", "1.2", …; "SSL 3.0", "SSL 2.0".
	Version string `json:"version,omitempty"`
	// Cipher suite by its IANA name.
	Cipher string `json:"cipher,omitempty"`
	// Group of the key exchange by its IANA name, as far as it was in clear.
	Group       string   `json:"group,omitempty"`
	SNI         string   `json:"sni,omitempty"`
	ALPNOffered []string `json:"alpn_offered,omitempty"`
	// ALPN that was agreed on, as far as it was in clear: before TLS 1.3.
	ALPN string `json:"alpn,omitempty"`
	// Handshake is "seen", or "unseen" if only records were.
	Handshake string `json:"handshake"`
	// Resumed by a session or a ticket; Retried by a HelloRetryRequest; ECH:
	// the client sent an encrypted hello, so that SNI is the public name.
	Resumed bool `json:"resumed,omitempty"`
	Retried bool `json:"retried,omitempty"`
	ECH     bool `json:"ech,omitempty"`
	// ServerCert and ClientCert are the leaf certificates, as far as they were
	// in clear: before TLS 1.3. ClientCertRequested likewise.
	ServerCert          *Certificate `json:"server_certificate,omitempty"`
	ClientCert          *Certificate `json:"client_certificate,omitempty"`
	ClientCertRequested bool         `json:"client_certificate_requested,omitempty"`
	// Alert in clear, such as "client: handshake_failure".
	Alert string `json:"alert,omitempty"`
	// Random of the ClientHello in hex, by which a proxy's own record of the
	// connection is found.
	Random string `json:"random,omitempty"`
	// Wire version of QUIC, such as "v1".
	QUICVersion string `json:"quic_version,omitempty"`
}

// Certificate is what tells one from another.
type Certificate struct {
	Subject  string   `json:"subject"`
	Issuer   string   `json:"issuer"`
	Names    []string `json:"names,omitempty"` // DNS, IP and URI
	NotAfter string   `json:"not_after"`       // RFC 3339
	SHA256   string   `json:"sha256"`
}

// WireGuardInfo is what is seen of a WireGuard session.
type WireGuardInfo struct {
	// Handshake is "seen" or "unseen".
	Handshake string `json:"handshake"`
	// Client and Server are the names of the public keys that handshake messages
	// were addressed to, where they are known, by mac1.
	Client string `json:"client,omitempty"`
	Server string `json:"server,omitempty"`
	// Messages of data.
	Messages int `json:"messages"`
}

// SSHInfo is what both ends of SSH agreed on in clear.
type SSHInfo struct {
	Client string `json:"client"` // software, from the banner
	Server string `json:"server"`
	Kex    string `json:"kex,omitempty"`
	Cipher string `json:"cipher,omitempty"` // both directions, "a / b" if they differ
}

// Upgrade is what stood in clear before TLS began in the same connection.
type Upgrade struct {
	// From is the protocol: "smtp", "imap", "pop3", "xmpp", "ldap", "ftp", "irc",
	// "nntp", "sieve", "postgresql", "mysql", "amqp", "tds", "rdp", "vnc", "proxy" (the
	// PROXY protocol), "http-connect", "socks4", "socks5", "http" or "text".
	From string `json:"from"`
	// Bytes in clear, from Src and from Dst.
	Bytes [2]int64 `json:"bytes"`
}

// Attestation is what the proxies say of a flow. It is their word, not seen on
// the wire.
type Attestation struct {
	// Client and Server are SPIFFE IDs.
	Client string `json:"client"`
	Server string `json:"server"`
	// By says whose word it is: "client", "server" or "both".
	By string `json:"by"`
}

// Peers are SPIFFE IDs; one that is not known is empty.
type Peers struct {
	Client string `json:"client"`
	Server string `json:"server"`
}

// Evidence is the bytes that show a plaintext.
type Evidence struct {
	// Text is the bytes in readable form: what is not printable is escaped.
	Text string `json:"text"`
	Hex  string `json:"hex"`
	// Packet is the number of the packet in the file, from 1.
	Packet int `json:"packet"`
	// From is "client" or "server".
	From string `json:"from"`
}

// Knowledge is what a judge may know beside the flow itself.
type Knowledge struct {
	// WireGuardKeys are public keys by the name to show for them.
	WireGuardKeys map[string][32]byte
}

// recognizer fills a finding and returns true if it knows what the flow is.
type recognizer func(*capture.Flow, Knowledge, *Finding) bool

// recognizers of a protocol, in order; what none knows is unknown.
func recognizers(p capture.Proto) []recognizer {
	switch p {
	case capture.TCP:
		return []recognizer{judgeSSH, judgeTLS, judgeClear}
	case capture.UDP:
		return []recognizer{judgeWireGuard, judgeQUIC, judgeDTLS, judgeIPsec, judgeClear}
	case capture.ESP:
		return []recognizer{judgeIPsec, judgeClear}
	case capture.MACsec:
		return []recognizer{judgeMACsec, judgeClear}
	}
	return []recognizer{judgeClear}
}

// Judge judges one flow.
func Judge(f *capture.Flow, knows Knowledge) Finding {
	found := describe(f)
	if silent(&f.ToServer) && silent(&f.ToClient) {
		found.Verdict = Silent
		return found
	}
	for _, recognize := range recognizers(f.Proto) {
		if recognize(f, knows, &found) {
			if found.Verdict != Unknown {
				found.Reason = "" // of a recognizer that did not know it
			}
			return found
		}
	}
	found.Verdict = Unknown
	if found.Reason == "" {
		found.Reason = "neither readable nor of a form that is known to encrypt"
	}
	return found
}

// describe is what is known of a flow before it is judged.
func describe(f *capture.Flow) Finding {
	found := Finding{
		Number: f.Number,
		Src:    end(f.Proto, f.Client, f.ClientMAC), Dst: end(f.Proto, f.Server, f.ServerMAC),
		Proto:   f.Proto,
		Vantage: f.Vantage, Overlay: f.Overlay,
		Packets:   [2]int{f.ToServer.Packets, f.ToClient.Packets},
		Bytes:     [2]int64{f.ToServer.Bytes, f.ToClient.Bytes},
		Midstream: f.Proto == capture.TCP && !f.Opened,
		OneWay:    f.ToServer.Packets == 0 || f.ToClient.Packets == 0,
	}
	return found
}

// silent reports whether a direction carried no byte, seen or unseen.
func silent(d *capture.Direction) bool { return d.Bytes == 0 && d.Missing == 0 }

// hasPorts reports whether the ends of a flow have port numbers.
func hasPorts(p capture.Proto) bool {
	return p == capture.TCP || p == capture.UDP || p == capture.SCTP || p == "udplite"
}

// end is one side of a flow as a person writes it.
func end(p capture.Proto, a netip.AddrPort, mac [6]byte) string {
	switch {
	case p == capture.MACsec:
		return net.HardwareAddr(mac[:]).String()
	case hasPorts(p):
		return a.String()
	}
	return a.Addr().String()
}
