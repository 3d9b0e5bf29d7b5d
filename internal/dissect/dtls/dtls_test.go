package dtls

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestRecordsOfEveryForm(t *testing.T) {
	for name, tc := range map[string]struct {
		datagram string
		cid, cut int
		want     Record
		fails    bool
	}{
		"clear":                  {datagram: "\x16\xFE\xFD\x00\x00\x00\x00\x00\x00\x00\x07\x00\x02ab", want: Record{Type: 22, Version: 0xFEFD, Sequence: 7, Length: 2, Explicit: true}},
		"sealed":                 {datagram: "\x17\xFE\xFD\x00\x01\x00\x00\x00\x00\x00\x07\x00\x02ab", want: Record{Type: 23, Version: 0xFEFD, Epoch: 1, Sequence: 7, Length: 2, Explicit: true}},
		"with a connection id":   {datagram: "\x19\xFE\xFD\x00\x01\x00\x00\x00\x00\x00\x07xyz\x00\x02ab", cid: 3, want: Record{Type: 25, Version: 0xFEFD, Epoch: 1, Sequence: 7, Length: 2, Explicit: true}},
		"unified":                {datagram: "\x2F\x12\x34\x00\x02ab", want: Record{Epoch: 3, Sequence: 0x1234, Wide: true, Length: 2, Explicit: true}},
		"unified, short":         {datagram: "\x22\x12ab", want: Record{Epoch: 2, Sequence: 0x12, Length: 2}},
		"unified, connection id": {datagram: "\x3Fid\x12\x34\x00\x02ab", cid: 2, want: Record{Epoch: 3, Sequence: 0x1234, Wide: true, Length: 2, Explicit: true}},
		"cut":                    {datagram: "\x17\xFE\xFD\x00\x01\x00\x00\x00\x00\x00\x07\x00\x09ab", cut: 7, want: Record{Type: 23, Version: 0xFEFD, Epoch: 1, Sequence: 7, Length: 9, Explicit: true}},
		"longer than there is":   {datagram: "\x17\xFE\xFD\x00\x01\x00\x00\x00\x00\x00\x07\x00\x09ab", fails: true},
		"of TLS":                 {datagram: "\x17\x03\x03\x00\x01\x00\x00\x00\x00\x00\x07\x00\x02ab", fails: true},
		"text":                   {datagram: "GET / HTTP/1.1\r\n\r\n", fails: true},
		"empty":                  {datagram: "", fails: true},
	} {
		all, err := Records([]byte(tc.datagram), tc.cid, tc.cut)
		if (err != nil) != tc.fails || err == nil && len(all) != 1 {
			t.Errorf("%s: %+v, %v", name, all, err)
			continue
		}
		if tc.fails {
			continue
		}
		got := all[0]
		if !bytes.Equal(got.Body, []byte("ab")) || got.Whole() != (tc.cut == 0) {
			t.Errorf("%s: body %q", name, got.Body)
		}
		got.Body, got.Offset = nil, 0
		if got.Type != tc.want.Type || got.Version != tc.want.Version || got.Epoch != tc.want.Epoch || got.Sequence != tc.want.Sequence || got.Wide != tc.want.Wide ||
			got.Length != tc.want.Length || got.Explicit != tc.want.Explicit {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
	}
}

// TestMessagesComeTogether sends fragments in any order, some twice.
func TestMessagesComeTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "body")
		size := rapid.IntRange(1, len(body)).Draw(t, "size")
		var fragments []Fragment
		for at := 0; at < len(body); at += size {
			fragments = append(fragments, Fragment{Type: 11, Sequence: 2, Length: len(body), Offset: at, Body: body[at:min(at+size, len(body))]})
		}
		fragments = append(fragments, rapid.SliceOf(rapid.SampledFrom(fragments)).Draw(t, "again")...)
		var j Joiner
		for _, f := range rapid.Permutation(fragments).Draw(t, "order") {
			j.Add(f)
		}
		all := j.Messages()
		if len(all) != 1 || !bytes.Equal(all[0].Body, body) || j.Conflict {
			t.Errorf("%+v, conflict %t", all, j.Conflict)
		}
		j.Add(Fragment{Type: 11, Sequence: 2, Length: len(body), Body: []byte{body[0] + 1}})
		if !j.Conflict {
			t.Error("another content is no conflict")
		}
	})
}

// FuzzDatagram: no datagram makes a parser panic, and records lie one behind the
// other.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte("\x16\xFE\xFD\x00\x00\x00\x00\x00\x00\x00\x07\x00\x0d\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01a"), 0, 0)
	f.Add([]byte("\x3Fid\x12\x34\x00\x02ab"), 2, 5)
	f.Fuzz(func(t *testing.T, datagram []byte, cid, cut int) {
		cid, cut = cid&0xFF, cut&0xFFFF
		all, err := Records(datagram, cid, cut)
		at := 0
		var j Joiner
		for _, r := range all {
			if r.Offset <= at || r.Offset+len(r.Body) > len(datagram) || len(r.Body) > r.Length {
				t.Errorf("record %+v behind %d, %v", r, at, err)
			}
			at = r.Offset + r.Length
			fragments, _ := Fragments(r.Body)
			for _, fr := range fragments {
				j.Add(fr)
			}
		}
		_ = j.Messages()
	})
}
