package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmesh/sealmesh/internal/enrol"
	"github.com/sealmesh/sealmesh/internal/keylog"
)

// flagDecrypt adds --decrypt to "sealmesh capture".
func flagDecrypt(c *cobra.Command, o *captureOptions) {
	wanted := c.Flags().Bool("decrypt", false, "put the session secrets of Sealmesh's lanes into the file, where the Mesh allows it (debug.keyLog)")
	o.decrypt = func(ctx context.Context, a atlas) (askKeys, error) {
		if !*wanted {
			return nil, nil
		}
		p, err := newPlace(a.path)
		if err != nil {
			return nil, err
		}
		k := &keyAsker{place: p, warn: func(s string) { fmt.Fprintln(o.stderr, s) }}
		if err := k.begin(ctx); err != nil {
			return nil, err
		}
		o.use = fmt.Sprintf("holds decryption secrets of lanes of Sealmesh, read for uid %d from %s on", os.Getuid(), stamp(time.Now()))
		return k.ask, nil
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// keyAsker asks the proxies of this machine for session secrets. They log each use.
type keyAsker struct {
	place
	warn   func(string)
	denied bool // while the capture runs: asked no more
}

// begin fails unless every proxy that can be asked now would answer.
func (k *keyAsker) begin(ctx context.Context) error {
	if err := k.runs(); err != nil && !errors.Is(err, os.ErrPermission) {
		return notRunning(k.place, k.dir, err)
	}
	sockets, err := k.sockets()
	if err != nil {
		return notRunning(k.place, k.dir, err)
	}
	if len(sockets) == 0 {
		return hint(fmt.Errorf("--decrypt: no workload of %s has a proxy on this machine", k.dir), "\"sealmesh status -f %s\" says how they stand", k.dir)
	}
	asked := false
	for _, workload := range slices.Sorted(maps.Keys(sockets)) {
		_, _, err := keylog.Ask(ctx, sockets[workload], []keylog.Random{{}})
		if refusal, ok := errors.AsType[*keylog.Refusal](err); ok {
			return k.refused(workload, refusal)
		}
		asked = asked || err == nil
		if err != nil {
			k.warn(fmt.Sprintf("--decrypt: %s cannot be asked: %v", workload, err))
		}
	}
	if !asked {
		return hint(errors.New("--decrypt: no proxy answers"), "\"sealmesh status -f %s\" says how they stand", k.dir)
	}
	return nil
}

// refused says what to do about a refusal.
func (k *keyAsker) refused(workload string, r *keylog.Refusal) error {
	err := fmt.Errorf("--decrypt: the proxy of %s refuses: %w", workload, r)
	switch r.Code {
	case keylog.CodeDenied:
		return hint(err, "set spec.debug.keyLog of the Mesh in %s to Allowed; lanes that are made from then on can be decrypted", k.dir)
	case keylog.CodeCaller:
		return hint(err, "ask as the user who runs \"sealmesh up\", or as root")
	}
	return err
}

// sockets are where proxies are asked, by workload. They outlive the proxies.
func (k *keyAsker) sockets() (map[string]string, error) {
	b, err := os.ReadFile(k.status())
	if err != nil {
		return nil, err
	}
	var list []enrol.Status
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("status of %s: %w", k.dir, err)
	}
	all := map[string]string{}
	for _, s := range list {
		if s.Keys != "" {
			all[s.Workload] = s.Keys
		}
	}
	return all, nil
}

// ask implements askKeys. A mesh that denies from now on, and proxies that are
// away, do not end the capture: the packets matter more.
func (k *keyAsker) ask(ctx context.Context, randoms []string) ([]byte, error) {
	if k.denied {
		return nil, nil
	}
	sockets, err := k.sockets()
	if err != nil {
		return nil, nil //nolint:nilerr // the mesh is being stopped
	}
	var all []byte
	wanted := named(randoms)
	before := len(wanted)
	for _, workload := range slices.Sorted(maps.Keys(sockets)) {
		if len(wanted) == 0 {
			break
		}
		text, _, err := keylog.Ask(ctx, sockets[workload], wanted)
		if refusal, ok := errors.AsType[*keylog.Refusal](err); ok {
			k.denied = true
			k.warn(fmt.Sprintf("from now on without secrets: the proxy of %s refuses: %v", workload, refusal))
			break
		}
		all = append(all, text...)
		// The other end of a lane may be of this machine, too.
		wanted = slices.DeleteFunc(wanted, func(r keylog.Random) bool { return bytes.Contains(text, fmt.Appendf(nil, " %x ", r)) })
	}
	found := before - len(wanted)
	if found == 0 {
		return nil, nil
	}
	return append(fmt.Appendf(nil, "# %s\n", embedded(found)), all...), nil
}

// named are the sessions that randoms in hex name.
func named(randoms []string) []keylog.Random {
	var all []keylog.Random
	for _, text := range randoms {
		if b, err := hex.DecodeString(text); err == nil && len(b) == len(keylog.Random{}) {
			all = append(all, keylog.Random(b))
		}
	}
	return all
}

// embedded is the record of one use.
func embedded(sessions int) string {
	return fmt.Sprintf("decryption secrets of %d sessions embedded for uid %d at %s", sessions, os.Getuid(), stamp(time.Now()))
}
