package main

import "github.com/sealmesh/sealmesh/internal/verify"

// nginx is a server on 80 (HTTP, and h2c on 81), 443 (TLS of any version) and
// 444 (the PROXY protocol before TLS). It asks for a client certificate on 445.
const nginx = `mkdir -p www; (for i in {1..40}; do echo "line $i of a page that compresses well"; done) > www/page.txt
head -c 24000 /dev/urandom > www/random.bin; gzip -k www/page.txt
cat > nginx.conf <<-END
	daemon off; pid $D/nginx.pid; error_log stderr; user root;
	events {}
	http {
		access_log off; root $D/www; types { text/plain txt; }
		client_body_temp_path $D/t1; proxy_temp_path $D/t2; fastcgi_temp_path $D/t3; uwsgi_temp_path $D/t4; scgi_temp_path $D/t5;
		gzip on; gzip_types text/plain;
		ssl_certificate server.crt; ssl_certificate_key server.key; ssl_protocols TLSv1.2 TLSv1.3;
		server { listen 80; location = /post { client_max_body_size 1m; return 200 "thank you\n"; } }
		server { listen 81 http2; }
		server { listen 443 ssl http2; }
		server { listen 444 ssl http2 proxy_protocol; }
		server { listen 445 ssl; ssl_client_certificate ca.crt; ssl_verify_client on; }
	}
END
exec nginx -c $D/nginx.conf -e stderr -p $D
`

// web is what a client does to nginx.
func web(name, client string, flows ...label) scene {
	return scene{name: name, server: nginx, ready: []string{"tcp/80", "tcp/81", "tcp/443", "tcp/444", "tcp/445"}, client: client, flows: flows}
}

// https is curl with the lab's authority; the name is the server's.
const https = `curl -sS -o /dev/null --cacert ca.crt --connect-to server.lab::$S: `

// clearHTTP is HTTP/1 in clear.
func clearHTTP(at string) label {
	return label{at: at, truth: inClear, verdict: verify.Plaintext, protocol: "http"}
}

// httpsAt is HTTP over TLS.
func httpsAt(at, version string) label {
	return label{at: at, truth: sealed, verdict: verify.TLS, version: version, sni: "server.lab"}
}

// httpScenes are nginx, what stands before it and what speaks HTTP/2.
var httpScenes = []scene{
	web("http", `curl -sS http://$S/page.txt http://$S/missing -o /dev/null -o /dev/null`, clearHTTP("tcp/80")),
	web("http-ipv6", `sed -i 's/listen 80;/listen 80; listen [::]:80;/' nginx.conf; nginx -c $D/nginx.conf -p $D -s reload
		until_true curl -sS -o /dev/null "http://[$S6]/page.txt"`, clearHTTP("tcp/80")),
	web("http-gzip", `curl -sS --compressed http://$S/page.txt -o /dev/null`, clearHTTP("tcp/80")),
	web("http-random-download", `curl -sS http://$S/random.bin -o /dev/null`, clearHTTP("tcp/80")),
	web("http-random-upload", `head -c 20000 /dev/urandom | curl -sS --data-binary @- http://$S/post`, clearHTTP("tcp/80")),
	web("http-base64-upload", `head -c 9000 /dev/urandom | base64 -w0 | curl -sS --data-binary @- http://$S/post`, clearHTTP("tcp/80")),
	web("http-on-443", `printf 'GET /secret HTTP/1.1\r\nHost: server.lab\r\n\r\n' | nc -N $S 443`, clearHTTP("tcp/443")),
	web("tls-to-http-port", `curl -sS https://$S:80/ || :`, clearHTTP("tcp/80")),
	web("https-tls12", https+`--tls-max 1.2 --http1.1 https://server.lab/page.txt`, httpsAt("tcp/443", "1.2")),
	web("https-tls13", https+`--http1.1 https://server.lab/page.txt`, httpsAt("tcp/443", "1.3")),
	web("https-h2", https+`--http2 https://server.lab/page.txt https://server.lab/missing -o /dev/null`, httpsAt("tcp/443", "1.3")),
	web("https-download", https+`https://server.lab/random.bin`, httpsAt("tcp/443", "1.3")),
	web("https-client-cert", https+`--tls-max 1.2 --cert client.crt --key client.key https://server.lab:445/page.txt`,
		label{at: "tcp/445", truth: sealed, verdict: verify.TLS, version: "1.2", sni: "server.lab", clientCert: true}),
	web("h2c-prior-knowledge", `curl -sS --http2-prior-knowledge http://$S:81/page.txt -o /dev/null`,
		label{at: "tcp/81", truth: inClear, verdict: verify.Plaintext, protocol: "http2"}),
	web("h2c-nghttp", `nghttp -n http://$S:81/page.txt http://$S:81/missing`,
		label{at: "tcp/81", truth: inClear, verdict: verify.Plaintext, protocol: "http2"}),
	proxied("proxy-protocol-v1", "send-proxy"),
	proxied("proxy-protocol-v2", "send-proxy-v2"),
	tunnelled("http-connect", "", "", label{truth: sealed, verdict: verify.TLS, version: "1.3", sni: "server.lab", upgrade: "http-connect"}),
	tunnelled("http-connect-password", "BasicAuth anna s3cret", "-U anna:s3cret",
		label{truth: mixed, verdict: verify.Plaintext, protocol: "http-connect", version: "1.3", sni: "server.lab", upgrade: "http-connect"}),
	{
		name: "http-connect-plain", needs: []string{"tinyproxy"},
		server: `echo "Port 8888" > tinyproxy.conf; (` + nginx + `) & exec tinyproxy -d -c tinyproxy.conf`, ready: []string{"tcp/8888", "tcp/80"},
		client: `curl -sS -o /dev/null -p -x http://$S:8888 http://$S:80/page.txt`,
		flows:  []label{clearHTTP("tcp/8888")},
	},
	{
		name: "stunnel", needs: []string{"stunnel4"},
		server: `printf 'foreground=yes\n[s]\naccept=5000\nconnect=127.0.0.1:5001\ncert=server.pem\n' > s.conf; socat TCP-LISTEN:5001,fork,reuseaddr SYSTEM:'cat ca.crt' & exec stunnel4 s.conf`,
		ready:  []string{"tcp/5000", "tcp/5001"},
		client: `printf 'foreground=yes\n[c]\nclient=yes\naccept=127.0.0.1:5002\nconnect=%s:5000\n' $S > c.conf; stunnel4 c.conf & until_true nc -z 127.0.0.1 5002; nc -d 127.0.0.1 5002 | grep CERT; end $!`,
		flows:  []label{{at: "tcp/5000", truth: sealed, verdict: verify.TLS, version: "1.3"}},
	},
	{
		name: "haproxy-to-haproxy", needs: []string{"haproxy"},
		server: `printf 'defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten s\n bind :5000 ssl crt server.pem\n server n 127.0.0.1:80\n' > s.cfg; (` + nginx + `) & exec haproxy -db -f s.cfg`,
		ready:  []string{"tcp/5000", "tcp/80"},
		client: `printf 'defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten c\n bind 127.0.0.1:5001\n server s %s:5000 ssl ca-file ca.crt\n' $S > c.cfg; haproxy -db -f c.cfg & until_true curl -sS -o /dev/null http://127.0.0.1:5001/page.txt; end $!`,
		flows:  []label{{at: "tcp/5000", truth: sealed, verdict: verify.TLS, version: "1.3"}},
	},
	{
		name: "grpc", server: `exec $SELF grpc-serve :50051`, ready: []string{"tcp/50051"},
		client: `$SELF grpc-call http://$S:50051`,
		flows:  []label{{at: "tcp/50051", truth: inClear, verdict: verify.Plaintext, protocol: "grpc"}},
	},
	{
		name: "go-https", server: `exec $SELF https-serve :443 server.crt server.key`, ready: []string{"tcp/443"},
		client: `SSL_CERT_FILE=ca.crt $SELF https-call https://$S:443/`,
		flows:  []label{{at: "tcp/443", truth: sealed, verdict: verify.TLS, version: "1.3", group: "X25519MLKEM768"}},
	},
}

// proxied is curl over TLS through haproxy, which says first whom it speaks for.
func proxied(name, send string) scene {
	l := httpsAt("tcp/444", "1.3")
	l.upgrade = "proxy"
	s := web(name, `printf 'defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n timeout server 5s\nlisten c\n bind 127.0.0.1:5001\n server s %s:444 `+send+`\n' $S > c.cfg
		haproxy -db -f c.cfg & until_true curl -sS -o /dev/null --cacert ca.crt --connect-to server.lab::127.0.0.1:5001 https://server.lab/page.txt; end $!`, l)
	s.needs = []string{"haproxy"}
	return s
}

// tunnelled is curl over TLS through a proxy that it asks for a tunnel.
func tunnelled(name, setting, flags string, l label) scene {
	l.at = "tcp/8888"
	return scene{
		name: name, needs: []string{"tinyproxy"},
		server: `printf 'Port 8888\n` + setting + `\n' > tinyproxy.conf; (` + nginx + `) & exec tinyproxy -d -c tinyproxy.conf`,
		ready:  []string{"tcp/8888", "tcp/443"},
		client: `curl -sS -o /dev/null --cacert ca.crt --connect-to server.lab::$S: -x http://$S:8888 ` + flags + ` https://server.lab/page.txt`,
		flows:  []label{l},
	}
}
