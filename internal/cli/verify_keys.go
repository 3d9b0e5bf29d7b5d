package cli

import (
	"fmt"
	"os"

	"github.com/sealmesh/sealmesh/internal/capture"
	"github.com/sealmesh/sealmesh/internal/decrypt"
)

// sessionKeys are the secrets that files of --keys hold, and those that a
// capture carries as far as it has been read.
type sessionKeys struct {
	files  []byte // key log text
	source capture.Source

	read int // bytes of the source's text that are in keys
	keys *decrypt.Keys
}

// openSessionKeys reads key logs.
func openSessionKeys(paths []string) (*sessionKeys, error) {
	k := &sessionKeys{}
	for _, path := range paths {
		log, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("--keys: %w", err)
		}
		if _, err := decrypt.ParseKeys(log); err != nil {
			return nil, fmt.Errorf("--keys %s: %w", path, err)
		}
		k.files = append(append(k.files, log...), '\n')
	}
	var err error
	k.keys, err = decrypt.ParseKeys(k.files)
	return k, err
}

// identify is who the ends of a flow proved to be, as far as there are secrets. A
// capture whose secrets make no sense is judged without them.
func (k *sessionKeys) identify(f *capture.Flow) (client, server string) {
	if embedded := secretsOf(k.source); len(embedded) != k.read {
		k.read = len(embedded)
		if keys, err := decrypt.ParseKeys(append(append([]byte(nil), k.files...), embedded...)); err == nil {
			k.keys = keys
		}
	}
	if k.keys.Sessions() == 0 {
		return "", ""
	}
	client, server, _ = decrypt.Identities(f, k.keys) // a flow without secrets has no names
	return client, server
}
