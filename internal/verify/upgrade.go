package verify

import (
	"bytes"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

// Protocols that lead to TLS in the same connection:
//
//	greeting, capabilities, STARTTLS   smtp imap pop3 xmpp ftp irc nntp sieve mysql
//	a constant request, an answer      postgresql ldap amqp
//	where to, and from where           proxy http-connect socks4 socks5 rdp vnc tds
//
// What the first kind says in clear is plaintext, whatever follows. The others
// say nothing of what is carried, unless there is a name or a password in them.

// upgrade is what stood in clear before TLS.
type upgrade struct {
	from string
	// at is where TLS begins, from the client and from the server.
	at [2]int
	// says: what stood before carries information. The evidence of it begins at
	// an offset of what the client or the server sent.
	says   bool
	tells  string
	offset int
	// refused: the server did not take it, and what follows is in clear.
	refused bool
	// wrapped: TLS is inside packets of the protocol; these are the streams
	// without them.
	wrapped *[2][]byte
}

// upgrades are the protocols, in the order in which they are tried.
var upgrades = []func(client, server []byte) *upgrade{
	postgresUpgrade, mysqlUpgrade, ldapUpgrade, amqpUpgrade, socksUpgrade, rdpUpgrade, vncUpgrade, tdsUpgrade, textUpgrade,
}

// findUpgrade finds what stands before TLS, or nil if nothing does or no TLS
// follows.
func findUpgrade(f *capture.Flow) *upgrade {
	client, server := f.ToServer.Start(), f.ToClient.Start()
	if len(client) == 0 || startsTLS(client) {
		return nil
	}
	header := proxyHeader(client)
	if header > 0 && startsTLS(client[header:]) {
		return &upgrade{from: "proxy", at: [2]int{header, 0}}
	}
	for _, find := range upgrades {
		up := find(client[header:], server)
		if up == nil {
			continue
		}
		up.at[0] += header
		if up.tells == fromClient {
			up.offset += header
		}
		return up
	}
	return nil
}

// cutUpgrade names a protocol of metadata that leads to TLS and that was not
// captured to its end: whether it says more cannot be known.
func cutUpgrade(f *capture.Flow) string {
	client := f.ToServer.Start()
	if len(f.ToServer.Chunks) < 2 && f.ToServer.Missing == 0 && len(f.ToClient.Chunks) < 2 && f.ToClient.Missing == 0 {
		return ""
	}
	switch {
	case bytes.HasPrefix(client, []byte("CONNECT ")):
		return "HTTP CONNECT"
	case bytes.HasPrefix(client, []byte("PROXY ")), bytes.HasPrefix(client, []byte("\r\n\r\n\x00\r\nQUIT\n")):
		return "the PROXY protocol"
	case bytes.Contains(client[:min(len(client), 64)], []byte(startTLS[:len(startTLS)-4])):
		return "LDAP's StartTLS"
	}
	return ""
}

// startsTLS reports whether a stream begins with a record of a handshake or an
// alert.
func startsTLS(stream []byte) bool {
	h, ok := tlswire.ParseHeader(stream)
	return ok && (h.Type == tlswire.TypeHandshake || h.Type == tlswire.TypeAlert)
}

// follows reports whether TLS begins where the upgrade ends: the client must, and
// the server may have said nothing more.
func (up *upgrade) follows(client, server []byte) bool {
	return up.at[0] <= len(client) && up.at[1] <= len(server) &&
		startsTLS(client[up.at[0]:]) && (up.at[1] == len(server) || startsTLS(server[up.at[1]:]))
}

// judgeUpgrade judges what follows an upgrade, and what stood before it.
func judgeUpgrade(f *capture.Flow, knows Knowledge, found *Finding, up *upgrade) bool {
	rest := *f
	rest.ToServer, rest.ToClient = f.ToServer.Behind(up.at[0]), f.ToClient.Behind(up.at[1])
	if up.refused {
		if !judgeClear(&rest, knows, found) {
			found.Verdict, found.Protocol, found.Evidence = Plaintext, up.from, up.evidence(f)
		}
		return true
	}
	skipped := up.at
	if up.wrapped != nil {
		for i, d := range []*capture.Direction{&rest.ToServer, &rest.ToClient} {
			skipped[i] = max(0, reach([]*capture.Direction{&f.ToServer, &f.ToClient}[i])-len(up.wrapped[i]))
			d.Chunks = []capture.Chunk{{Data: up.wrapped[i]}}
		}
	}
	found.Upgrade = &Upgrade{From: up.from, Bytes: [2]int64{int64(up.at[0]), int64(up.at[1])}}
	judgeRecords(&rest, knows, found, skipped)
	if up.says {
		found.Verdict, found.Seal, found.Reason = Plaintext, "", ""
		found.Protocol, found.Evidence = up.from, up.evidence(f)
	}
	if found.Verdict == "" {
		found.Verdict = Unknown
	}
	return true
}

// evidence quotes what stood before TLS.
func (up *upgrade) evidence(f *capture.Flow) *Evidence {
	d, end := &f.ToServer, up.at[0]
	if up.tells == fromServer {
		d, end = &f.ToClient, up.at[1]
	}
	if up.refused || up.offset >= end {
		end = up.offset + evidenceBytes
	}
	start := d.Start()
	end = min(end, len(start))
	if up.offset >= end {
		return &Evidence{Text: up.from}
	}
	return evidenceAt(d, up.offset, start[up.offset:end], up.tells)
}
