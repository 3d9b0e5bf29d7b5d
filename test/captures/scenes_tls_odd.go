package main

import "github.com/sealmesh/sealmesh/internal/verify"

// page asks an openssl server for a page, with more flags.
const page = `page() { printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab -quiet "$@"; }
`

// serverOf is `openssl s_server` with more flags.
func serverOf(flags string) string {
	return `exec openssl s_server -accept 4433 -cert server.crt -key server.key -www ` + flags
}

// twice is two connections, of which the second resumes the first.
func twice(name, flags string, l label) scene {
	l.at, l.resumed, l.only = "tcp/4433", true, []int{2}
	return scene{
		name: name, server: serverOf(flags), ready: []string{"tcp/4433"},
		client: page + `page -sess_out session; page -sess_in session`,
		flows:  []label{l},
	}
}

// failed is a connection whose handshake does not come to its end.
func failed(name, server, client string) scene {
	return scene{
		name: name, server: serverOf(server), ready: []string{"tcp/4433"}, client: page + `page ` + client, fails: true,
		flows: []label{{at: "tcp/4433", truth: neither, verdict: verify.Unknown}},
	}
}

// gnutls is one line and its echo.
func gnutls(name, priority string, l label) scene {
	l.at = "tcp/4433"
	return scene{
		name: name, needs: []string{"gnutls-serv", "gnutls-cli"},
		server: `exec gnutls-serv --echo --port 4433 --x509certfile rsa.crt --x509keyfile rsa.key --priority '` + priority + `' --disable-client-cert`,
		ready:  []string{"tcp/4433"},
		client: `(echo 'meet me at noon'; until_true grep -q noon said) |
			gnutls-cli --port 4433 --x509cafile ca.crt --sni-hostname server.lab --verify-hostname rsa.lab --priority '` + priority + `' $S > said`,
		flows: []label{l},
	}
}

// oddTLSScenes are what else happens to handshakes.
var oddTLSScenes = []scene{
	twice("tls12-ticket", "-tls1_2", overTLS("1.2", "")),
	twice("tls12-session-id", "-tls1_2 -no_ticket", overTLS("1.2", "")),
	twice("tls13-ticket", "-tls1_3", overTLS("1.3", "")),
	{
		name:   "tls13-early-data",
		server: `tail -f /dev/null | openssl s_server -accept 4433 -cert server.crt -key server.key -tls1_3 -early_data -quiet > heard`,
		ready:  []string{"tcp/4433"},
		client: `echo 'this goes out before the handshake is done' > early
			(echo first; until_true test -s session) | openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab -sess_out session
			(echo second; until_true grep -q second heard) | openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab -sess_in session -early_data early`,
		flows: []label{{at: "tcp/4433", truth: sealed, verdict: verify.TLS, version: "1.3", resumed: true, only: []int{2}}},
	},
	{
		name:   "tls13-key-update",
		server: `tail -f /dev/null | openssl s_server -accept 4433 -cert server.crt -key server.key -tls1_3 -quiet > heard`,
		ready:  []string{"tcp/4433"},
		client: `(echo first; until_true grep -q first heard; echo K; until_true grep -q KEYUPDATE said; echo second; until_true grep -q second heard) |
			openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab > said 2>&1`,
		flows: []label{{at: "tcp/4433", truth: sealed, verdict: verify.TLS, version: "1.3"}},
	},
	{
		name:   "tls12-renegotiation",
		server: `tail -f /dev/null | openssl s_server -accept 4433 -cert server.crt -key server.key -tls1_2 -client_renegotiation -quiet > heard`,
		ready:  []string{"tcp/4433"},
		client: `(echo first; until_true grep -q first heard; echo R; until_true grep -q RENEGOTIATING said; echo second; until_true grep -q second heard) |
			openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab -tls1_2 > said 2>&1`,
		flows: []label{{at: "tcp/4433", truth: sealed, verdict: verify.TLS, version: "1.2"}},
	},
	{
		name:   "tls13-ipv6",
		server: serverOf("-6 -tls1_3"), ready: []string{"tcp/4433"},
		client: `printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect "[$S6]:4433" -CAfile ca.crt -servername server.lab -quiet`,
		flows:  []label{{at: "tcp/4433", truth: sealed, verdict: verify.TLS, version: "1.3", sni: "server.lab"}},
	},
	failed("fail-no-common-version", "-tls1_3", "-tls1_2"),
	failed("fail-no-common-suite", "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384"),
	failed("fail-unknown-ca-tls12", "-tls1_2", "-tls1_2 -verify_return_error -verify_hostname other.lab"),
	failed("fail-unknown-ca-tls13", "-tls1_3", "-tls1_3 -verify_return_error -verify_hostname other.lab"),
	failed("fail-no-client-cert-tls12", "-tls1_2 -Verify 1 -verify_return_error -CAfile ca.crt", "-tls1_2"),
	failed("fail-no-client-cert-tls13", "-tls1_3 -Verify 1 -verify_return_error -CAfile ca.crt", "-tls1_3"),
	{
		name: "http-to-tls-port", server: serverOf(""), ready: []string{"tcp/4433"},
		client: `printf 'GET /secret HTTP/1.0\r\n\r\n' | nc -N $S 4433`,
		flows:  []label{{at: "tcp/4433", truth: inClear, verdict: verify.Plaintext, protocol: "http"}},
	},
	{
		name: "tls-to-mute-port", server: `exec nc -l 4433 > heard`, ready: []string{"tcp/4433"},
		client: `(until_true test -s heard) | openssl s_client -connect $S:4433 -servername server.lab & until_true test -s heard; end $!`, fails: true,
		flows: []label{{at: "tcp/4433", truth: neither, verdict: verify.Unknown}},
	},
	{
		name: "tls-to-closed-port", server: `exec tail -f /dev/null`,
		client: `openssl s_client -connect $S:4433`, fails: true,
		flows: []label{{at: "tcp/4433", truth: nothing, verdict: verify.Silent}},
	},
	gnutls("gnutls-tls13", "NORMAL:-VERS-ALL:+VERS-TLS1.3", label{truth: sealed, verdict: verify.TLS, version: "1.3"}),
	gnutls("gnutls-3des", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+3DES-CBC:-KX-ALL:+RSA:%NO_ETM",
		label{truth: sealed, verdict: verify.TLS, version: "1.2", cipher: "TLS_RSA_WITH_3DES_EDE_CBC_SHA", weak: true}),
	gnutls("gnutls-rc4", "NORMAL:-VERS-ALL:+VERS-TLS1.0:-CIPHER-ALL:+ARCFOUR-128:-KX-ALL:+RSA",
		label{truth: sealed, verdict: verify.TLS, version: "1.0", cipher: "TLS_RSA_WITH_RC4_128_SHA", weak: true}),
}
