package attest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/platform"
)

// A join token is tokenPrefix and tokenBytes random bytes in base64url without
// padding: smj_ and 43 letters. The prefix lets scanners find one that leaked.
const (
	tokenPrefix = "smj_"
	tokenBytes  = 32
)

// DefaultTokenLifetime is how long a join token can be used if nobody says.
const DefaultTokenLifetime = time.Hour

// encoding refuses a last letter with stray bits, so that a token has one form.
var encoding = base64.RawURLEncoding.Strict()

// NewToken makes a join token for a workload, for DefaultTokenLifetime if
// lifetime is zero. The secret is for its holder alone; the token is what is kept.
func NewToken(namespace, workload string, lifetime time.Duration, now time.Time) (secret string, t platform.Token) {
	if lifetime == 0 {
		lifetime = DefaultTokenLifetime
	}
	var random [tokenBytes]byte
	rand.Read(random[:]) // never fails, crypto/rand ends the program instead
	secret = tokenPrefix + encoding.EncodeToString(random[:])
	return secret, platform.Token{
		Hash: sha256.Sum256([]byte(secret)), Namespace: namespace, Workload: workload, Expires: now.Add(lifetime),
	}
}

// tokenHash is the name a secret is kept under; ok is false for what no NewToken
// made.
func tokenHash(secret string) (hash [sha256.Size]byte, ok bool) {
	body, found := strings.CutPrefix(secret, tokenPrefix)
	if !found || len(body) != encoding.EncodedLen(tokenBytes) {
		return hash, false
	}
	random, err := encoding.DecodeString(body)
	if err != nil || len(random) != tokenBytes {
		return hash, false
	}
	return sha256.Sum256([]byte(secret)), true
}
