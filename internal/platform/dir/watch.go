package dir

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/platform"
)

// Watch implements platform.Platform. It returns nil when ctx ends.
func (d *Dir) Watch(ctx context.Context, apply func(*platform.State)) error {
	w := newWatcher(d)
	defer w.close()
	resync := time.NewTicker(d.cfg.Resync)
	defer resync.Stop()
	settle := time.NewTimer(0) // look at once: much may have happened since Open
	defer settle.Stop()
	looking := true

	applied := d.State()
	apply(applied)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.events:
		case err := <-w.lost: // fails open, because the look that follows makes up for it
			d.cfg.Log.Warn("changes of the mesh directory may have gone unheard", obs.KeyPath, d.path, obs.KeyError, err.Error())
		case <-resync.C:
			d.maintain()
		case <-settle.C:
			looking = w.look()
			if s := d.State(); s != applied {
				applied = s
				apply(s)
			}
			if looking {
				settle.Reset(d.cfg.Settle)
			}
			continue
		}
		if !looking { // else a look is due anyway: a burst of events is one
			looking = true
			settle.Reset(d.cfg.Settle)
		}
	}
}

// watcher is one caller of Watch.
type watcher struct {
	dir    *Dir
	heard  *fsnotify.Watcher   // nil if the kernel has none to give
	events chan fsnotify.Event // these two are heard's, or nil and silent
	lost   chan error
	seen   digest          // of the last look, to be confirmed by the next
	known  map[string]bool // folders listened to
}

func newWatcher(d *Dir) *watcher {
	w := &watcher{dir: d, known: map[string]bool{}}
	heard, err := fsnotify.NewWatcher()
	if err != nil { // fails open, because resync reads all the same
		d.cfg.Log.Warn("changes of the mesh directory are found only by looking", obs.KeyPath, d.path, obs.KeyRetry, d.cfg.Resync, obs.KeyError, err.Error())
		return w
	}
	w.heard, w.events, w.lost = heard, heard.Events, heard.Errors
	return w
}

func (w *watcher) close() {
	if w.heard != nil {
		_ = w.heard.Close()
	}
}

// look reads the directory and reports whether to look again soon: a content is
// taken once two looks agree, so that a file being written is not believed.
func (w *watcher) look() (again bool) {
	content, err := w.dir.read()
	if w.dir.failed(err) {
		return false // until the next event or resync
	}
	fresh := w.listen(content.folders)
	now := content.digest()
	if w.dir.judged(now) {
		return fresh
	}
	if now != w.seen {
		w.seen = now
		return true
	}
	w.dir.take(content)
	return false
}

// listen listens to folders and reports whether one is new: what changed there
// before has gone unheard.
func (w *watcher) listen(folders []string) (fresh bool) {
	for _, folder := range folders {
		if w.heard != nil {
			_ = w.heard.Add(folder) // fails open, because resync reads all the same
		}
		fresh = fresh || !w.known[folder]
		w.known[folder] = true
	}
	return fresh
}

// failed reports whether the directory could not be read, and logs it once.
func (d *Dir) failed(err error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unread.news(err) {
		d.cfg.Log.Error("mesh directory cannot be read, last good state kept", obs.KeyPath, d.path, obs.KeyError, err.Error())
	}
	return err != nil
}

// judged reports whether this content was judged already.
func (d *Dir) judged(content digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return content == d.taken
}

// maintain does what time brings: a new issuer before the old one ends, the end
// of old tokens, and another look at what was refused, such as an issuer that
// was not valid yet.
func (d *Dir) maintain() {
	if err := d.renewIssuer(); err != nil {
		d.cfg.Log.Error("issuer not renewed", obs.KeyPath, d.path, obs.KeyError, err.Error())
	}
	if err := d.sweepTokens(); err != nil {
		d.cfg.Log.Error("expired join tokens not removed", obs.KeyPath, d.path, obs.KeyError, err.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.invalid.told != "" {
		d.taken = digest{}
	}
}
