package verify

// The traces of the Zeek project, each flow with the verdict expected of it, and
// what the hellos say held against tshark, which shares no code with us.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

const corpus = "../../../shared/corpus/zeek-tls"

// corpusVerdicts are of the flows of each file, in their order.
var corpusVerdicts = map[string][]Verdict{
	"CVE-2015-3194.pcap":                                 {TLS},
	"cert-no-cn.pcap":                                    {TLS}, // without a seal: Diffie-Hellman of 512 bits
	"certificate-request-failed.pcap":                    {Unknown},
	"certificate-with-sct.pcap":                          {TLS},
	"chrome-1250-tls-x25519-kyber.pcap":                  {TLS},
	"chrome-34-google.pcap":                              {TLS},
	"chrome-63.0.3211.0-canary-tls_experiment.pcap":      {TLS},
	"client-certificate.pcap":                            {TLS},
	"dhe.pcap":                                           {TLS},
	"dtls-sequence-number-jumps.pcap":                    {Unknown},                               // two hellos and no more
	"dtls13-cid.pcap":                                    {Unknown, DTLS, Unknown, Unknown, DTLS}, // hellos that nobody answers
	"dtls13-wolfssl.pcap":                                {DTLS},
	"dtls1_0.pcap":                                       {DTLS},
	"dtls1_2.pcap":                                       {DTLS},
	"ecdhe.pcap":                                         {TLS},
	"ecdsa-cert.pcap":                                    {TLS},
	"google-cert-repeat.pcap":                            {TLS, TLS, TLS, TLS, TLS, TLS, TLS, TLS},
	"google-duplicate.pcap":                              {TLS, TLS},
	"heartbleed-encrypted-short.pcap":                    {TLS},
	"heartbleed-encrypted-success.pcap":                  {TLS},
	"heartbleed-encrypted.pcap":                          {TLS},
	"heartbleed-success.pcap":                            {Unknown}, // heartbeats in clear before the handshake ends
	"heartbleed.pcap":                                    {Unknown},
	"hrr.pcap":                                           {TLS},
	"https-to-http.pcap":                                 {Plaintext}, // a proxy answers a ClientHello with a page
	"imap-starttls.pcap":                                 {Plaintext}, // here and below: text before TLS
	"irc-starttls.pcap":                                  {Plaintext},
	"missing-intermediate.pcap":                          {TLS, TLS, TLS},
	"ml-dsa-44-cert.pcap":                                {Unknown}, // ends with the certificate
	"ocsp-empty-responderid.pcap":                        {Plaintext},
	"ocsp-http-get.pcap":                                 {Plaintext},
	"ocsp-request-only.pcap":                             {Plaintext},
	"ocsp-request-response.pcap":                         {Plaintext},
	"ocsp-response-only.pcap":                            {Plaintext},
	"ocsp-revoked.pcap":                                  {Plaintext, Plaintext, Plaintext, Plaintext},
	"ocsp-stapling-digicert.pcap":                        {TLS},
	"ocsp-stapling-twimg.pcap":                           {TLS},
	"ocsp-stapling.pcap":                                 {TLS},
	"openjdk-25.0.2-zeek.org.pcap":                       {Unknown}, // ends with the ServerHello
	"pop3-starttls.pcap":                                 {Plaintext},
	"signed_certificate_timestamp-2.pcap":                {TLS},
	"signed_certificate_timestamp.pcap":                  {TLS},
	"signed_certificate_timestamp_tls1_0.pcap":           {TLS},
	"smtp-starttls.pcap":                                 {Plaintext},
	"ssl-to-http-server.pcap":                            {Plaintext},
	"ssl-v2.pcap":                                        {TLS},           // without a seal
	"ssl.v3.pcap":                                        {TLS, TLS, TLS}, // TLS 1.0 in truth
	"telesec.pcap":                                       {TLS},
	"tls-1.2-handshake-failure.pcap":                     {Unknown},
	"tls-1.2-protocol-error.pcap":                        {Unknown},
	"tls-1.2-stream-keylog.pcap":                         {TLS},
	"tls-13draft19-early-data.pcap":                      {TLS, TLS},
	"tls-conn-with-extensions.pcap":                      {TLS},
	"tls-early-alert.pcap":                               {TLS}, // a warning before the ServerHello
	"tls-expired-cert.pcap":                              {TLS, TLS},
	"tls-fragmented-handshake.pcap.gz":                   {Unknown}, // the client leaves in the middle of 300 KB of certificates
	"tls1.2-late-protocol-error.pcap":                    {Unknown}, // altered by hand, as the next one
	"tls1.2-protocol-violation.pcap":                     {Unknown},
	"tls1.2.pcap":                                        {TLS},
	"tls12-decryption.pcap":                              {TLS},
	"tls13-ech.pcap":                                     {Unknown, TLS, TLS}, // the first: an alert in each direction, no handshake
	"tls13_psk_succesfull.pcap":                          {TLS},
	"tls13_wolfssl.pcap":                                 {TLS},
	"tls13draft16-chrome55.0.2879.0-canary-aborted.pcap": {Unknown, Unknown},
	"tls13draft16-chrome55.0.2879.0-canary.pcap":         {TLS, TLS},
	"tls13draft16-ff52.a01-aborted.pcap":                 {Unknown, Unknown},
	"tls13draft16-ff52.a01.pcap":                         {Unknown, TLS}, // unknown_ca in clear
	"tls13draft23-chrome67.0.3368.0-canary.pcap":         {TLS, Silent},
	"tls1_1.pcap":                                        {TLS},
	"webrtc-stun.pcap":                                   {Unknown}, // DTLS 1.0 and STUN in clear
	"x509-generalizedtime.pcap":                          {TLS},
	"xmpp-dialback-starttls.pcap":                        {Plaintext},
	"xmpp-starttls.pcap":                                 {Plaintext},
}

func TestTracesOfZeekAreJudgedAsTheyAre(t *testing.T) {
	files, err := os.ReadDir(corpus)
	if err != nil {
		t.Skipf("not judged: %v", err)
	}
	for _, file := range files {
		t.Run(file.Name(), func(t *testing.T) {
			want, ok := corpusVerdicts[file.Name()]
			if !ok {
				t.Fatal("no verdicts are expected of this file")
			}
			var got []Verdict
			for _, found := range findings(t, filepath.Join(corpus, file.Name())) {
				got = append(got, found.Verdict)
			}
			if !slices.Equal(got, want) {
				t.Errorf("verdicts %v, want %v", got, want)
			}
		})
	}
}

func findings(t *testing.T, path string) []Finding {
	t.Helper()
	file, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []Finding
	for _, f := range file.Flows {
		all = append(all, Judge(f, Knowledge{}))
	}
	return all
}

// hellos is what tshark reads of a flow.
type hellos struct {
	random, sni, alpn      string
	version, cipher, group string
}

func TestTracesOfZeekAreReadAsTsharkReadsThem(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("not compared: tshark is not installed")
	}
	files, err := os.ReadDir(corpus)
	if err != nil {
		t.Skipf("not compared: %v", err)
	}
	var compared atomic.Int32
	t.Run("files", func(t *testing.T) {
		for _, file := range files {
			t.Run(file.Name(), func(t *testing.T) {
				t.Parallel()
				compared.Add(int32(compareWithTshark(t, tshark, filepath.Join(corpus, file.Name()))))
			})
		}
	})
	if n := compared.Load(); n < 60 {
		t.Errorf("only %d flows were compared", n)
	}
}

func compareWithTshark(t *testing.T, tshark, path string) (compared int) {
	t.Helper()
	proto, transport := "tls", "tcp"
	if strings.Contains(path, "dtls") {
		proto, transport = "dtls", "udp"
	}
	rows := tsharkRows(t, tshark, path, proto, transport)
	for _, found := range findings(t, path) {
		if found.TLS == nil || found.TLS.Version == "" || found.TLS.Version == "SSL 2.0" {
			continue
		}
		want := tsharkHellos(t, rows, found.Src[strings.LastIndex(found.Src, ":")+1:])
		if want.random == "" || want.version == "" {
			continue
		}
		got := hellos{found.TLS.Random, found.TLS.SNI, strings.Join(found.TLS.ALPNOffered, ","), found.TLS.Version, found.TLS.Cipher, found.TLS.Group}
		if got.group == "" && found.Bytes[1] > capture.Window {
			want.group = "" // what names it is behind the window
		}
		if got != want {
			t.Errorf("flow %d: we read\n%+v, tshark\n%+v", found.Number, got, want)
		}
		compared++
	}
	return compared
}

// tsharkRows is what tshark reads of each packet with handshake messages.
func tsharkRows(t *testing.T, tshark, path, proto, transport string) [][]string {
	t.Helper()
	args := []string{"-r", path, "-Y", proto, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a", "-e", transport + ".port"}
	for _, f := range []string{"type", "random", "extensions_server_name", "extensions_alpn_str", "version", "extensions.supported_version",
		"ciphersuite", "extensions_key_share_group", "server_named_curve", "p_len"} {
		args = append(args, "-e", proto+".handshake."+f)
	}
	out, err := exec.CommandContext(t.Context(), tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimRight(line, "\n"), "|"))
	}
	return rows
}

// tsharkHellos are the last hellos of the flow from a port.
func tsharkHellos(t *testing.T, rows [][]string, port string) hellos {
	t.Helper()
	var h hellos
	for _, row := range rows {
		if !slices.Contains(strings.Split(row[0], ","), port) {
			continue
		}
		f := row[1:]
		types := strings.Split(f[0], ",")
		switch {
		case slices.Contains(types, "1"):
			h = hellos{random: first(f[1]), sni: f[2], alpn: withoutGrease(f[3])}
		case slices.Contains(types, "2"):
			h.version = tlswire.VersionName(number(t, first(f[4])))
			if f[5] != "" {
				h.version = tlswire.VersionName(number(t, f[5]))
			}
			h.cipher = tlswire.CipherName(number(t, first(f[6])))
			h.group = named(t, f[7]+f[8])
		case f[8] != "" && h.group == "":
			h.group = named(t, f[8])
		}
		if f[9] != "" {
			h.group = fmt.Sprintf("dh%d", 8*int(number(t, f[9])))
		}
	}
	return h
}

func first(values string) string { return strings.Split(values, ",")[0] }

func withoutGrease(alpn string) string {
	var names []string
	for name := range strings.SplitSeq(alpn, ",") {
		if len(name) != 2 || name == "h2" {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

func named(t *testing.T, group string) string {
	t.Helper()
	if group == "" {
		return ""
	}
	return tlswire.GroupName(number(t, group))
}

func number(t *testing.T, s string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 16)
	if err != nil {
		t.Fatal(fmt.Errorf("tshark's number: %w", err))
	}
	return uint16(n)
}
