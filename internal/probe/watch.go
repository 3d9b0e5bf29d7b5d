package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/capture/live"
	"github.com/sealmesh/sealmesh/internal/verify"
)

// watch is the captures at all vantage points.
type watch struct {
	cfg     Config
	handles []*live.Handle
	end     context.CancelFunc
	done    chan struct{} // closed when all packets are read; then what follows is readable

	marked  map[string][]Sighting // packets by the marker they hold
	packets map[string]int
	gone    error
	report  *verify.Report
}

// prefix begins every marker.
var prefix = []byte("sealmesh-")

// markerLength is how long the longest is.
const markerLength = len("sealmesh-control-") + 32

// startWatch opens every capture, or none.
func startWatch(ctx context.Context, cfg Config) (*watch, error) {
	w := &watch{cfg: cfg, done: make(chan struct{}), marked: map[string][]Sighting{}, packets: map[string]int{}}
	for _, v := range cfg.Vantages {
		h, err := live.Open(live.Config{Netns: v.Netns, Interface: v.Interface, Vantage: v.Name})
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.handles = append(w.handles, h)
	}
	// Of its own: what was sent before the user's Ctrl-C is read to its end.
	mine, end := context.WithCancel(context.WithoutCancel(ctx))
	w.end = end
	source, err := live.Merge(mine, w.handles...)
	if err != nil {
		return nil, errors.Join(err, w.close())
	}
	go func() {
		defer close(w.done)
		w.read(source)
		w.gone = errors.Join(w.gone, source.Gone(), source.Close())
	}()
	return w, nil
}

// read looks for markers in every packet, and judges every flow.
func (w *watch) read(source capture.Source) {
	session := verify.NewSession(verify.Config{Knowledge: w.cfg.Knowledge})
	table := capture.NewTable(capture.Limits{}, session.Add)
	var f capture.Frame
	for {
		err := source.Next(&f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.gone = err
			break
		}
		w.packets[f.Vantage]++
		w.look(&f)
		table.Add(&f)
	}
	w.report = session.Report(verify.Seen{Counts: table.Close()})
}

// look notes the markers that a packet holds, wherever in it they are.
func (w *watch) look(f *capture.Frame) {
	for rest := f.Data; ; rest = rest[len(prefix):] {
		at := bytes.Index(rest, prefix)
		if at < 0 {
			return
		}
		rest = rest[at:]
		// Up to the longest: which marker it is, the judge compares.
		candidate := string(rest[:min(len(rest), markerLength)])
		w.marked[candidate] = append(w.marked[candidate], Sighting{Vantage: f.Vantage, Packet: w.packets[f.Vantage]})
	}
}

// sightings are the packets that hold one of the markers.
func (w *watch) sightings(markers ...string) []Sighting {
	all := []Sighting{}
	for candidate, seen := range w.marked {
		for _, m := range slices.Compact(markers) {
			if len(candidate) >= len(m) && candidate[:len(m)] == m {
				all = append(all, seen...)
			}
		}
	}
	slices.SortFunc(all, func(a, b Sighting) int {
		if a.Vantage != b.Vantage {
			return slices.Index(w.names(), a.Vantage) - slices.Index(w.names(), b.Vantage)
		}
		return a.Packet - b.Packet
	})
	return all
}

func (w *watch) names() []string {
	names := make([]string, 0, len(w.cfg.Vantages))
	for _, v := range w.cfg.Vantages {
		names = append(names, v.Name)
	}
	return names
}

// stop ends the captures once everything up to now is read.
func (w *watch) stop() {
	w.end()
	<-w.done
}

// close ends the handles.
func (w *watch) close() error {
	var failed error
	for _, h := range w.handles {
		failed = errors.Join(failed, h.Close())
	}
	return failed
}
