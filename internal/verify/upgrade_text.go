package verify

import (
	"bytes"
	"slices"
	"strings"
)

// textUpgrade reads the protocols that are lines of text before TLS.
func textUpgrade(client, server []byte) *upgrade {
	up := &upgrade{from: "text", at: [2]int{textLength(client), textLength(server)}, says: true, tells: fromClient}
	if up.at[0] == 0 || !up.follows(client, server) {
		return nil
	}
	said, heard := string(client[:up.at[0]]), string(server[:up.at[1]])
	if strings.HasPrefix(said, "CONNECT ") {
		return up.connect(said, heard)
	}
	up.from = upgradeOf(strings.ToUpper(said), strings.ToUpper(heard))
	return up
}

// textLength is how many of the first bytes are text: printable, blank, or part
// of a character beyond ASCII. Records of TLS begin with none of these.
func textLength(b []byte) int {
	for i, c := range b {
		if !printable(c) && c < 0x80 {
			return i
		}
	}
	return len(b)
}

// upgradeOf names a protocol by what both ends said, in upper case.
func upgradeOf(client, server string) string {
	switch {
	case strings.Contains(client, "<STARTTLS"):
		return "xmpp"
	case strings.HasPrefix(server, "+OK"):
		return "pop3"
	case strings.HasPrefix(server, "* "):
		return "imap"
	case strings.HasPrefix(server, "220") && strings.Contains(client, "AUTH "):
		return "ftp"
	case strings.HasPrefix(server, "220"):
		return "smtp"
	case strings.HasPrefix(server, "200 "), strings.HasPrefix(server, "201 "):
		return "nntp"
	case strings.HasPrefix(server, `"IMPLEMENTATION"`):
		return "sieve"
	case strings.Contains(server, " 670 "):
		return "irc"
	case strings.HasPrefix(server, "HTTP/1."):
		return "http"
	}
	return "text"
}

// connect reads HTTP CONNECT: where to is metadata, credentials are not.
func (up *upgrade) connect(said, heard string) *upgrade {
	up.from = "http-connect"
	request, _, ends := strings.Cut(said, "\r\n\r\n")
	answer, more, answered := strings.Cut(heard, "\r\n\r\n")
	once := len(request)+4 == len(said) && more == "" && (answered || heard == "")
	if at := telling(request); at >= 0 {
		up.offset = at
		return up
	}
	if at := telling(answer); at >= 0 {
		up.tells, up.offset = fromServer, at
		return up
	}
	up.says = !ends || !once || answered && !strings.HasPrefix(answer, "HTTP/1.0 2") && !strings.HasPrefix(answer, "HTTP/1.1 2")
	return up
}

// silentFields are the header fields of HTTP CONNECT that carry nothing but what
// the path is.
var silentFields = []string{
	"host", "user-agent", "proxy-connection", "connection", "keep-alive", "content-length", "proxy-agent", "via", "date",
	"server", "transfer-encoding", "accept", "pragma", "cache-control",
}

// telling is the offset of the first header field that may be a secret, or -1.
func telling(head string) int {
	_, fields, _ := strings.Cut(head, "\r\n")
	at := len(head) - len(fields)
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, _, ok := strings.Cut(line, ":")
		if line != "" && (!ok || !isSilent(strings.ToLower(name))) {
			return at
		}
		at += len(line) + 2
	}
	return -1
}

func isSilent(name string) bool { return slices.Contains(silentFields, name) }

// proxyHeader is the length of a header of the PROXY protocol, version 1 or 2,
// or 0 (haproxy.org/download/2.9/doc/proxy-protocol.txt).
func proxyHeader(client []byte) int {
	const first, longest = "PROXY ", 107
	if bytes.HasPrefix(client, []byte(first)) {
		end := bytes.Index(client[:min(len(client), longest)], []byte("\r\n"))
		if end < 0 {
			return 0
		}
		return end + 2
	}
	const second, fixed = "\r\n\r\n\x00\r\nQUIT\n", 16
	if len(client) < fixed || !bytes.HasPrefix(client, []byte(second)) || client[12]>>4 != 2 {
		return 0
	}
	if n := fixed + int(client[14])<<8 + int(client[15]); n <= len(client) {
		return n
	}
	return 0
}
