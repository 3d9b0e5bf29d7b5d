package main

import "github.com/sealmesh/sealmesh/internal/verify"

// vpn is OpenVPN between the two workloads, and a few words through it.
func vpn(name, proto, flags string, l label) scene {
	l.at = map[string]string{"udp": "udp/1194", "tcp": "tcp/1194"}[proto]
	server, client := proto, proto
	if proto == "tcp" {
		server, client = "tcp-server", "tcp-client"
	}
	common := `--dev tun0 --port 1194 --verb 1 --ping 60 ` + flags
	return scene{
		name: name, needs: []string{"openvpn"},
		server: `(until_true ip addr show tun0; until_true nc -lk 10.8.0.1 7000 > heard) & exec openvpn --proto ` + server + ` --ifconfig 10.8.0.1 10.8.0.2 ` + common +
			map[bool]string{true: ` --tls-server --dh none --ca ca.crt --cert server.crt --key server.key`}[flags == ""],
		ready: []string{l.at},
		client: `openvpn --proto ` + client + ` --remote $S --ifconfig 10.8.0.2 10.8.0.1 ` + common +
			map[bool]string{true: ` --tls-client --ca ca.crt --cert client.crt --key client.key`}[flags == ""] + ` & vpn=$!
			until_true ping -c 1 -W 1 10.8.0.1; for i in 1 2 3 4; do echo 'attack at dawn, and bring the long ladders' | nc -N 10.8.0.1 7000; done; end $vpn`,
		flows: []label{l},
	}
}

// plainly is a flow in clear of which nothing more is asked.
func plainly(at string) label { return label{at: at, truth: inClear} }

// coap is a server with and without DTLS.
const coap = `exec coap-server-openssl -A $S -k s3cret -h lab`

// otherScenes are programs that no recognizer was made for.
var otherScenes = []scene{
	vpn("openvpn-udp", "udp", "", label{truth: sealed}),
	vpn("openvpn-tcp", "tcp", "", label{truth: sealed}),
	vpn("openvpn-clear", "udp", "--cipher none --auth none", plainly("")),
	vpn("openvpn-clear-tcp", "tcp", "--cipher none --auth none", plainly("")),
	{
		name: "coap", needs: []string{"coap-server-openssl"}, server: coap, ready: []string{"udp/5683"},
		client: `coap-client-openssl -m get coap://$S/time; coap-client-openssl -m get coap://$S/`, flows: []label{plainly("udp/5683")},
	},
	{
		name: "coap-dtls", needs: []string{"coap-server-openssl"}, server: coap, ready: []string{"udp/5684"},
		client: `coap-client-openssl -u anna -k s3cret -m get coaps://$S/time`, flows: []label{{at: "udp/5684", truth: sealed, verdict: verify.DTLS, version: "1.2"}},
	},
	{
		name: "smb", needs: []string{"smbd", "smbclient"},
		server: `mkdir -p pub p; echo 'attack at dawn' > pub/plan.txt; chmod 755 pub; printf '[global]\nserver role=standalone\nmap to guest=Bad User\nguest account=nobody\nsmb ports=445\nprivate dir=%s/p\nlock directory=%s/p\nstate directory=%s/p\ncache directory=%s/p\npid directory=%s/p\nncalrpc dir=%s/p\nload printers=no\ndisable spoolss=yes\n[pub]\npath=%s/pub\nguest ok=yes\n' $D $D $D $D $D $D $D > smb.conf
			exec smbd -F --no-process-group --debug-stdout -s smb.conf`, ready: []string{"tcp/445"},
		client: `until_true smbclient -N -s /dev/null //$S/pub -c 'get plan.txt -'`, flows: []label{plainly("tcp/445")},
	},
	{
		name: "socks-http", needs: []string{"microsocks"}, server: `(` + nginx + `) & exec microsocks -p 1080`, ready: []string{"tcp/1080", "tcp/80"},
		client: `curl -sS -o /dev/null --socks5 $S:1080 http://$S/page.txt`, flows: []label{{at: "tcp/1080", truth: inClear, verdict: verify.Plaintext}},
	},
	{
		name: "socks-https", needs: []string{"microsocks"}, server: `(` + nginx + `) & exec microsocks -p 1080`, ready: []string{"tcp/1080", "tcp/443"},
		client: `curl -sS -o /dev/null --socks5 $S:1080 --cacert ca.crt --connect-to server.lab::$S: https://server.lab/page.txt`, flows: []label{{at: "tcp/1080", truth: sealed}},
	},
	{
		name: "svn", needs: []string{"svnserve", "svn"}, server: `svnadmin create r; exec svnserve -d --foreground -r $D`, ready: []string{"tcp/3690"},
		client: `svn info svn://$S/r`, flows: []label{{at: "tcp/3690", truth: inClear, verdict: verify.Plaintext}},
	},
	{
		name: "stun", needs: []string{"turnserver"}, server: `exec turnserver -n -L $S -p 3478 --no-tls --no-dtls --pidfile $D/pid --log-file stdout --no-cli`, ready: []string{"udp/3478"},
		client: `turnutils_stunclient $S`, flows: []label{plainly("udp/3478")},
	},
	{
		name: "beanstalkd", needs: []string{"beanstalkd"}, server: `exec beanstalkd -l 0.0.0.0`, ready: []string{"tcp/11300"},
		client: `printf 'put 0 0 60 6\r\nsecret\r\nreserve\r\nquit\r\n' | nc $S 11300`, flows: []label{{at: "tcp/11300", truth: inClear, verdict: verify.Plaintext}},
	},
	{
		name: "nats", needs: []string{"nats-server"}, server: `exec nats-server -a 0.0.0.0 -p 4222`, ready: []string{"tcp/4222"},
		client: `(printf 'CONNECT {}\r\nSUB plan 1\r\nPUB plan 6\r\nsecret\r\n'; until_true grep -q secret said) | nc -N $S 4222 > said`,
		flows:  []label{{at: "tcp/4222", truth: inClear, verdict: verify.Plaintext}},
	},
	{
		name: "etcd", needs: []string{"etcd", "etcdctl"}, server: `exec etcd --data-dir e --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://$S:2379`, ready: []string{"tcp/2379"},
		client: `export ETCDCTL_API=3; etcdctl --endpoints http://$S:2379 put plan 'attack at dawn'; etcdctl --endpoints http://$S:2379 get plan`,
		flows:  []label{clearAs("tcp/2379", "grpc")},
	},
	{
		name: "etcd-tls", needs: []string{"etcd", "etcdctl"}, server: `exec etcd --data-dir e --listen-client-urls https://0.0.0.0:2379 --advertise-client-urls https://$S:2379 --cert-file server.crt --key-file server.key`, ready: []string{"tcp/2379"},
		client: `export ETCDCTL_API=3; etcdctl --endpoints https://$S:2379 --cacert ca.crt put plan 'attack at dawn'`,
		flows:  []label{{at: "tcp/2379", truth: sealed, verdict: verify.TLS, version: "1.3"}},
	},
	{
		name: "radius-unanswered", needs: []string{"radclient"}, server: `exec socat -u UDP-RECV:1812 OPEN:heard,creat`, ready: []string{"udp/1812"},
		client: `echo 'User-Name = anna, User-Password = s3cret' | radclient -r 1 -t 1 $S auth testing123 || :`, flows: []label{plainly("udp/1812")},
	},
}
