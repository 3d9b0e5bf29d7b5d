package verify

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
)

func TestExpectationsAreRefusedByName(t *testing.T) {
	for _, tc := range []struct{ text, says string }{
		{"", "says nothing"},
		{"expect: []", "says nothing"},
		{"expects: []", "expects"},
		{"expect: [{from: 10.0.0.1}]", "seal: must be given"},
		{"expect: [{from: 10.0.0.1, seal: tls>=1.4}]", `version must be one of 1.0, 1.1, 1.2, 1.3`},
		{"expect: [{from: 10.0.0.1, seal: plaintext}]", `seal "plaintext": must be mtls`},
		{"expect: [{seal: tls}]", "from, to: at least one"},
		{"expect: [{to: 10.0.0.0/33, seal: tls}]", `to "10.0.0.0/33": must be an address`},
		{"expect: [{to: 10.0.0.1/8, seal: tls}]", "must be 10.0.0.0/8"},
		{"expect: [{to: '*:0', seal: tls}]", `port "0"`},
		{"expect: [{to: '*:9-8', seal: tls}]", `port "9-8"`},
		{"expect: [{to: '*:70000', seal: tls}]", `port "70000"`},
		{"expect: [{to: 'web:80', seal: tls}]", `to "web:80"`},
		{"expect: [{to: '[::1', seal: tls}]", `to "[::1"`},
		{"expect: [null]", "expect[0]: empty"},
		{"exempt: [{to: '*:53'}]", "reason: must be given"},
		{"exempt: [{reason: all of it}]", "matches everything"},
		{"exempt: [{reason: x, to: '*:53', why: y}]", "why"},
	} {
		_, err := ParseExpectations([]byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, which does not say %q", tc.text, err, tc.says)
		}
	}
	_, err := ParseExpectations([]byte("expect: [{seal: x}]\nexempt: [{}]"))
	for _, part := range []string{"expect[0]: seal", "from, to", "exempt[0]: reason", "matches everything"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in: %v", part, err)
		}
	}
}

func TestSides(t *testing.T) {
	for _, tc := range []struct {
		side, address string
		want          bool
	}{
		{"", "10.0.0.1:80", true},
		{"*", "[fd00::1]:80", true},
		{"10.0.0.1", "10.0.0.1:80", true},
		{"10.0.0.1", "[::ffff:10.0.0.1]:80", true},
		{"10.0.0.1", "10.0.0.2:80", false},
		{"10.0.0.0/8:80", "10.9.0.1:80", true},
		{"10.0.0.0/8:80", "10.9.0.1:81", false},
		{"*:80-90", "10.9.0.1:90", true},
		{"*:80-90", "10.9.0.1:91", false},
		{"fd00::/8", "[fd00::1]:443", true},
		{"[fd00::1]:443", "[fd00::1]:443", true},
		{"[fd00::1]:443", "[fd00::1]:444", false},
		{"fd00::1", "10.0.0.1:80", false},
	} {
		s, err := parseSide(tc.side)
		if err != nil {
			t.Errorf("%q: %v", tc.side, err)
		}
		if got := s.matches(netip.MustParseAddrPort(tc.address)); got != tc.want {
			t.Errorf("%q matches %s: %t", tc.side, tc.address, got)
		}
	}
}

// FuzzParseExpectations: no text makes it panic, and what it takes has reasons
// and something to match.
func FuzzParseExpectations(f *testing.F) {
	f.Add("expect: [{from: 10.0.0.1, to: '*:80-90', seal: tls>=1.3}]")
	f.Add("exempt: [{reason: probes, to: '[fd00::/8]:80', protocol: http}]")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExpectations([]byte(text))
		if err != nil {
			return
		}
		for _, x := range e.Exempt {
			if strings.TrimSpace(x.Reason) == "" {
				t.Error("an exemption without a reason")
			}
		}
	})
}

// judged is a session with one flow of each kind, numbered from 1: TLS 1.2 with
// a certificate, HTTP in clear and SSH.
func judged(t *testing.T, expect string, lanes []Lane) *Report {
	t.Helper()
	cfg := Config{}
	if expect != "" {
		e, err := ParseExpectations([]byte(expect))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Expect = e
	}
	s := NewSession(cfg)
	for i, found := range []Finding{
		{Verdict: TLS, Seal: "tls", Proto: capture.TCP, Src: "10.0.0.1:40000", Dst: "10.0.0.2:443",
			TLS: &TLSInfo{Version: "1.2", Cipher: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Group: "x25519", Handshake: handshakeSeen,
				Random: strings.Repeat("ab", 32), ALPNOffered: []string{"sealmesh/1"}, ServerCert: &Certificate{Names: []string{"web"}}}},
		{Verdict: Plaintext, Protocol: "http", Proto: capture.TCP, Src: "10.0.0.1:40001", Dst: "10.0.0.2:80",
			Evidence: newEvidence([]byte("GET / HTTP/1.1"), 4, fromClient)},
	} {
		found.Number = i + 1
		s.ledger.add(flowOf(found), &found)
	}
	if lanes != nil {
		s.Attest(lanes)
	}
	return s.Report(Seen{})
}

func TestExpectationsAndExemptions(t *testing.T) {
	const exempt = "exempt: [{reason: a probe, to: '*:80', protocol: http}]\n"
	for _, tc := range []struct {
		name, text string
		want       Result
		says       string // a doubt, or what a flow violates
	}{
		{"none", "", Leaked, ""},
		{"exempt", exempt, Sealed, ""},
		{"exempt by another protocol", "exempt: [{reason: x, to: '*:80', protocol: dns}]", Leaked, ""},
		{"exempt only before an upgrade", "exempt: [{reason: x, upgrade: smtp}]", Leaked, ""},
		{"met", exempt + "expect: [{to: '*:443', seal: tls}]", Sealed, ""},
		{"any", exempt + "expect: [{to: '*:443', seal: any, groups: [x25519], server: web}]", Sealed, ""},
		{"version", exempt + "expect: [{to: '*:443', seal: tls>=1.2}]", Sealed, ""},
		{"version too low", exempt + "expect: [{to: '*:443', seal: tls>=1.3}]", Violated, "tls 1.2, expected tls>=1.3"},
		{"not mutual", exempt + "expect: [{to: '*:443', seal: mtls}]", Violated, "sealed by tls, expected mtls"},
		{"another seal", exempt + "expect: [{name: tunnel, to: '*:443', seal: wireguard}]", Violated, "tunnel: sealed by tls, expected wireguard"},
		{"cipher", exempt + "expect: [{to: '*:443', seal: tls, ciphers: [TLS_AES_128_GCM_SHA256]}]", Violated, "cipher TLS_ECDHE"},
		{"group", exempt + "expect: [{to: '*:443', seal: tls, groups: [X25519MLKEM768]}]", Violated, "group x25519"},
		{"identity", exempt + "expect: [{to: '*:443', seal: tls, client: spiffe://a/b}]", Violated, "client not known"},
		{"missing", exempt + "expect: [{name: db, to: '*:5432', seal: tls}]", Inconclusive, "expected and not seen: db"},
		{"missing but optional", exempt + "expect: [{to: '*:5432', seal: tls, optional: true}]", Sealed, ""},
		{"plaintext where a seal is expected", "expect: [{to: '*:80', seal: tls}]", Leaked, "not sealed (plaintext), expected tls"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := judged(t, tc.text, nil)
			said := slices.Clone(r.Doubts)
			for f := range r.Flows() {
				said = append(said, f.Violates)
			}
			if r.Result != tc.want || !strings.Contains(strings.Join(said, "\n"), tc.says) {
				t.Errorf("%s, saying %q; want %s, saying %q", r.Result, said, tc.want, tc.says)
			}
		})
	}
}

func TestNothingButExemptTrafficProvesNothing(t *testing.T) {
	r := judged(t, "exempt: [{reason: x, to: '*:80'}, {reason: unused, to: '*:81'}]\nexpect: [{to: '*:443', seal: tls}]", nil)
	if r.Exemptions[0].Flows != 1 || r.Exemptions[1].Flows != 0 || r.Coverage.Exempt != 1 || r.Expected[0].Flows != 1 {
		t.Errorf("%+v %+v", r.Exemptions, r.Expected)
	}
	e, err := ParseExpectations([]byte("exempt: [{reason: x, proto: tcp}]"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewSession(Config{Expect: e})
	clear := flow([]byte("hello, world\n"), nil)
	clear.Number = 1
	s.Add(clear)
	if r := s.Report(Seen{}); r.Result != Inconclusive || !strings.Contains(r.Doubts[0], "nothing but exempt") {
		t.Errorf("%s: %q", r.Result, r.Doubts)
	}
}

func TestAttestation(t *testing.T) {
	lane := Lane{
		Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("10.0.0.2:443"),
		ClientID: "spiffe://demo.local/ns/shop/sa/web", ServerID: "spiffe://demo.local/ns/shop/sa/cart", By: fromClient,
	}
	for i := range lane.Random {
		lane.Random[i] = 0xab
	}
	with := func(change func(*Lane)) Lane {
		l := lane
		change(&l)
		return l
	}
	server := with(func(l *Lane) { l.By = fromServer })
	for _, tc := range []struct {
		name  string
		lanes []Lane
		seal  string
		note  string
	}{
		{"nobody was asked", nil, "tls", ""},
		{"one end", []Lane{lane}, "mtls", ""},
		{"both ends, twice", []Lane{lane, server, lane}, "mtls", ""},
		{"nobody attests it", []Lane{}, "tls", noteUnattested},
		{"another random", []Lane{with(func(l *Lane) { l.Random[0] = 1 })}, "tls", noteUnattested},
		{"another address", []Lane{with(func(l *Lane) { l.Client = l.Server })}, "tls", noteUnattested},
		{"the ends disagree", []Lane{lane, with(func(l *Lane) { l.ClientID, l.By = "spiffe://demo.local/x", fromServer })}, "tls", noteDisagree},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := judged(t, "exempt: [{reason: x, to: '*:80'}]", tc.lanes)
			found := slices.Collect(r.Flows())[0]
			if found.Seal != tc.seal || (tc.seal == "mtls") != (found.Attested != nil) {
				t.Errorf("seal %q, attested %+v", found.Seal, found.Attested)
			}
			if tc.note != "" && (!slices.Contains(found.Notes, tc.note) || r.Result != Inconclusive) {
				t.Errorf("%s, notes %q", r.Result, found.Notes)
			}
			if tc.note == "" && r.Result != Sealed {
				t.Errorf("%s: %q", r.Result, r.Doubts)
			}
		})
	}
}

// TestTwoRecordsAndTheWordOfBothProxies: a lane that is captured late, and says
// little, is what both its ends say it is; one end alone is not enough.
func TestTwoRecordsAndTheWordOfBothProxies(t *testing.T) {
	client, server := configs(t)
	toServer, toClient, _ := handshake(t, client, server, "sealed, and little")
	last := func(stream []byte) []byte {
		all, _ := tlswire.Records(stream)
		return stream[all[len(all)-1].Offset-tlswire.RecordHeader:]
	}
	f := flow(last(toServer), last(toClient))
	f.Number, f.Opened, f.ToServer.Began, f.ToClient.Began = 1, false, false, false
	f.Client, f.Server = netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:443")
	lane := Lane{Client: f.Client, Server: f.Server, ClientID: "spiffe://a/b", ServerID: "spiffe://a/c", By: fromClient}
	other := lane
	other.By = fromServer
	for _, tc := range []struct {
		lanes []Lane
		want  Verdict
	}{{nil, Unknown}, {[]Lane{lane}, Unknown}, {[]Lane{lane, other}, TLS}} {
		s := NewSession(Config{})
		s.Add(f)
		s.Attest(tc.lanes)
		found := slices.Collect(s.Report(Seen{}).Flows())[0]
		if found.Verdict != tc.want || (tc.want == TLS) != (found.Seal == "mtls") {
			t.Errorf("%d proxies: %s, seal %q, %s", len(tc.lanes), found.Verdict, found.Seal, found.Reason)
		}
	}
}

// FuzzParseLanes: no answer makes it panic.
func FuzzParseLanes(f *testing.F) {
	f.Add([]byte(`{"lanes":[{"direction":"inbound","client":"10.0.0.1:1","server":"10.0.0.2:2","local":"a","peer":"b","client_hello_random":"` + strings.Repeat("00", 32) + `"}]}`))
	f.Add([]byte(`{"lanes":[{"direction":"x"}]}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		lanes, err := ParseLanes(answer)
		if err != nil && lanes != nil {
			t.Error("lanes beside an error")
		}
	})
}
