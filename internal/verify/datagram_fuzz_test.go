package verify

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sealmesh/sealmesh/internal/capture"
)

// parted cuts bytes into datagrams: a length of two bytes, its highest bit for
// what the server sent, goes before each.
func parted(b []byte) (all []sent) {
	for len(b) > 2 {
		n := min(int(b[0]&0x7f)<<8|int(b[1]), len(b)-2)
		all = append(all, sent{b[0] >= 0x80, b[2 : 2+n]})
		b = b[2+n:]
	}
	return all
}

func joined(all []sent) (b []byte) {
	for _, s := range all {
		b = append(append(b, byte(len(s.data)>>8)|byte(boolTo(s.fromServer))<<7, byte(len(s.data))), s.data...)
	}
	return b
}

// FuzzDatagrams: whatever is sent, nothing panics, and no text is called sealed,
// neither alone nor behind what is.
func FuzzDatagrams(f *testing.F) {
	text := strings.Repeat("cleartext ", 10)
	for _, name := range []string{"v2", "compatible", "negotiated", "retry"} {
		f.Add(joined(readDatagrams(f, filepath.Join("testdata", "quic", name+".pcap"))))
	}
	f.Add(joined([]sent{{false, esp(f, 300, 1, text)}, {true, esp(f, 301, 1, text)}, {false, esp(f, 300, 2, text)}}))
	f.Add(joined([]sent{{false, ike(f, 34, true)}, {false, ike(f, 35, true)}, {true, ike(f, 35, true)}}))
	f.Add(joined([]sent{{false, macsec(f, 0x2c, 1, text)}, {false, macsec(f, 0x2c, 2, text)}, {false, macsec(f, 0x2c, 3, text)}}))
	message := func(counter byte) []byte {
		return append([]byte{4, 0, 0, 0, 1, 2, 3, 4, counter, 0, 0, 0, 0, 0, 0, 0}, esp(f, 300, uint32(counter), text)[16:80]...)
	}
	f.Add(joined([]sent{{false, message(1)}, {false, message(2)}, {true, message(3)}, {false, message(3)}}))
	f.Add(joined([]sent{{false, []byte(text)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all := parted(b)
		for _, proto := range []capture.Proto{capture.UDP, capture.ESP, capture.MACsec} {
			flow := datagramFlow(proto, all)
			found := Judge(flow, Knowledge{})
			if !found.Verdict.Seals() {
				continue
			}
			var content []byte
			for _, s := range all {
				content = append(content, s.data...)
			}
			if allReadable(content) {
				t.Errorf("text is called %s", found.Verdict)
			}
			if flow.ToServer.Bytes+flow.ToClient.Bytes > capture.Window/2 {
				continue
			}
			again := judgeSent(proto, append(all, sent{false, bytes.Repeat([]byte("text"), 8)}))
			if again.Verdict.Seals() {
				t.Errorf("%s in spite of text behind it", again.Verdict)
			}
		}
	})
}

// FuzzSSH: the same of a stream.
func FuzzSSH(f *testing.F) {
	f.Add([]byte("SSH-2.0-a\r\n\x00\x00\x00\x0c\x0a\x15"), []byte("SSH-2.0-b\r\n"))
	f.Fuzz(func(t *testing.T, toServer, toClient []byte) {
		found := Judge(flow(toServer, toClient), Knowledge{})
		if found.Verdict == SSH && (allReadable(toServer) || allReadable(toClient)) {
			t.Error("text is called ssh")
		}
	})
}
