package main

import "github.com/sealmesh/sealmesh/internal/verify"

// overDTLS is one line over DTLS, from openssl to openssl.
func overDTLS(name, server, client string, l label) scene {
	l.at = "udp/4433"
	return scene{
		name:   name,
		server: `tail -f /dev/null | openssl s_server -accept 4433 -cert server.crt -key server.key -quiet ` + server + ` > heard`,
		ready:  []string{"udp/4433"},
		client: `(echo 'attack at dawn, and bring the long ladders'; until_true grep -q dawn heard) | openssl s_client -connect $S:4433 -CAfile ca.crt -servername server.lab ` + client,
		flows:  []label{l},
	}
}

// quic is a page over HTTP/3.
func quic(name, server, client string, l label) scene {
	l.at = "udp/4433"
	return scene{
		name: name, needs: []string{"gtlsserver", "gtlsclient"},
		server: `mkdir www; echo 'attack at dawn' > www/index.html; exec gtlsserver -q -d www ` + server + ` '*' 4433 server.key server.crt`,
		ready:  []string{"udp/4433"},
		client: `get() { gtlsclient -q --exit-on-all-streams-close --no-quic-dump --no-http-dump --sni=server.lab "$@" $S 4433 https://server.lab:4433/index.html; }; get ` + client,
		flows:  []label{l},
	}
}

// overQUIC is sealed by QUIC. The client names itself so because it is given an
// address.
var overQUIC = label{truth: sealed, verdict: verify.QUIC, version: "1.3", sni: "localhost"}

// datagrams is what a client says over UDP to a listener that says nothing.
func datagrams(name, say string, l label) scene {
	l.at = "udp/7000"
	return scene{
		name: name, server: `exec socat -u UDP-RECV:7000 OPEN:heard,creat`, ready: []string{"udp/7000"},
		client: say, flows: []label{l},
	}
}

// wireguard is a tunnel between the two workloads, made by a program.
func wireguard(name, client string) scene {
	return scene{
		name: name, needs: []string{"wireguard-go", "wg"},
		server: `umask 077; wg genkey > s.key; wg genkey > c.key; wg pubkey < s.key > s.pub; wg pubkey < c.key > c.pub; chmod 644 *
			export WG_PROCESS_FOREGROUND=1; wireguard-go wgs & until_true wg show wgs
			wg set wgs listen-port 51820 private-key s.key peer $(cat c.pub) allowed-ips 10.9.0.2/32
			ip addr add 10.9.0.1/24 dev wgs; ip link set wgs up; nc -kl 10.9.0.1 7000 > heard & touch up; wait`,
		ready: []string{"udp/51820"},
		client: `until_true test -e up; export WG_PROCESS_FOREGROUND=1; wireguard-go wgc & until_true wg show wgc
			wg set wgc private-key c.key peer $(cat s.pub) allowed-ips 10.9.0.1/32 endpoint $S:51820
			ip addr add 10.9.0.2/24 dev wgc; ip link set wgc up
			` + client + `
			kill %1`,
		keep:  []string{"s.pub", "c.pub"},
		flows: []label{{at: "udp/51820", truth: sealed, verdict: verify.WireGuard}},
	}
}

// datagramScenes are programs over UDP and over IP itself.
var datagramScenes = []scene{
	overDTLS("dtls12-gcm", "-dtls1_2", "-dtls1_2", label{truth: sealed, verdict: verify.DTLS, version: "1.2", cipher: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", sni: "server.lab"}),
	overDTLS("dtls12-cbc", rsa+"-dtls1_2", "-dtls1_2 -cipher AES128-SHA", label{truth: sealed, verdict: verify.DTLS, version: "1.2", cipher: "TLS_RSA_WITH_AES_128_CBC_SHA", sni: "server.lab"}),
	overDTLS("dtls10", rsa+"-dtls1 -cipher ALL:@SECLEVEL=0", "-dtls1 -cipher AES128-SHA:@SECLEVEL=0", label{truth: sealed, verdict: verify.DTLS, version: "1.0", sni: "server.lab", weak: true}),
	overDTLS("dtls12-psk", "-dtls1_2 -nocert -psk 1a2b", "-dtls1_2 -psk 1a2b -cipher PSK-AES128-CCM8:PSK-AES128-GCM-SHA256", label{truth: sealed, verdict: verify.DTLS, version: "1.2"}),
	overDTLS("dtls12-null", "-dtls1_2 -cipher eNULL:@SECLEVEL=0", "-dtls1_2 -cipher eNULL:@SECLEVEL=0", label{truth: inClear, verdict: verify.Plaintext, version: "1.2", protocol: "dtls"}),
	overDTLS("dtls12-fragments", rsa+"-dtls1_2 -mtu 300", "-dtls1_2 -mtu 300", label{truth: sealed, verdict: verify.DTLS, version: "1.2"}),
	quic("quic-v1", "", "", overQUIC),
	quic("quic-v1-chacha", "", "--ciphers=NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305", overQUIC),
	quic("quic-retry", "-V", "", overQUIC),
	quic("quic-other-version", "", "-v v2draft", label{truth: sealed}),
	quic("quic-early-data", "", `--session-file=$D/s --tp-file=$D/tp; get --session-file=$D/s --tp-file=$D/tp`,
		label{truth: sealed, verdict: verify.QUIC, version: "1.3", sni: "localhost", resumed: true, only: []int{2}}),
	{
		name: "quic-caddy", needs: []string{"caddy", "gtlsclient"},
		server: `printf '{\n admin off\n auto_https disable_redirects\n}\nhttps://server.lab {\n tls server.crt server.key\n respond "attack at dawn"\n}\n' > Caddyfile; exec caddy run --config Caddyfile --adapter caddyfile`,
		ready:  []string{"udp/443"},
		client: `gtlsclient -q --exit-on-all-streams-close --no-quic-dump --no-http-dump --sni=server.lab $S 443 https://server.lab/`,
		flows:  []label{{at: "udp/443", truth: sealed, verdict: verify.QUIC, version: "1.3", sni: "localhost"}},
	},
	wireguard("wireguard", `for i in 1 2 3; do echo "attack at dawn $i" | nc -N 10.9.0.1 7000; done`),
	wireguard("wireguard-ping", `ping -c 3 -i 0.2 10.9.0.1`),
	{
		name: "dns-udp", needs: []string{"dnsmasq", "kdig"}, server: dns, ready: []string{"udp/53"},
		client: `kdig @$S server.lab; kdig @$S plan.lab TXT; kdig @$S nowhere.lab || :`,
		flows:  []label{clearAs("udp/53", "dns")},
	},
	{
		name: "ntp", needs: []string{"chronyd"},
		server: `printf 'local stratum 3\nallow all\ncmdport 0\n' > c.conf; exec chronyd -x -d -u root -f c.conf`, ready: []string{"udp/123"},
		client: `chronyd -x -Q -u root -t 20 "server $S iburst"`, fails: true,
		flows: []label{clearAs("udp/123", "ntp")},
	},
	{
		name: "snmp", needs: []string{"snmpd", "snmpget"},
		server: `printf 'rocommunity public\nsysLocation behind the hill\n' > snmpd.conf; exec snmpd -f -Lo -C -c snmpd.conf udp:161`, ready: []string{"udp/161"},
		client: `snmpget -v 2c -c public $S 1.3.6.1.2.1.1.6.0; snmpget -v 1 -c public $S 1.3.6.1.2.1.1.6.0`,
		flows:  []label{clearAs("udp/161", "snmp")},
	},
	{
		name: "sip", needs: []string{"sipsak"}, server: `exec socat UDP-LISTEN:5060,fork SYSTEM:'cat >> heard'`, ready: []string{"udp/5060"},
		client: `sipsak -s sip:anna@$S -D 1 & until_true test -s heard; end $!`, fails: true,
		flows: []label{clearAs("udp/5060", "sip")},
	},
	{
		name: "tftp", needs: []string{"in.tftpd", "tftp"}, server: `mkdir t; echo 'attack at dawn' > t/plan.txt; chmod 755 . t; exec /usr/sbin/in.tftpd -L -R 6900:6900 -s $D/t`, ready: []string{"udp/69"},
		client: `tftp $S -c get plan.txt`,
		flows:  []label{{at: "udp/69", truth: inClear, verdict: verify.Plaintext}, {at: "udp/6900", truth: inClear, verdict: verify.Plaintext}},
	},
	datagrams("syslog-udp", `logger -d -n $S -P 7000 'attack at dawn'`, clearAs("", "syslog")),
	datagrams("statsd", `for i in 1 2 3; do echo "orders.placed:$i|c" | socat -u - UDP:$S:7000; done`, text),
	datagrams("udp-text", `for i in 1 2 3; do echo "attack at dawn $i"; done | socat -u - UDP:$S:7000,sourceport=7001`, text),
	datagrams("udp-random", `head -c 900 /dev/urandom | socat -u - UDP:$S:7000`, opaque),
	datagrams("udp-gzip", `(for i in {1..90}; do echo "line $i: $RANDOM $RANDOM"; done) | gzip -n | socat -u - UDP:$S:7000`, opaque),
	{
		name: "ping", server: `exec tail -f /dev/null`, client: `ping -c 2 -i 0.2 $S; ping -c 2 -i 0.2 -s 1200 $S`,
		flows: []label{{at: "icmp", truth: inClear}},
	},
}
