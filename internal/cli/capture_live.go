package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/capture/live"
	"github.com/sealmesh/sealmesh/internal/capture/pcapng"
)

// liveBuffer is shared by all rings of a capture.
const liveBuffer = 256 << 20

// liveCapture is interfaces being captured.
type liveCapture struct {
	*live.Merged
	atlas    atlas
	targets  []target
	vantages []vantage
	notes    []string // what was left out
	handles  []*live.Handle
	began    time.Time
}

// captureLive begins to capture targets, until ctx ends.
func captureLive(ctx context.Context, a atlas, targets []target, each live.Config) (*liveCapture, error) {
	if os.Geteuid() != 0 {
		return nil, hint(errors.New("capturing packets needs root"), "run it with sudo")
	}
	c := &liveCapture{atlas: a, targets: targets}
	var err error
	if c.vantages, c.notes, err = a.find(targets); err != nil {
		return nil, err
	}
	each.Buffer = min(max(liveBuffer/len(c.vantages), 4<<20), live.DefaultBuffer)
	c.began = time.Now()
	for _, v := range c.vantages {
		each.Netns, each.Interface, each.Vantage = v.netns, v.iface, v.name
		h, err := live.Open(each)
		if err != nil {
			return nil, errors.Join(err, c.closeHandles())
		}
		c.handles = append(c.handles, h)
	}
	if c.Merged, err = live.Merge(ctx, c.handles...); err != nil {
		return nil, errors.Join(err, c.closeHandles())
	}
	return c, nil
}

func (c *liveCapture) closeHandles() error {
	var failed []error
	for _, h := range c.handles {
		failed = append(failed, h.Close())
	}
	return errors.Join(failed...)
}

// Close ends the capture.
func (c *liveCapture) Close() error { return errors.Join(c.Merged.Close(), c.closeHandles()) }

// interfaces are the vantages as a file describes them.
func (c *liveCapture) interfaces(filter live.Filter) []pcapng.Interface {
	var all []pcapng.Interface
	for i, v := range c.vantages {
		all = append(all, pcapng.Interface{
			Name: v.name, Description: v.description,
			Link: c.handles[i].Link(), SnapLen: c.handles[i].SnapLen(), Filter: filter.String(),
		})
	}
	return all
}

// statistics of each interface since the capture began. What the kernel does not
// tell counts as nothing here; missed tells.
func (c *liveCapture) statistics() []pcapng.Statistics {
	var all []pcapng.Statistics
	now := time.Now()
	for i, h := range c.handles {
		received, dropped, _ := h.Stats()
		all = append(all, pcapng.Statistics{Interface: i, Start: c.began, End: now, Received: received, Dropped: dropped})
	}
	return all
}

// endings are the statistics of those interfaces that are captured still. In a file
// an interface that has none was not captured to its end.
func (c *liveCapture) endings() []pcapng.Statistics {
	return slices.DeleteFunc(c.statistics(), func(s pcapng.Statistics) bool { return c.handles[s.Interface].Gone() != nil })
}

// Dropped packets of all interfaces.
func (c *liveCapture) Dropped() int {
	n := 0
	for _, s := range c.statistics() {
		n += int(s.Dropped)
	}
	return n
}

// missed says why the capture cannot have seen all of its targets: interfaces that
// went away or came up since it began, or whose drops are not known. It is empty
// if there are none.
func (c *liveCapture) missed() string {
	var all []string
	if err := c.Gone(); err != nil {
		all = strings.Split(err.Error(), "\n")
	}
	for _, h := range c.handles {
		if _, _, err := h.Stats(); err != nil {
			all = append(all, err.Error())
		}
	}
	now, _, err := c.atlas.find(c.targets)
	if err != nil {
		return strings.Join(all, "; ") // of a namespace that is no more its interfaces have gone, too
	}
	for _, v := range now {
		if !slices.ContainsFunc(c.vantages, func(known vantage) bool { return known.name == v.name }) {
			all = append(all, fmt.Sprintf("%s came up during the capture, and was not captured", v.name))
		}
	}
	return strings.Join(all, "; ")
}

// announce says what is captured, and below it what was left out.
func (c *liveCapture) announce() string {
	var names []string
	for _, v := range c.vantages {
		names = append(names, v.name)
	}
	return strings.Join(append([]string{"capturing " + strings.Join(names, ", ")}, c.notes...), "\n")
}
