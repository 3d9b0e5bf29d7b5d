package verify

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// TestTheKeyHoldsEveryField changes each field of a finding by reflection: two
// that differ anywhere but in what a record holds must not share a detail.
func TestTheKeyHoldsEveryField(t *testing.T) {
	own := []string{"Number", "Src", "Dst", "Packets", "Bytes", "expected", "TLS.Random"}
	full := func() *Finding {
		return &Finding{
			TLS:       &TLSInfo{ServerCert: &Certificate{}, ClientCert: &Certificate{}},
			WireGuard: &WireGuardInfo{}, SSH: &SSHInfo{}, Upgrade: &Upgrade{}, Attested: &Attestation{}, Decrypted: &Peers{},
			Evidence: &Evidence{Text: "TLS_RSA_WITH_NULL_SHA"},
		}
	}
	plain := string(appendKey(nil, full()))
	var visit func(path string, at func(*Finding) reflect.Value)
	visit = func(path string, at func(*Finding) reflect.Value) {
		f := full()
		v := at(f)
		switch v.Kind() {
		case reflect.Pointer:
			visit(path, func(f *Finding) reflect.Value { return at(f).Elem() })
			return
		case reflect.Struct:
			for i := range v.NumField() {
				name := strings.TrimPrefix(path+"."+v.Type().Field(i).Name, ".")
				if !slices.Contains(own, name) {
					visit(name, func(f *Finding) reflect.Value { return at(f).Field(i) })
				}
			}
			return
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int, reflect.Int64:
			v.SetInt(7)
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"x"}))
		case reflect.Array:
			v.Index(1).SetInt(7)
		default:
			t.Fatalf("%s: no way to change a %s", path, v.Kind())
		}
		if string(appendKey(nil, f)) == plain {
			t.Errorf("%s is not part of the key", path)
		}
	}
	visit("", func(f *Finding) reflect.Value { return reflect.ValueOf(f).Elem() })
}

// TestTheLedgerGivesBackWhatItWasGiven: nothing is lost or mixed up.
func TestTheLedgerGivesBackWhatItWasGiven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := newLedger()
		var want []Finding
		for i := range rapid.IntRange(0, 30).Draw(t, "flows") {
			f := drawFlow(t, i+1)
			found := drawFinding(t, f)
			want = append(want, found)
			if rapid.Bool().Draw(t, "late") && len(want) > 1 { // flows end in any order
				continue
			}
		}
		order := rapid.Permutation(indexes(len(want))).Draw(t, "order")
		for _, i := range order {
			found := want[i]
			l.add(flowOf(found), &found)
		}
		var got []Finding
		l.inOrder(func(r *record) bool {
			got = append(got, l.at(r))
			return true
		})
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(Finding{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

func indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

var macs = [2][6]byte{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

func drawFlow(t *rapid.T, number int) *capture.Flow {
	ends := rapid.SampledFrom([][2]string{
		{"10.0.0.1:40000", "10.0.0.2:80"}, {"[fd00::1]:40000", "[fd00::2]:443"}, {"[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:2"},
	}).Draw(t, "ends")
	f := &capture.Flow{
		Number: number,
		Proto:  rapid.SampledFrom([]capture.Proto{capture.TCP, capture.UDP, capture.ICMP, capture.MACsec, capture.ESP}).Draw(t, "proto"),
		Client: netip.MustParseAddrPort(ends[0]), Server: netip.MustParseAddrPort(ends[1]),
	}
	if f.Proto == capture.MACsec {
		f.Client, f.Server = netip.AddrPort{}, netip.AddrPort{}
		f.ClientMAC, f.ServerMAC = macs[0], macs[1]
	}
	f.ToServer.Packets, f.ToClient.Bytes = rapid.IntRange(0, 1<<31).Draw(t, "packets"), rapid.Int64Range(0, 1<<50).Draw(t, "bytes")
	return f
}

// flowOf is a flow with the ends of a finding.
func flowOf(found Finding) *capture.Flow {
	f := &capture.Flow{Number: found.Number, Proto: found.Proto}
	switch {
	case found.Proto == capture.MACsec:
		f.ClientMAC, f.ServerMAC = macs[0], macs[1]
	case hasPorts(found.Proto):
		f.Client, f.Server = netip.MustParseAddrPort(found.Src), netip.MustParseAddrPort(found.Dst)
	default:
		f.Client = netip.AddrPortFrom(netip.MustParseAddr(found.Src), 0)
		f.Server = netip.AddrPortFrom(netip.MustParseAddr(found.Dst), 0)
	}
	return f
}

func drawFinding(t *rapid.T, f *capture.Flow) Finding {
	found := describe(f)
	found.Verdict = rapid.SampledFrom(Verdicts).Draw(t, "verdict")
	found.Reason = rapid.SampledFrom([]string{"", "a reason", "another"}).Draw(t, "reason")
	if rapid.Bool().Draw(t, "tls") {
		found.TLS = &TLSInfo{Version: "1.3", SNI: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "sni"), Handshake: handshakeSeen}
		if rapid.Bool().Draw(t, "random") {
			found.TLS.Random = hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "bytes"))
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "evidence") {
	case 1:
		raw := rapid.SliceOfN(rapid.Byte(), 1, evidenceBytes).Draw(t, "raw")
		from := rapid.SampledFrom([]string{fromClient, fromServer}).Draw(t, "from")
		found.Evidence = newEvidence(raw, rapid.IntRange(1, 1<<30).Draw(t, "packet"), from)
	case 2:
		found.Evidence = &Evidence{Text: "TLS_RSA_WITH_NULL_SHA", From: fromServer}
	}
	return found
}

// TestAMillionFlowsAreKeptInLittleMemory: sealed ones, each with a random of its
// own, and plaintext ones, each with other evidence.
func TestAMillionFlowsAreKeptInLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a few seconds")
	}
	const flows, bound = 250_000, 100 // bytes each
	before := heap()
	l := newLedger()
	f := &capture.Flow{Proto: capture.TCP, Client: netip.MustParseAddrPort("10.0.0.1:40000"), Server: netip.MustParseAddrPort("10.0.0.2:80")}
	for i := range flows {
		f.Number = i + 1
		found := describe(f)
		if i%2 == 0 {
			found.Verdict, found.Seal = TLS, "tls"
			found.TLS = &TLSInfo{Version: "1.3", Random: fmt.Sprintf("%064x", i), SNI: fmt.Sprint("host", i)}
		} else {
			found.Verdict = Plaintext
			found.Evidence = newEvidence(fmt.Appendf(nil, "GET /%d HTTP/1.1", i), i, fromClient)
		}
		l.add(f, &found)
	}
	used := heap() - before
	t.Logf("%d bytes for each flow", used/flows)
	if fixed := int64(maxDetails * 1500); used > flows*bound+fixed {
		t.Errorf("%d flows take %d bytes", flows, used)
	}
	if l.shortened == 0 {
		t.Error("no finding was shortened, though each has a name of its own")
	}
	runtime.KeepAlive(l)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestFlowsBeyondTheListAreCounted(t *testing.T) {
	s := NewSession(Config{MaxFlows: 1})
	for i, text := range []string{"", "hello, world\n", ""} {
		f := flow([]byte(text), nil)
		f.Number = i + 1
		s.Add(f)
	}
	r := s.Report(Seen{})
	if r.Result != Leaked || r.Coverage.Flows != 3 || r.Coverage.Unlisted != 2 || len(slices.Collect(r.Flows())) != 1 {
		t.Errorf("%s: %+v", r.Result, r.Coverage)
	}
}
