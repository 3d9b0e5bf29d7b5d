package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmesh/sealmesh/internal/capture"
	tlswire "github.com/sealmesh/sealmesh/internal/dissect/tls"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// corpusDir holds captures that are not ours to ship. The matrix is without them
// where they are not.
const corpusDir = "../shared/corpus/zeek-tls"

// corpusLabels is what tshark says of it: a line for each two ends of each file.
const corpusLabels = "zeek-tls.labels"

// corpusFile is one capture of the corpus.
type corpusFile struct {
	name   string
	frames []capture.Frame
}

// loadCorpus reads the corpus and its labels, by file and ends. Without the
// corpus there are neither.
func loadCorpus(dir, labels string) ([]corpusFile, map[string]truth, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap*"))
	if err != nil || len(files) == 0 {
		return nil, nil, err
	}
	var all []corpusFile
	for _, file := range files {
		frames, err := load(file)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, corpusFile{filepath.Base(file), frames})
	}
	b, err := os.ReadFile(labels)
	if err != nil {
		return nil, nil, fmt.Errorf("corpus: %v", err)
	}
	told := map[string]truth{}
	for line := range strings.Lines(string(b)) {
		if key, in, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			told[key] = truth(in)
		}
	}
	return all, told, nil
}

// measureCorpus judges a corpus, as it is and damaged.
func measureCorpus(files []corpusFile, told map[string]truth, by judge) []*tally {
	whole, damaged := newTally("Zeek's TLS traces"), newTally("the same, damaged")
	for i, file := range files {
		judgeAll := func(t *tally, frames []capture.Frame, in string, lossless bool) {
			flowsOf(frames, by, func(f *capture.Flow, found verify.Finding) {
				key := file.name + " " + endsOf(f)
				t.add(in, judged{found: found, label: label{at: key, truth: told[key]}}, lossless)
			})
		}
		judgeAll(whole, file.frames, file.name, true)
		for _, v := range variants {
			if v.kind != ofClear {
				judgeAll(damaged, v.make(file.frames, chance(i)), file.name+", "+v.name, v.kind == lossless)
			}
		}
	}
	return []*tally{whole, damaged}
}

// askOracle writes the labels of the corpus anew.
func askOracle(ctx context.Context, dir, labels string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.pcap*"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("corpus: no captures in %s: %v", dir, err)
	}
	var out strings.Builder
	for _, file := range files {
		streams, err := askTshark(ctx, file)
		if err != nil {
			return err
		}
		for _, ends := range slices.Sorted(maps.Keys(streams)) {
			fmt.Fprintf(&out, "%s %s\t%s\n", filepath.Base(file), ends, streams[ends].truth())
		}
	}
	if err := os.WriteFile(labels, []byte(out.String()), 0o644); err != nil {
		return fmt.Errorf("corpus: %v", err)
	}
	return nil
}

// endsOf is a flow as the oracle knows it.
func endsOf(f *capture.Flow) string {
	both := []string{f.Client.String(), f.Server.String()}
	slices.Sort(both)
	return strings.Join(both, " ")
}

// stream is what tshark sees between two ends.
type stream struct {
	// says: there is payload. tls and clear: packets of it have been named so;
	// clear is a protocol that does not encrypt, or one not known.
	says, tls, clear bool
	suite            uint16
	answered         bool // a ServerHello was seen
	// dark: what follows the hellos is of a version that tshark does not read.
	dark bool
	// sealed are the ends that sent application data, or anything else behind a
	// change of cipher.
	sealed map[string]bool
	// changed are the ends that announced it.
	changed map[string]bool
}

// truth is what the stream is, as far as tshark tells.
func (s *stream) truth() truth {
	broken := tlswire.PlainSuite(tlswire.CipherName(s.suite))
	switch {
	case !s.says:
		return nothing
	case s.dark:
		return untold
	case s.tls && s.answered && broken:
		return inClear
	case s.tls && s.clear:
		return mixed
	case s.tls && len(s.sealed) > 1:
		return sealed
	case s.tls:
		return neither
	}
	return inClear
}

// tsharkFields are what the oracle is asked for, in order.
var tsharkFields = []string{"ip.src", "ipv6.src", "tcp.srcport", "udp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "udp.dstport",
	"frame.protocols", "tcp.len", "udp.length", "tls.record.content_type", "dtls.record.content_type", "tls.record.opaque_type",
	"tls.handshake.type", "tls.handshake.ciphersuite", "dtls.handshake.type", "dtls.handshake.ciphersuite"}

// askTshark has every stream of a capture by its ends.
func askTshark(ctx context.Context, file string) (map[string]*stream, error) {
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"}
	for _, field := range tsharkFields {
		args = append(args, "-e", field)
	}
	cmd := exec.CommandContext(ctx, "tshark", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return nil, fmt.Errorf("corpus: tshark: %s: %v: %s", file, err, bytes.TrimSpace(stderr.Bytes()))
	}
	streams := map[string]*stream{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "|")
		if len(fields) != len(tsharkFields) {
			continue
		}
		row := map[string]string{}
		for i, name := range tsharkFields {
			row[name] = fields[i]
		}
		from, to := rowEnd(row, "src"), rowEnd(row, "dst")
		both := []string{from, to}
		slices.Sort(both)
		key := strings.Join(both, " ")
		if streams[key] == nil {
			streams[key] = &stream{sealed: map[string]bool{}, changed: map[string]bool{}}
		}
		streams[key].see(row, from)
	}
	return streams, nil
}

// rowEnd is one end of a packet, as netip writes it.
func rowEnd(row map[string]string, side string) string {
	port := row["tcp."+side+"port"] + row["udp."+side+"port"]
	if addr := row["ip."+side]; addr != "" {
		return addr + ":" + port
	}
	return "[" + row["ipv6."+side] + "]:" + port
}

// see adds one packet.
func (s *stream) see(row map[string]string, from string) {
	length := 0
	for field, header := range map[string]int{"tcp.len": 0, "udp.length": udpHeader} {
		if n, err := strconv.Atoi(row[field]); err == nil {
			length = n - header
		}
	}
	if length <= 0 {
		return
	}
	s.says = true
	layers := strings.Split(row["frame.protocols"], ":")
	types := splitComma(row["tls.record.content_type"], row["tls.record.opaque_type"], row["dtls.record.content_type"])
	switch inTLS := slices.Contains(layers, "tls") || slices.Contains(layers, "dtls"); {
	case inTLS:
		s.tls = true
		s.dark = s.dark || len(types) == 0 && row["tls.handshake.type"] != "" // SSL 2.0 has no records
	case s.answered && row["udp.length"] != "":
		s.dark = true // DTLS 1.3
	case !s.tls: // behind TLS, what tshark does not name is a piece of a record
		s.clear = true
	}
	for _, kind := range types {
		switch {
		case kind == "24" && !s.changed[from]:
			s.clear = true // a heartbeat brings what was asked for in clear
		case kind == "20":
			s.changed[from] = true
		case kind == "23", s.changed[from]:
			s.sealed[from] = true
		}
	}
	handshake := splitComma(row["tls.handshake.type"], row["dtls.handshake.type"])
	s.answered = s.answered || slices.Contains(handshake, "2")
	suites := splitComma(row["tls.handshake.ciphersuite"], row["dtls.handshake.ciphersuite"])
	if slices.Contains(handshake, "2") && len(suites) == 1 {
		if n, err := strconv.ParseUint(suites[0], 0, 16); err == nil {
			s.suite = uint16(n)
		}
	}
}

// splitComma splits what tshark joins.
func splitComma(fields ...string) []string {
	var all []string
	for _, f := range fields {
		if f != "" {
			all = append(all, strings.Split(f, ",")...)
		}
	}
	return all
}
