package verify

import (
	"bytes"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// judgeTunnel judges what follows the metadata of a path, if it is not TLS. A name or
// a password among that is plaintext, whatever follows.
func judgeTunnel(f *capture.Flow, knows Knowledge, found *Finding) bool {
	up := tunnel(f.ToServer.Start(), f.ToClient.Start())
	if up == nil {
		return false
	}
	rest := *f
	rest.ToServer, rest.ToClient = f.ToServer.Behind(up.at[0]), f.ToClient.Behind(up.at[1])
	if len(rest.ToServer.Chunks)+len(rest.ToClient.Chunks) == 0 && !up.says {
		return false
	}
	switch {
	case up.says && !judgeClear(&rest, knows, found):
		found.Verdict, found.Protocol, found.Evidence = Plaintext, up.from, up.evidence(f)
	case up.says, judgeSSH(&rest, knows, found), judgeClear(&rest, knows, found):
	default:
		found.Verdict = Unknown
		if found.Reason == "" {
			found.Reason = "what follows " + up.from + " is neither readable nor of a form that is known to encrypt"
		}
	}
	return true
}

// tunnel finds what opens a path in a flow, or nil.
func tunnel(client, server []byte) *upgrade {
	header := proxyHeader(client)
	up := socks(client[header:], server)
	if up == nil {
		up = httpTunnel(client[header:], server)
	}
	switch {
	case up != nil:
		up.at[0] += header
		up.offset += header
		return up
	case header > 0:
		return &upgrade{from: "proxy", at: [2]int{header, 0}, tells: fromClient}
	}
	return nil
}

// httpTunnel reads HTTP CONNECT that tells nothing and was agreed to.
func httpTunnel(client, server []byte) *upgrade {
	const end = "\r\n\r\n"
	request, answer := bytes.Index(client, []byte(end)), bytes.Index(server, []byte(end))
	if request < 0 || answer < 0 || !bytes.HasPrefix(client, []byte("CONNECT ")) {
		return nil
	}
	up := &upgrade{at: [2]int{request + len(end), answer + len(end)}, tells: fromClient}
	if up.connect(string(client[:up.at[0]]), string(server[:up.at[1]])); up.says || up.offset > 0 {
		return nil
	}
	return up
}
