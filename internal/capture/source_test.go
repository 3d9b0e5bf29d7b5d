package capture

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// block is one block of pcapng.
func block(order binary.AppendByteOrder, kind uint32, body ...any) []byte {
	b := bytesOf(body...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	head := order.AppendUint32(order.AppendUint32(nil, kind), uint32(12+len(b)))
	return order.AppendUint32(append(head, b...), uint32(12+len(b)))
}

// numbers are 32 bits each.
func numbers(order binary.AppendByteOrder, all ...uint32) []byte {
	var b []byte
	for _, n := range all {
		b = order.AppendUint32(b, n)
	}
	return b
}

// optionOf is one option, padded.
func optionOf(order binary.AppendByteOrder, code int, value []byte) []byte {
	b := append(order.AppendUint16(order.AppendUint16(nil, uint16(code)), uint16(len(value))), value...)
	return append(b, make([]byte, (4-len(value)%4)%4)...)
}

func sectionOf(order binary.AppendByteOrder) []byte {
	return block(order, blockSection, numbers(order, 0x1a2b3c4d), order.AppendUint16(order.AppendUint16(nil, 1), 0), bytes.Repeat([]byte{0xff}, 8))
}

func interfaceOf(order binary.AppendByteOrder, link int, snaplen uint32, options ...[]byte) []byte {
	return block(order, blockInterface, order.AppendUint16(nil, uint16(link)), 0, 0, numbers(order, snaplen), bytes.Join(options, nil))
}

func packetOf(order binary.AppendByteOrder, iface uint32, ticks uint64, data []byte) []byte {
	n := uint32(len(data))
	padded := append(slices.Clone(data), make([]byte, (4-n%4)%4)...)
	comment := optionOf(order, 1, []byte("a comment"))
	return block(order, blockPacket, numbers(order, iface, uint32(ticks>>32), uint32(ticks), n, n), padded, comment)
}

// frames are all of a source, each as text, and its last error.
func frames(r io.Reader) (all []string, src Source, err error) {
	src, err = OpenSource(r, "x")
	if err != nil {
		return nil, nil, err
	}
	for {
		var f Frame
		if err := src.Next(&f); err != nil {
			return all, src, err
		}
		all = append(all, fmt.Sprintf("%d %s %d/%d %d %q %s", f.Number, f.Data, len(f.Data), f.Length, f.Link, f.Vantage, f.Time.UTC().Format("05.000000000")))
	}
}

func TestEveryFormOfPcap(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for magic, tc := range map[uint32]struct {
			fraction uint32
			more     int
		}{0xa1b2c3d4: {123456, 0}, 0xa1b23c4d: {123456000, 0}, 0xa1b2cd34: {123456, 8}} {
			file := numbers(order, magic)
			file = order.AppendUint16(order.AppendUint16(file, 2), 4)
			file = append(file, numbers(order, 0, 0, 4, 101)...) // a snap length that packets do not keep to
			for _, data := range []string{"first", "2nd"} {
				file = bytesOf(file, numbers(order, 7, tc.fraction, uint32(len(data)), 9), make([]byte, tc.more), data)
			}
			got, _, err := frames(bytes.NewReader(file))
			want := []string{`1 first 5/9 101 "" 07.123456000`, `2 2nd 3/9 101 "" 07.123456000`}
			if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
				t.Errorf("%x %v: %q, %v", magic, order, got, err)
			}
			if _, _, err := frames(bytes.NewReader(file[:len(file)-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%x %v, cut: %v", magic, order, err)
			}
		}
	}
}

func TestEveryBlockOfPcapng(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		name := func(s string) []byte { return optionOf(order, 2, []byte(s)) }
		nano := optionOf(order, 9, []byte{9})
		binaryTime := optionOf(order, 9, []byte{0x80 | 10})
		offset := optionOf(order, 14, order.AppendUint64(nil, 3))
		drops := optionOf(order, 5, order.AppendUint64(nil, 4))
		keys := "CLIENT_RANDOM 00 11"
		names := optionOf(order, 1, bytesOf(10, 0, 0, 1, "web.shop", 0, "web", 0))
		file := bytesOf(
			sectionOf(order),
			interfaceOf(order, 1, 0, name("eth0")), interfaceOf(order, 101, 4, name("eth1"), nano, offset), interfaceOf(order, 113, 0, name("eth1"), binaryTime),
			block(order, 0xbad, "whatever it is"),
			packetOf(order, 0, 7_000_001, []byte("one")), packetOf(order, 1, 5_000_000_002, []byte("two")), packetOf(order, 2, 9<<10+512, []byte("four")),
			block(order, blockSecrets, numbers(order, 0x544c534b, uint32(len(keys))), keys),
			block(order, blockNames, names, optionOf(order, 0, nil)),
			block(order, blockStatistics, numbers(order, 1, 0, 0), optionOf(order, 5, order.AppendUint64(nil, 2)), optionOf(order, 0, nil)),
			block(order, blockStatistics, numbers(order, 1, 0, 0), drops),
			block(order, blockSimple, numbers(order, 9), "nine byte"),
			block(order, blockOldPacket, order.AppendUint16(order.AppendUint16(nil, 0), 0), numbers(order, 0, 8_000_000, 3, 3), "old"),
			sectionOf(order), interfaceOf(order, 101, 4, name("eth0")),
			block(order, blockSimple, numbers(order, 9), "nine"),
			packetOf(order, 0, 7_000_000, []byte("again")),
		)
		want := []string{
			`1 one 3/3 1 "eth0" 07.000001000`, `2 two 3/3 101 "eth1" 08.000000002`, `3 four 4/4 113 "eth1#2" 09.500000000`,
			`4 nine byte 9/9 1 "eth0" 09.500000000`, `5 old 3/3 1 "eth0" 08.000000000`,
			`6 nine 4/9 101 "" 08.000000000`, `7 again 5/5 101 "" 07.000000000`,
		}
		got, src, err := frames(bytes.NewReader(file))
		if !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Errorf("%v: %v\n got %q\nwant %q", order, err, got, want)
		}
		if n := src.(Dropping).Dropped(); n != 4 {
			t.Errorf("%v: %d dropped", order, n)
		}
		if s := string(src.(Secretive).Secrets()); s != keys+"\n" {
			t.Errorf("%v: secrets %q", order, s)
		}
		if n := src.(Naming).Names()[netip.MustParseAddr("10.0.0.1")]; !slices.Equal(n, []string{"web.shop", "web"}) {
			t.Errorf("%v: names %q", order, n)
		}
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, _ = w.Write(file)
		_ = w.Close()
		if got, _, err := frames(bytes.NewReader(zipped.Bytes())); !errors.Is(err, io.EOF) || !slices.Equal(got, want) {
			t.Errorf("%v, zipped: %q, %v", order, got, err)
		}
		if _, _, err := frames(bytes.NewReader(zipped.Bytes()[:zipped.Len()/2])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%v, zipped and cut: %v", order, err)
		}
	}
}

func TestWhatMakesNoSenseIsAnErrorThatSaysWhere(t *testing.T) {
	le := binary.LittleEndian
	ng := bytesOf(sectionOf(le), interfaceOf(le, 101, 0), packetOf(le, 0, 1, []byte("one")))
	pcap := bytesOf(numbers(le, 0xa1b2c3d4, 0x40002, 0, 0, 4, 101), numbers(le, 1, 1, 3, 3), "one")
	odd := block(le, 0xbad, "1234")
	odd[len(odd)-4]++
	mismatch := packetOf(le, 0, 1, []byte("two"))
	mismatch[len(mismatch)-4] += 4
	for _, tc := range []struct {
		name string
		file []byte
		want string
		good int
	}{
		{"a record too long to be one", bytesOf(pcap, numbers(le, 1, 1, 1<<30, 1<<30), "two"), "x: packet 2: record of 1073741824 bytes, at most 262144 are believed", 1},
		{"a block without a length", bytesOf(ng, numbers(le, blockPacket, 0)), "x: packet 2: block of 0 bytes", 1},
		{"a block too long to be one", bytesOf(ng, numbers(le, blockPacket, 1<<30)), "x: packet 2: block of 1073741824 bytes, at most 524288 are believed", 1},
		{"a block with two lengths", bytesOf(ng, mismatch), "x: packet 2: a block does not end as it begins", 1},
		{"a packet that is longer than its block", bytesOf(ng, block(le, blockPacket, numbers(le, 0, 0, 0, 99, 99), "two")), "x: packet 2: 99 bytes, in a block that holds 4", 1},
		{"an interface that is none", bytesOf(ng, packetOf(le, 7, 1, nil)), "x: packet 2: of interface 7, but there are 1", 1},
		{"statistics of an interface that is none", bytesOf(ng, block(le, blockStatistics, numbers(le, 7, 0, 0))), "x: packet 2: statistics of interface 7, but there are 1", 1},
		{"a short block", bytesOf(ng, block(le, blockPacket, "1234")), "x: packet 2: a block is shorter than what it has to say", 1},
		{"secrets that are longer than their block", bytesOf(ng, block(le, blockSecrets, numbers(le, 0x544c534b, 1<<20))), "x: packet 2: a block is shorter than what it has to say", 1},
		{"an unknown block, cut off", bytesOf(ng, numbers(le, 0xbad, 1<<30), "1234"), "x: packet 2: unexpected EOF", 1},
		{"another version", bytesOf(numbers(le, 0xa1b2c3d4, 0x40009), make([]byte, 16)), "x: not a pcap or pcapng file: pcap version 9, only 2 is known", 0},
		{"text", []byte("this is text and no capture"), "x: not a pcap or pcapng file: begins with 74686973", 0},
		{"nothing", nil, "x: not a pcap or pcapng file: EOF", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _, err := frames(bytes.NewReader(tc.file))
			if err == nil || err.Error() != tc.want || len(got) != tc.good {
				t.Errorf("%d frames, %v", len(got), err)
			}
		})
	}
	if got, _, err := frames(bytes.NewReader(bytesOf(ng, odd))); !errors.Is(err, io.EOF) || len(got) != 1 {
		t.Errorf("an unknown block that ends oddly: %q, %v", got, err)
	}
	flows := 0
	table := NewTable(Limits{}, func(*Flow) { flows++ })
	data := hello4(t)
	src, err := OpenSource(bytes.NewReader(bytesOf(sectionOf(le), interfaceOf(le, 101, 0), packetOf(le, 0, 1, data), numbers(le, 6, 0))), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Read(src); err == nil || table.Close().Packets != 1 || flows != 1 {
		t.Errorf("what came before the error: %v, %d flows", err, flows)
	}
}

func TestSeveralFilesAreSeveralVantages(t *testing.T) {
	dir := t.TempDir()
	data := hello4(t)
	le := binary.LittleEndian
	contents := map[string][]byte{
		"a": pcapFile(t, 101, data, data).Bytes(),
		"b": bytesOf(sectionOf(le), interfaceOf(le, 101, 0, optionOf(le, 2, []byte("i0"))), interfaceOf(le, 101, 0, optionOf(le, 2, []byte("i1"))),
			packetOf(le, 0, 1, data), packetOf(le, 1, 1, data), block(le, blockStatistics, numbers(le, 0, 0, 0), optionOf(le, 5, le.AppendUint64(nil, 4)))),
	}
	for name, content := range contents {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, contents["a"][:len(contents["a"])-1], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		paths []string
		want  string // the flows
		err   error
		drops int
	}{
		{[]string{"a"}, " 2", nil, 0},
		{[]string{"b", "a"}, "b i0 1, b i1 1, a 2", nil, 4},
		{[]string{"cut", "a"}, "cut 1, a 2", io.ErrUnexpectedEOF, 0},
		{[]string{"a", "none"}, "a 2", os.ErrNotExist, 0},
	} {
		var paths, flows []string
		for _, p := range tc.paths {
			paths = append(paths, filepath.Join(dir, p))
		}
		table := NewTable(Limits{}, func(f *Flow) {
			flows = append(flows, fmt.Sprintf("%s %d", strings.TrimPrefix(f.Vantage, dir+"/"), f.ToServer.Packets))
		})
		err := table.Read(Files(paths...))
		counts := table.Close()
		if got := strings.Join(flows, ", "); got != tc.want || !errors.Is(err, tc.err) || counts.Dropped != tc.drops {
			t.Errorf("%q: flows %q, %d dropped, %v", tc.paths, got, counts.Dropped, err)
		}
	}
}

// The same capture gives the same flows, whatever is evicted on the way.
func TestTheSameCaptureGivesTheSameFlows(t *testing.T) {
	content := mixed(20_000)
	run := func() string {
		var b strings.Builder
		table := NewTable(Limits{Flows: 100, Bytes: 100_000}, func(f *Flow) {
			fmt.Fprintf(&b, "%d %s %s %d %d %d %t %d %s\n", f.Number, f.Client, f.Server, f.ToServer.Bytes, f.ToClient.Missing, len(f.ToClient.Chunks), f.Evicted, f.Continues, f.Last.Format(time.RFC3339Nano))
		})
		src, err := OpenSource(bytes.NewReader(content), "")
		if err != nil {
			t.Fatal(err)
		}
		if err := table.Read(src); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%+v", table.Close())
		return b.String()
	}
	if a, b := run(), run(); a != b || strings.Count(a, "true") == 0 {
		t.Error("two runs differ, or nothing was evicted")
	}
}
