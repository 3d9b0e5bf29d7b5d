package main

import "github.com/sealmesh/sealmesh/internal/verify"

// openssl is one connection from `openssl s_client` to `openssl s_server`: a
// request for a page, and the page.
func openssl(name, server, client string, l label) scene {
	l.at = "tcp/4433"
	return scene{
		name:   name,
		server: `exec openssl s_server -accept 4433 -cert server.crt -key server.key -www ` + server,
		ready:  []string{"tcp/4433"},
		client: `printf 'GET / HTTP/1.0\r\n\r\n' | openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab -quiet ` + client,
		flows:  []label{l},
	}
}

// overTLS is a flow that is sealed from its first byte.
func overTLS(version, cipher string) label {
	return label{truth: sealed, verdict: verify.TLS, version: version, cipher: cipher, sni: "server.lab"}
}

// old is the same for a version or cipher that is out of date.
func old(version, cipher string) label {
	l := overTLS(version, cipher)
	l.weak = true
	return l
}

// rsa makes a server of openssl serve an RSA certificate.
const rsa = `-cert rsa.crt -key rsa.key `

// tlsScenes are the versions and suites of TLS.
var tlsScenes = []scene{
	openssl("tls10-cbc", "-tls1 -cipher ALL:@SECLEVEL=0", "-tls1 -cipher AES128-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0",
		old("1.0", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA")),
	openssl("tls11-cbc", rsa+"-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_1 -cipher AES256-SHA:@SECLEVEL=0",
		old("1.1", "TLS_RSA_WITH_AES_256_CBC_SHA")),
	openssl("tls12-gcm", "-tls1_2", "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256 -groups X25519:P-256",
		label{truth: sealed, verdict: verify.TLS, version: "1.2", cipher: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", group: "x25519", sni: "server.lab"}),
	openssl("tls12-chacha", "-tls1_2", "-tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305 -groups P-256",
		label{truth: sealed, verdict: verify.TLS, version: "1.2", cipher: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", group: "secp256r1", sni: "server.lab"}),
	openssl("tls12-cbc", rsa+"-tls1_2", "-tls1_2 -cipher ECDHE-RSA-AES256-SHA384",
		overTLS("1.2", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384")),
	openssl("tls12-cbc-no-etm", rsa+"-tls1_2 -no_etm", "-tls1_2 -no_etm -cipher AES128-SHA",
		overTLS("1.2", "TLS_RSA_WITH_AES_128_CBC_SHA")),
	openssl("tls12-ccm", "-tls1_2 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0",
		overTLS("1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8")),
	openssl("tls12-dhe", rsa+"-tls1_2", "-tls1_2 -cipher DHE-RSA-AES256-GCM-SHA384",
		overTLS("1.2", "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384")),
	openssl("tls12-psk", "-tls1_2 -nocert -psk 1a2b3c4d5e6f", "-tls1_2 -cipher PSK-AES128-GCM-SHA256 -psk 1a2b3c4d5e6f",
		overTLS("1.2", "TLS_PSK_WITH_AES_128_GCM_SHA256")),
	openssl("tls12-client-cert", "-tls1_2 -Verify 1 -CAfile ca.crt", "-tls1_2 -cert client.crt -key client.key",
		label{truth: sealed, verdict: verify.TLS, version: "1.2", cipher: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", sni: "server.lab", clientCert: true}),
	openssl("tls13-aes128", "-tls1_3", "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256",
		overTLS("1.3", "TLS_AES_128_GCM_SHA256")),
	openssl("tls13-aes256", "-tls1_3", "-tls1_3 -groups P-384",
		label{truth: sealed, verdict: verify.TLS, version: "1.3", cipher: "TLS_AES_256_GCM_SHA384", group: "secp384r1", sni: "server.lab"}),
	openssl("tls13-chacha", "-tls1_3", "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256",
		overTLS("1.3", "TLS_CHACHA20_POLY1305_SHA256")),
	openssl("tls13-ccm8", "-tls1_3 -ciphersuites TLS_AES_128_CCM_8_SHA256", "-tls1_3 -ciphersuites TLS_AES_128_CCM_8_SHA256",
		overTLS("1.3", "TLS_AES_128_CCM_8_SHA256")),
	openssl("tls13-client-cert", "-tls1_3 -Verify 1 -CAfile ca.crt", "-tls1_3 -cert client.crt -key client.key",
		overTLS("1.3", "TLS_AES_256_GCM_SHA384")),
	openssl("tls13-retry", "-tls1_3 -groups P-256", "-tls1_3 -groups X25519:P-256",
		label{truth: sealed, verdict: verify.TLS, version: "1.3", cipher: "TLS_AES_256_GCM_SHA384", group: "secp256r1", sni: "server.lab", retried: true}),
	openssl("tls13-psk", "-tls1_3 -nocert -psk 1a2b3c4d5e6f", "-tls1_3 -psk 1a2b3c4d5e6f",
		label{truth: sealed, verdict: verify.TLS, version: "1.3", cipher: "TLS_CHACHA20_POLY1305_SHA256", sni: "server.lab", resumed: true}),
	openssl("tls12-null", "-tls1_2 -cipher eNULL:@SECLEVEL=0", "-tls1_2 -cipher eNULL:@SECLEVEL=0",
		label{truth: inClear, verdict: verify.Plaintext, version: "1.2", cipher: "TLS_ECDHE_ECDSA_WITH_NULL_SHA", protocol: "tls"}),
	openssl("tls12-null-rsa", rsa+"-tls1_2 -cipher eNULL:@SECLEVEL=0", "-tls1_2 -cipher NULL-SHA256:@SECLEVEL=0",
		label{truth: inClear, verdict: verify.Plaintext, version: "1.2", cipher: "TLS_RSA_WITH_NULL_SHA256", protocol: "tls"}),
	openssl("tls10-null", rsa+"-tls1 -cipher eNULL:@SECLEVEL=0", "-tls1 -cipher NULL-SHA:@SECLEVEL=0",
		label{truth: inClear, verdict: verify.Plaintext, version: "1.0", cipher: "TLS_RSA_WITH_NULL_SHA", protocol: "tls"}),
	{
		name:   "tls12-null-noise",
		server: `head -c 6000 /dev/urandom > noise; exec openssl s_server -accept 4433 -cert server.crt -key server.key -tls1_2 -cipher eNULL:@SECLEVEL=0 -HTTP`,
		ready:  []string{"tcp/4433"},
		client: `printf 'GET /noise HTTP/1.0\r\n\r\n' | openssl s_client -connect $S:4433 -quiet -tls1_2 -cipher eNULL:@SECLEVEL=0 > got; cmp noise got || :`,
		flows:  []label{{at: "tcp/4433", truth: mimic, verdict: verify.Plaintext, version: "1.2", protocol: "tls"}},
	},
	openssl("tls12-anonymous", "-tls1_2 -cipher aNULL:@SECLEVEL=0", "-tls1_2 -cipher ADH-AES128-GCM-SHA256:@SECLEVEL=0",
		label{truth: neither, verdict: verify.Unknown, version: "1.2", cipher: "TLS_DH_anon_WITH_AES_128_GCM_SHA256"}),
	openssl("tls12-anonymous-null", "-tls1_2 -cipher aNULL:eNULL:@SECLEVEL=0", "-tls1_2 -cipher AECDH-NULL-SHA:@SECLEVEL=0",
		label{truth: inClear, verdict: verify.Plaintext, version: "1.2", cipher: "TLS_ECDH_anon_WITH_NULL_SHA", protocol: "tls"}),
	openssl("tls12-camellia", rsa+"-tls1_2 -cipher ALL", "-tls1_2 -cipher CAMELLIA128-SHA256",
		overTLS("1.2", "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA256")),
	openssl("tls12-aria", "-tls1_2 -cipher ALL", "-tls1_2 -cipher ECDHE-ECDSA-ARIA256-GCM-SHA384",
		overTLS("1.2", "TLS_ECDHE_ECDSA_WITH_ARIA_256_GCM_SHA384")),
}
