package main

import "github.com/sealmesh/sealmesh/internal/verify"

// netcat is what a client says to a listener that says nothing.
func netcat(name, say string, l label) scene {
	l.at = "tcp/7000"
	return scene{
		name: name, server: `exec nc -l 7000 > heard`, ready: []string{"tcp/7000"},
		client: `(` + say + `) | nc -N $S 7000`, flows: []label{l},
	}
}

var (
	// text is readable.
	text = label{truth: inClear, verdict: verify.Plaintext}
	// opaque is in clear, and nothing shows it.
	opaque = label{truth: inClear, verdict: verify.Unknown}
)

// ssh is a server with more settings.
func ssh(name, settings, flags string, l label) scene {
	l.at = "tcp/22"
	return scene{
		name: name, needs: []string{"sshd", "ssh"},
		server: `mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f $D/id; chmod 700 $D; chown -R root:root $D
			exec /usr/sbin/sshd -D -e -f /dev/null -o Port=22 -o HostKey=$D/host -o AuthorizedKeysFile=$D/id.pub -o StrictModes=no -o PermitRootLogin=yes ` + settings,
		ready:  []string{"tcp/22"},
		client: `until_true test -s id; { ssh -i id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null ` + flags + ` root@$S 'echo attack at dawn' 2>&1 || :; } | grep -E 'dawn|denied'`,
		flows:  []label{l},
	}
}

// clearScenes are further programs over TCP.
var clearScenes = []scene{
	ssh("ssh", "", "", label{truth: sealed, verdict: verify.SSH}),
	ssh("ssh-ctr", "", "-c aes128-ctr -o MACs=hmac-sha2-256", label{truth: sealed, verdict: verify.SSH}),
	ssh("ssh-gcm", "", "-c aes256-gcm@openssh.com", label{truth: sealed, verdict: verify.SSH}),
	ssh("ssh-refused", "-o PubkeyAuthentication=no -o PasswordAuthentication=no", "-o BatchMode=yes", label{truth: sealed, verdict: verify.SSH}),
	{
		name: "ssh-port-mute", server: `exec nc -l 22 > heard`, ready: []string{"tcp/22"},
		client: `ssh -o BatchMode=yes root@$S & until_true test -s heard; end $!`, fails: true,
		flows: []label{{at: "tcp/22", truth: neither, verdict: verify.Unknown}},
	},
	netcat("nc-text", `echo 'attack at dawn'; echo 'bring ladders'`, text),
	netcat("nc-short", `echo hi`, text),
	netcat("nc-utf8", `echo 'Angriff bei Dämmerung: нападение на рассвете, 黎明攻击'`, text),
	netcat("nc-json", `for i in 1 2 3; do echo '{"order":'$i',"plan":"attack at dawn"}'; done`, text),
	netcat("nc-base64", `head -c 3000 /dev/urandom | base64`, text),
	netcat("nc-hexdump", `head -c 900 /dev/urandom | od -An -tx1`, text),
	netcat("nc-random", `head -c 6000 /dev/urandom`, opaque),
	netcat("nc-random-short", `head -c 40 /dev/urandom`, opaque),
	netcat("nc-gzip", `(for i in {1..300}; do echo "line $i: $RANDOM $RANDOM $RANDOM"; done) | gzip -n`, opaque),
	netcat("nc-xz", `(for i in {1..300}; do echo "line $i: $RANDOM $RANDOM $RANDOM"; done) | xz`, opaque),
	netcat("nc-enciphered", `head -c 4000 /dev/zero | openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 00112233445566778899aabbccddeeff`, opaque),
	netcat("nc-zeros", `head -c 4000 /dev/zero`, text),
	netcat("nc-tar", `tar c ca.crt server.crt`, text),
	netcat("nc-records-of-noise", `for i in {1..12}; do printf '\x17\x03\x03\x02\x00'; head -c 512 /dev/urandom; done`,
		label{truth: mimic, verdict: verify.Unknown}),
	netcat("nc-records-of-ones", `for i in {1..12}; do printf '\x17\x03\x03\x02\x00'; head -c 512 /dev/zero | tr '\0' '\1'; done`,
		label{truth: inClear, verdict: verify.Unknown}),
	netcat("nc-records-of-text", `for i in {1..12}; do printf '\x17\x03\x03\x01\x00'; printf '%0256d' $i; done`, text),
	{
		name: "iperf3", needs: []string{"iperf3"}, server: `exec iperf3 -s -1`, ready: []string{"tcp/5201"},
		client: `iperf3 -c $S -n 8000 -l 1000`,
		// One connection of control, in which parameters and results are JSON, and one of noise.
		flows: []label{{at: "tcp/5201", truth: inClear}},
	},
	{
		name: "rsync", needs: []string{"rsync"}, server: `printf 'use chroot=no\n[pub]\npath=%s\n' $D > r.conf; exec rsync --daemon --no-detach --config r.conf`, ready: []string{"tcp/873"},
		client: `rsync rsync://$S/pub/ca.crt got.crt`,
		flows:  []label{clearAs("tcp/873", "")},
	},
	{
		name: "git-daemon", needs: []string{"git"}, server: `git init -q --bare r.git; exec git daemon --export-all --base-path=$D --enable=receive-pack`, ready: []string{"tcp/9418"},
		client: `git init -q w; cd w; git -c user.name=a -c user.email=a@lab commit -q --allow-empty -m 'attack at dawn'; git push -q git://$S/r.git HEAD:main; git ls-remote git://$S/r.git`,
		flows:  []label{clearAs("tcp/9418", "")},
	},
	{
		name: "syslog-tcp", server: `exec nc -l 514 > heard`, ready: []string{"tcp/514"},
		client: `logger -T -n $S -P 514 --rfc5424 'attack at dawn'`,
		flows:  []label{clearAs("tcp/514", "syslog")},
	},
	{
		name: "dns-tcp", needs: []string{"dnsmasq", "kdig"}, server: dns, ready: []string{"tcp/53", "udp/53"},
		client: `kdig +tcp @$S server.lab plan.lab -t TXT`,
		flows:  []label{clearAs("tcp/53", "dns")},
	},
	{
		name: "dns-over-tls", needs: []string{"dnsmasq", "kdig", "stunnel4"},
		server: `printf 'foreground=yes\n[s]\naccept=853\nconnect=127.0.0.1:53\ncert=server.pem\n' > s.conf; stunnel4 s.conf & ` + dns, ready: []string{"tcp/853", "tcp/53"},
		client: `kdig +tls @$S plan.lab TXT`,
		flows:  []label{tlsAt("tcp/853")},
	},
}

// dns is a server that knows two names.
const dns = `exec dnsmasq -d -C /dev/null -R -h --user=root --pid-file= -A /server.lab/$S --txt-record=plan.lab,'attack at dawn'`
