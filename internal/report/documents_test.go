package report

import (
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/sealmesh/sealmesh/internal/verify"
)

var moment0 = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func meta(files ...File) Meta {
	return Meta{
		Command: "sealmesh verify --read lab.pcapng --expect edges.yaml -o html --out report.html", Version: "v0.0.0-test",
		First: moment0.Add(-time.Hour), Last: moment0.Add(-time.Hour + 30*time.Second + 250*time.Millisecond),
		Files: files,
	}
}

var oneFile = File{Name: "lab.pcapng", SHA256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", Size: 1_234_567}

// documents are of every kind that there is.
func documents() map[string]*Document {
	sealed := of(verify.Sealed, nil, mtls(1, "10.1.0.2:40112"), mtls(2, "10.1.0.2:40114"), tls12(3), wireguard(4), silent(5))
	leaky := of(verify.Leaked, []string{"one flow is shown neither sealed nor plaintext", "2 packets were dropped by the capture"},
		mtls(1, "10.1.0.2:40112"), http(2, "10.1.0.3:51000"), http(3, "10.1.0.3:51002"), unknown(4), starttls(5),
		exempt(6), weak(7), violating(8), silent(9), ssh(10), quic(11), tls12(12), unattested(13))
	leaky.Coverage.Dropped, leaky.Coverage.Midstream, leaky.Coverage.OneWay = 2, 1, 1
	leaky.Expected = []verify.Outcome{
		{Name: "curl to web", Seal: "mtls", Flows: 1},
		{Name: "shop to pay", Seal: "tls>=1.3", Flows: 1, Violations: 1},
		{Name: "web to cart", Seal: "any", Missing: true},
	}
	leaky.Exempted = []verify.Use{{Reason: "probes of the kubelet", Flows: 1}, {Reason: "names are looked up in clear", Flows: 0}}
	nothing := of(verify.Inconclusive, []string{"no flow with payload was seen"})
	nothing.Meta.First, nothing.Meta.Last = time.Time{}, time.Time{}
	narrow := of(verify.Inconclusive, []string{"one flow is shown neither sealed nor plaintext"}, ipv6(1), unknown(2))
	violated := of(verify.Violated, nil, violating(1), mtls(2, "10.1.0.2:40112"))
	violated.Expected = []verify.Outcome{{Name: "shop to pay", Seal: "tls>=1.3", Flows: 1, Violations: 1}}
	for i := range 7 {
		violated.Meta.Files = append(violated.Meta.Files, File{Name: "more-" + strconv.Itoa(i) + ".pcap.gz", Size: 1000})
	}
	violated.Meta.Last = violated.Meta.First.AddDate(0, 0, 3)
	return map[string]*Document{"sealed": sealed, "leaky": leaky, "nothing": nothing, "ipv6": narrow, "hostile": hostile(trap), "violated": violated}
}

func of(result verify.Result, doubts []string, flows ...verify.Finding) *Document {
	d := &Document{Meta: meta(oneFile), Result: result, Doubts: doubts, Flows: slices.Values(flows)}
	d.Coverage.Flows = len(flows)
	for _, f := range flows {
		d.Coverage.Packets += f.Packets[0] + f.Packets[1]
		if f.Exempt != "" {
			d.Coverage.Exempt++
		}
	}
	return d
}

func finding(number int, src, dst string, v verify.Verdict) verify.Finding {
	f := verify.Finding{Number: number, Src: src, Dst: dst, Proto: "tcp", Verdict: v, Packets: [2]int{7, 6}, Bytes: [2]int64{1843, 2411}}
	if v.Seals() {
		f.Seal = string(v)
	}
	return f
}

func evidence(text string, packet int) *verify.Evidence {
	quoted := strconv.Quote(text)
	return &verify.Evidence{Text: quoted[1 : len(quoted)-1], Hex: hex.EncodeToString([]byte(text)), Packet: packet, From: "client"}
}

func tlsInfo(version, cipher, group, sni string) *verify.TLSInfo {
	return &verify.TLSInfo{Version: version, Cipher: cipher, Group: group, SNI: sni, Handshake: "seen"}
}

func mtls(number int, src string) verify.Finding {
	f := finding(number, src, "10.1.1.2:2929", verify.TLS)
	f.Seal = "mtls"
	f.TLS = tlsInfo("1.3", "TLS_AES_128_GCM_SHA256", "X25519MLKEM768", "web.shop.demo.local")
	f.TLS.ALPNOffered = []string{"sealmesh/1"}
	f.Attested = &verify.Attestation{Client: "spiffe://demo.local/ns/shop/sa/curl", Server: "spiffe://demo.local/ns/shop/sa/web", By: "both"}
	f.Decrypted = &verify.Peers{Server: "spiffe://demo.local/ns/shop/sa/web"}
	return f
}

func tls12(number int) verify.Finding {
	f := finding(number, "10.1.0.4:40200", "192.0.2.10:443", verify.TLS)
	f.TLS = tlsInfo("1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "secp256r1", "api.example.com")
	f.TLS.ServerCert = &verify.Certificate{Subject: "CN=api.example.com", Issuer: "CN=Example CA", Names: []string{"api.example.com", "example.com"}, NotAfter: "2027-01-01T00:00:00Z", SHA256: "ab"}
	f.TLS.ClientCert = &verify.Certificate{Subject: "CN=shop", Issuer: "CN=Example CA"}
	return f
}

func wireguard(number int) verify.Finding {
	f := finding(number, "192.0.2.1:51820", "192.0.2.2:51820", verify.WireGuard)
	f.Proto, f.WireGuard = "udp", &verify.WireGuardInfo{Handshake: "seen", Client: "node-a", Server: "node-b", Messages: 12}
	return f
}

func quic(number int) verify.Finding {
	f := finding(number, "10.1.0.5:50001", "192.0.2.10:443", verify.QUIC)
	f.Proto, f.TLS = "udp", tlsInfo("1.3", "TLS_AES_128_GCM_SHA256", "X25519", "h3.example.com")
	f.TLS.QUICVersion, f.TLS.ECH = "v1", true
	return f
}

func ssh(number int) verify.Finding {
	f := finding(number, "10.1.0.6:50022", "10.1.1.6:22", verify.SSH)
	f.SSH = &verify.SSHInfo{Client: "OpenSSH_9.2p1", Server: "OpenSSH_9.2p1", Kex: "sntrup761x25519-sha512", Cipher: "chacha20-poly1305@openssh.com"}
	return f
}

func http(number int, src string) verify.Finding {
	f := finding(number, src, "10.1.1.3:80", verify.Plaintext)
	f.Protocol, f.Evidence = "http", evidence("GET /cart?user=17 HTTP/1.1\r\nHost: cart.shop\r\nCookie: session=e1", 4+number)
	return f
}

func starttls(number int) verify.Finding {
	f := finding(number, "10.1.0.7:41025", "10.1.1.7:25", verify.Plaintext)
	f.Protocol, f.Evidence = "smtp", evidence("EHLO shop\r\nSTARTTLS\r\n", 31)
	f.Upgrade, f.TLS = &verify.Upgrade{From: "smtp", Bytes: [2]int64{21, 180}}, tlsInfo("1.3", "TLS_AES_256_GCM_SHA384", "X25519", "")
	return f
}

func unknown(number int) verify.Finding {
	f := finding(number, "10.1.0.9:40900", "10.1.1.9:9000", verify.Unknown)
	f.Reason, f.Midstream, f.OneWay = "neither readable nor of a form that is known to encrypt", true, true
	return f
}

func exempt(number int) verify.Finding {
	f := finding(number, "10.1.0.1:39000", "10.1.1.2:15090", verify.Plaintext)
	f.Protocol, f.Exempt, f.Evidence = "http", "probes of the kubelet", evidence("GET /ready HTTP/1.1\r\n", 61)
	return f
}

func weak(number int) verify.Finding {
	f := finding(number, "10.1.0.8:40008", "10.1.1.8:8443", verify.TLS)
	f.TLS = tlsInfo("1.0", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "", "old.example.com")
	f.Weak = []string{"TLS 1.0", "3DES"}
	return f
}

func violating(number int) verify.Finding {
	f := tls12(number)
	f.Src, f.Dst, f.Violates = "10.1.0.3:40300", "192.0.2.20:443", "shop to pay: tls 1.2, expected tls>=1.3"
	return f
}

func unattested(number int) verify.Finding {
	f := mtls(number, "10.1.0.10:40310")
	f.Seal, f.Attested, f.Notes = "tls", nil, []string{"claims to be a lane, and no proxy attests it"}
	return f
}

func silent(number int) verify.Finding {
	f := finding(number, "10.1.0.2:45454", "10.1.1.2:22", verify.Silent)
	f.Bytes = [2]int64{}
	return f
}

func ipv6(number int) verify.Finding {
	f := mtls(number, "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:1]:40112")
	f.Dst = "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:2929"
	f.Vantage, f.Overlay = "worker-1/eth0", "vxlan 42"
	return f
}

// trap is what a stranger may send: markup, an escape sequence, a bidi override,
// a null byte, a broken character, one that hides and one that turns around.
const trap = "<script>alert(1)</script>\"'&\x1b[2J\x1b]0;owned\a\u202egpj.exe\u200b\x00\xff\u009b31m\u2066א\u0300]]>{{.}}"

// hostile puts a trap wherever a capture can.
func hostile(trap string) *Document {
	f := http(1, "10.1.0.3:51000")
	f.Protocol, f.Reason, f.Violates = trap, trap, trap
	f.Evidence = &verify.Evidence{Text: trap, Hex: hex.EncodeToString([]byte(trap)), Packet: 7, From: "client"}
	f.TLS = tlsInfo(trap, trap, trap, trap)
	f.TLS.ALPNOffered = []string{trap}
	f.TLS.ServerCert = &verify.Certificate{Subject: trap, Names: []string{trap}}
	f.Weak, f.Notes, f.Vantage, f.Overlay = []string{trap}, []string{trap}, trap, trap
	f.Attested = &verify.Attestation{Client: trap, Server: trap, By: "client"}
	g := exempt(2)
	g.Exempt = trap
	h := ssh(3)
	h.SSH.Client, h.SSH.Server, h.SSH.Cipher, h.SSH.Kex = trap, trap, trap, trap
	u := unknown(4)
	u.Reason, u.Notes = trap, []string{trap}
	d := of(verify.Leaked, []string{trap}, f, g, h, u)
	d.Meta.Command, d.Meta.Files, d.Meta.Where = "sealmesh verify --read '"+trap+"'", []File{{Name: trap, Size: 7}}, trap
	d.Expected = []verify.Outcome{{Name: trap, Seal: trap, Flows: 2, Violations: 1}, {Name: trap, Seal: trap, Missing: true}}
	d.Exempted = []verify.Use{{Reason: trap, Flows: 1}}
	return d
}
