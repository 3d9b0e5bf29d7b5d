package decrypt

import (
	"bytes"
	"encoding/hex"
	"fmt"
)

// Labels of a key log that are of use here.
const (
	labelMaster          = "CLIENT_RANDOM"
	labelEarly           = "CLIENT_EARLY_TRAFFIC_SECRET"
	labelClientHandshake = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
	labelServerHandshake = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
	labelClientTraffic   = "CLIENT_TRAFFIC_SECRET_0"
	labelServerTraffic   = "SERVER_TRAFFIC_SECRET_0"
)

// Keys are the secrets of sessions, by the random of their ClientHello.
type Keys struct {
	sessions map[[32]byte]map[string][]byte
}

// ParseKeys reads a key log of NSS format: lines of label, random and secret, in
// hex. Comments and labels that are of no use here are passed over; a line that is
// neither is refused by its number.
func ParseKeys(text []byte) (*Keys, error) {
	k := &Keys{sessions: map[[32]byte]map[string][]byte{}}
	return k, k.Add(text)
}

// Add reads more of a key log, whole lines, as a capture that is read brings it.
// What comes before a line that is refused is taken.
func (k *Keys) Add(text []byte) error {
	number := 0
	for line := range bytes.Lines(text) {
		number++
		fields := bytes.Fields(line)
		if len(fields) == 0 || fields[0][0] == '#' {
			continue
		}
		label := string(fields[0])
		switch label {
		case labelMaster, labelEarly, labelClientHandshake, labelServerHandshake, labelClientTraffic, labelServerTraffic:
		default:
			if !isLabel(label) {
				return fmt.Errorf("key log line %d: must begin with a label such as %s", number, labelMaster)
			}
			continue
		}
		if len(fields) != 3 {
			return fmt.Errorf("key log line %d: %s must be followed by a random and a secret", number, label)
		}
		if err := k.put(label, fields[1], fields[2]); err != nil {
			return fmt.Errorf("key log line %d: %s: %w", number, label, err)
		}
	}
	return nil
}

// Secrets longer than this are none: a master secret has 48 bytes, as the longest
// hash has.
const maxSecret = 64

func (k *Keys) put(label string, randomHex, secretHex []byte) error {
	var random [32]byte
	if n, err := hex.Decode(random[:], randomHex[:min(len(randomHex), 2*len(random))]); err != nil || n != len(random) || len(randomHex) != 2*n {
		return fmt.Errorf("the random must be %d bytes in hex", len(random))
	}
	secret, err := hex.DecodeString(string(secretHex[:min(len(secretHex), 2*maxSecret+2)]))
	if err != nil || len(secret) == 0 || len(secret) > maxSecret {
		return fmt.Errorf("the secret must be 1 to %d bytes in hex", maxSecret)
	}
	if k.sessions[random] == nil {
		k.sessions[random] = map[string][]byte{}
	}
	k.sessions[random][label] = secret
	return nil
}

// Sessions is how many there are secrets of.
func (k *Keys) Sessions() int { return len(k.sessions) }

// Has reports whether there are secrets of a session.
func (k *Keys) Has(random [32]byte) bool { return k.sessions[random] != nil }

func isLabel(s string) bool {
	for _, c := range s {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}
