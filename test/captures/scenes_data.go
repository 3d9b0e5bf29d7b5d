package main

import "github.com/sealmesh/sealmesh/internal/verify"

// clearAs is a flow in clear of a protocol.
func clearAs(at, protocol string) label {
	return label{at: at, truth: inClear, verdict: verify.Plaintext, protocol: protocol}
}

// tlsAt is a flow that is TLS from its first byte.
func tlsAt(at string) label { return label{at: at, truth: sealed, verdict: verify.TLS} }

// upgraded is a flow whose beginning is in clear and says something.
func upgraded(at, from string) label {
	return label{at: at, truth: mixed, verdict: verify.Plaintext, protocol: from, upgrade: from}
}

// postgres is a database of its own, with more settings.
func postgres(settings string) string {
	return `bin=$(echo /usr/lib/postgresql/*/bin); install -d -o postgres db; install -o postgres -m 600 server.key pg.key
		setpriv --reuid postgres --regid postgres --init-groups $bin/initdb -D $D/db -A trust >/dev/null
		echo "host all all all trust" >> db/pg_hba.conf
		exec setpriv --reuid postgres --regid postgres --init-groups $bin/postgres -D $D/db -c listen_addresses='*' -c unix_socket_directories=$D/db \
			-c ssl_cert_file=$D/server.crt -c ssl_key_file=$D/pg.key ` + settings
}

func psql(name, settings, mode string, l label) scene {
	l.at = "tcp/5432"
	return scene{
		name: name, server: postgres(settings), ready: []string{"tcp/5432"},
		client: `psql "host=$S user=postgres sslmode=` + mode + ` sslrootcert=ca.crt" -c "select 'attack at dawn', * from pg_settings where name like 'ssl%' limit 5"`,
		flows:  []label{l},
	}
}

// mariadb is a database of its own, with more settings.
func mariadb(name, settings, flags string, l label) scene {
	l.at = "tcp/3306"
	return scene{
		name: name, needs: []string{"mariadbd"},
		server: `install -d -o mysql db; install -o mysql -m 600 server.key my.key
			mariadb-install-db --no-defaults --user=mysql --datadir=$D/db --auth-root-authentication-method=normal --skip-test-db >/dev/null
			printf "create user anna identified by 's3cret';\ngrant all on *.* to anna;\nselect 1 into outfile '$D/db/up';\n" > init.sql
			exec mariadbd --no-defaults --user=mysql --datadir=$D/db --socket=$D/db/s --bind-address=0.0.0.0 --init-file=$D/init.sql ` + settings,
		ready:  []string{"tcp/3306"},
		client: `until_true test -e db/up; mariadb -h $S -u anna -ps3cret ` + flags + ` -e "select 'attack at dawn', version()"`,
		flows:  []label{l},
	}
}

// redis is a server with and without TLS.
func redis(name, client string, l label) scene {
	return scene{
		name: name, needs: []string{"redis-server"},
		server: `exec redis-server --port 6379 --tls-port 6380 --tls-cert-file server.crt --tls-key-file server.key --tls-ca-cert-file ca.crt --tls-auth-clients no --save "" --protected-mode no`,
		ready:  []string{"tcp/6379", "tcp/6380"},
		client: client, flows: []label{l},
	}
}

// ldap is a directory, on 389 and 636.
func ldap(name, client string, l label) scene {
	return scene{
		name: name, needs: []string{"slapd", "ldapsearch"},
		server: `mkdir ldap; cat > slapd.conf <<-END
			include /etc/ldap/schema/core.schema
			modulepath /usr/lib/ldap
			moduleload back_mdb
			TLSCertificateFile $D/server.crt
			TLSCertificateKeyFile $D/server.key
			TLSCACertificateFile $D/ca.crt
			database mdb
			suffix dc=lab
			rootdn cn=root,dc=lab
			rootpw s3cret
			directory $D/ldap
		END
		exec slapd -d 0 -f slapd.conf -h "ldap://$S:389 ldaps://$S:636"`,
		ready:  []string{"tcp/389", "tcp/636"},
		client: `export LDAPTLS_CACERT=$D/ca.crt; bound() { ldapsearch -x -D cn=root,dc=lab -w s3cret -b "" -s base "$@"; }; bound ` + client,
		flows:  []label{l},
	}
}

// databaseScenes are what keeps data.
var databaseScenes = []scene{
	psql("postgres", "", "disable", clearAs("", "postgresql")),
	psql("postgres-refused", "", "prefer", clearAs("", "postgresql")),
	psql("postgres-tls", "-c ssl=on", "verify-full", label{truth: sealed, verdict: verify.TLS, version: "1.3", group: "secp256r1", upgrade: "postgresql", retried: true}),
	psql("postgres-tls12", "-c ssl=on -c ssl_max_protocol_version=TLSv1.2", "prefer", label{truth: sealed, verdict: verify.TLS, version: "1.2", upgrade: "postgresql"}),
	mariadb("mariadb", "", "--skip-ssl", clearAs("", "mysql")),
	mariadb("mariadb-tls", "--ssl-cert=$D/server.crt --ssl-key=$D/my.key", "--ssl --ssl-ca=ca.crt", upgraded("", "mysql")),
	redis("redis", `redis-cli -h $S set secret 'attack at dawn'; redis-cli -h $S get secret`, clearAs("tcp/6379", "redis")),
	redis("redis-tls", `redis-cli -h $S -p 6380 --tls --cacert ca.crt set secret 'attack at dawn'`, tlsAt("tcp/6380")),
	{
		name: "memcached", needs: []string{"memcached"}, server: `exec memcached -u nobody -l 0.0.0.0 -p 11211 -U 11211`, ready: []string{"tcp/11211", "udp/11211"},
		client: `printf 'set k 0 0 6\r\nsecret\r\nget k\r\nstats\r\nquit\r\n' | nc $S 11211`,
		flows:  []label{clearAs("tcp/11211", "memcached")},
	},
	{
		name: "memcached-binary", needs: []string{"memcached"}, server: `exec memcached -u nobody -l 0.0.0.0 -p 11211`, ready: []string{"tcp/11211"},
		client: `printf '\x80\x01\x00\x01\x08\x00\x00\x00\x00\x00\x00\x0f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ksecret\x80\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00k\x80\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00' | nc -N $S 11211`,
		flows:  []label{clearAs("tcp/11211", "memcached")},
	},
	ldap("ldap", `-H ldap://$S`, clearAs("tcp/389", "ldap")),
	ldap("ldap-starttls", `-H ldap://$S -ZZ`, label{at: "tcp/389", truth: sealed, verdict: verify.TLS, upgrade: "ldap"}),
	ldap("ldaps", `-H ldaps://$S`, tlsAt("tcp/636")),
}
