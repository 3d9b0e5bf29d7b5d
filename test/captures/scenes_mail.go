package main

import "github.com/sealmesh/sealmesh/internal/verify"

// postfix is an SMTP server on 25 and 465 that delivers to nobody. Its master
// must run as root and wants its own tree.
const postfix = `mkdir -p etc spool lib && cp /etc/postfix/* etc/ 2>/dev/null || :
cp /usr/share/postfix/master.cf.dist etc/master.cf
sed -i 's/^\(smtp  *inet.*\) y \(.*\)$/\1 n \2/; s/^\([a-z#].* \)y\( .*\)$/\1n\2/' etc/master.cf
printf 'smtps inet n - n - - smtpd\n  -o smtpd_tls_wrappermode=yes\n' >> etc/master.cf
cat > etc/main.cf <<-END
	compatibility_level = 3.6
	queue_directory = $D/spool
	data_directory = $D/lib
	maillog_file = /dev/stdout
	maillog_file_prefixes = /dev
	myhostname = mx.lab
	mydestination = lab
	local_transport = discard
	local_recipient_maps =
	inet_interfaces = all
	smtpd_tls_cert_file = $D/server.crt
	smtpd_tls_key_file = $D/server.key
	smtpd_tls_security_level = may
	smtpd_peername_lookup = no
END
chown postfix lib; postfix -c $D/etc set-permissions >/dev/null 2>&1 || :
exec postfix -c $D/etc start-fg
`

func smtp(name, flags string, l label) scene {
	return scene{
		name: name, needs: []string{"postfix", "swaks"}, server: postfix, ready: []string{"tcp/25", "tcp/465"},
		client: `until_true swaks --server $S ` + flags + ` --helo client.lab --from anna@lab --to bert@lab --header 'Subject: attack at dawn' --body 'bring ladders'`,
		flows:  []label{l},
	}
}

// dovecot keeps the mail of anna, whose password is s3cret.
const dovecot = `mkdir -p mail run state; chown -R dovecot mail; cat > dovecot.conf <<-END
	protocols = imap pop3
	base_dir = $D/run
	state_dir = $D/state
	log_path = /dev/stderr
	ssl = yes
	ssl_cert = <$D/server.crt
	ssl_key = <$D/server.key
	disable_plaintext_auth = no
	mail_location = maildir:$D/mail
	first_valid_uid = 1
	default_internal_user = dovecot
	default_login_user = dovenull
	passdb {
	  driver = static
	  args = password=s3cret
	}
	userdb {
	  driver = static
	  args = uid=dovecot gid=dovecot home=$D/mail
	}
END
exec dovecot -F -c dovecot.conf
`

func mailbox(name, client string, l label) scene {
	return scene{
		name: name, needs: []string{"dovecot"}, server: dovecot, ready: []string{"tcp/143", "tcp/110", "tcp/993", "tcp/995"},
		client: `box() { curl -sS --cacert ca.crt --connect-to server.lab::$S: -u anna:s3cret "$@"; }; box ` + client,
		flows:  []label{l},
	}
}

// ftp is a server that lets anna in.
const ftp = `mkdir -p pub; echo 'attack at dawn' > pub/plan.txt; cat > vsftpd.conf <<-END
	listen=YES
	background=NO
	anonymous_enable=YES
	anon_root=$D/pub
	no_anon_password=NO
	secure_chroot_dir=$D/pub
	seccomp_sandbox=NO
	pasv_min_port=2121
	pasv_max_port=2121
	ssl_enable=YES
	allow_anon_ssl=YES
	force_local_data_ssl=NO
	force_local_logins_ssl=NO
	require_ssl_reuse=NO
	ssl_ciphers=HIGH
	rsa_cert_file=$D/rsa.pem
END
exec vsftpd $D/vsftpd.conf
`

// mailScenes are what begins in clear and may go on sealed.
var mailScenes = []scene{
	smtp("smtp", "", clearAs("tcp/25", "smtp")),
	smtp("smtp-starttls", "--tls", upgraded("tcp/25", "smtp")),
	smtp("smtps", "--port 465 --tlsc", tlsAt("tcp/465")),
	mailbox("imap", `imap://server.lab/ -X 'CAPABILITY'`, clearAs("tcp/143", "imap")),
	mailbox("imap-starttls", `--ssl-reqd imap://server.lab/`, upgraded("tcp/143", "imap")),
	mailbox("imaps", `imaps://server.lab/`, tlsAt("tcp/993")),
	mailbox("pop3", `pop3://server.lab/`, clearAs("tcp/110", "pop3")),
	mailbox("pop3-starttls", `--ssl-reqd pop3://server.lab/`, upgraded("tcp/110", "pop3")),
	mailbox("pop3s", `pop3s://server.lab/`, tlsAt("tcp/995")),
	{
		name: "ftp", needs: []string{"vsftpd"}, server: ftp, ready: []string{"tcp/21"},
		client: `curl -sS --disable-epsv ftp://$S/plan.txt`,
		flows:  []label{clearAs("tcp/21", "ftp"), clearAs("tcp/2121", "text")},
	},
	{
		name: "ftp-auth-tls", needs: []string{"vsftpd"}, server: ftp, ready: []string{"tcp/21"},
		client: `curl -sS --disable-epsv --ssl-reqd --cacert ca.crt --connect-to rsa.lab::$S: ftp://rsa.lab/plan.txt`,
		flows: []label{
			{at: "tcp/21", truth: mixed, verdict: verify.Plaintext, protocol: "ftp", upgrade: "ftp", retried: true},
			{at: "tcp/2121", truth: sealed, verdict: verify.TLS, resumed: true, retried: true},
		},
	},
	{
		name: "xmpp-starttls", needs: []string{"prosody"}, server: xmpp, ready: []string{"tcp/5222"},
		client: `(until_true grep -q '^ *Verify return code' said; echo "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='server.lab' version='1.0'>"; until_true grep -q PLAIN said; echo '</stream:stream>') |
			openssl s_client -connect $S:5222 -starttls xmpp -xmpphost server.lab -CAfile ca.crt -ign_eof > said`,
		flows: []label{upgraded("tcp/5222", "xmpp")},
	},
	{
		name: "xmpp", needs: []string{"prosody"}, server: xmpp, ready: []string{"tcp/5222"},
		client: `(echo "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='server.lab' version='1.0'>"; until_true grep -q PLAIN said; echo '</stream:stream>') | nc -N $S 5222 > said`,
		flows:  []label{clearAs("tcp/5222", "xmpp")},
	},
	{
		name: "irc", needs: []string{"ngircd"},
		server: `printf '[Global]\nName = irc.lab\nInfo = lab\nServerUID = nobody\nServerGID = nogroup\n[Options]\nIdent = no\nPAM = no\nDNS = no\n' > irc.conf; exec ngircd -n -f irc.conf`, ready: []string{"tcp/6667"},
		client: `(printf 'NICK anna\r\nUSER anna 0 * :Anna\r\n'; until_true grep -q 376 said; printf 'JOIN #plan\r\nPRIVMSG #plan :attack at dawn\r\nQUIT\r\n'; until_true grep -q ERROR said) | nc $S 6667 > said`,
		flows:  []label{clearAs("tcp/6667", "irc")},
	},
}

// xmpp is a server of the domain server.lab, which lets anyone in by any means.
const xmpp = `mkdir -p data certs; cp server.crt certs/server.lab.crt; cp server.key certs/server.lab.key
cat > prosody.cfg.lua <<-END
	run_as_root = true
	data_path = "$D/data"
	pidfile = "$D/prosody.pid"
	modules_enabled = { "saslauth", "tls" }
	modules_disabled = { "s2s" }
	allow_unencrypted_plain_auth = true
	c2s_require_encryption = false
	authentication = "internal_plain"
	log = { { levels = { min = "info" }, to = "console" } }
	ssl = { certificate = "$D/server.crt", key = "$D/server.key" }
	VirtualHost "server.lab"
END
exec prosody -F --config $D/prosody.cfg.lua
`
