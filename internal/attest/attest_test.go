package attest_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	mesh "github.com/sealmesh/sealmesh/api/mesh/v1alpha1"
	"github.com/sealmesh/sealmesh/internal/attest"
	"github.com/sealmesh/sealmesh/internal/ca"
	"github.com/sealmesh/sealmesh/internal/id"
	"github.com/sealmesh/sealmesh/internal/platform"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// shelf keeps tokens in memory as a platform does.
type shelf struct {
	mu   sync.Mutex
	kept map[[32]byte]platform.Token
	err  error
}

func (s *shelf) TakeToken(_ context.Context, hash [32]byte) (platform.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.kept[hash]
	delete(s.kept, hash)
	switch {
	case s.err != nil:
		return platform.Token{}, s.err
	case !ok:
		return platform.Token{}, platform.ErrNoToken
	}
	return t, nil
}

func (s *shelf) add(t platform.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[t.Hash] = t
}

func workload(namespace, name, sa, seal string) mesh.Workload {
	w := mesh.Workload{Spec: mesh.WorkloadSpec{ServiceAccount: sa, Seal: seal}}
	w.Metadata = mesh.Metadata{Namespace: namespace, Name: name}
	return w
}

func newState(workloads ...mesh.Workload) *platform.State {
	s := &platform.State{Workloads: workloads}
	s.Mesh.Spec.TrustDomain = "demo.local"
	return s
}

func newAttestor(state *platform.State) (attest.Attestor, *shelf) {
	tokens := &shelf{kept: map[[32]byte]platform.Token{}}
	return attest.Attestor{Tokens: tokens, State: func() *platform.State { return state }}, tokens
}

func wantRefusal(t *testing.T, err error, code ca.Code) {
	t.Helper()
	var refusal *ca.Refusal
	if !errors.As(err, &refusal) || refusal.Code != code || refusal.Message == "" {
		t.Fatalf("got %v, want a refusal with code %s that explains itself", err, code)
	}
}

func TestTokenLetsItsWorkloadInOnce(t *testing.T) {
	state := newState(workload("shop", "db", "db", "Enabled"), workload("shop", "web-1", "web", "Enabled"))
	a, tokens := newAttestor(state)
	secret, token := attest.NewToken("shop", "web-1", time.Minute, now)
	tokens.add(token)

	got, err := a.Join(t.Context(), secret, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if got.Identity.String() != "spiffe://demo.local/ns/shop/sa/web" || len(got.Workloads) != 1 || got.Workloads[0].Metadata.Name != "web-1" {
		t.Errorf("joined as %s, %v", got.Identity, got.Workloads)
	}
	_, err = a.Join(t.Context(), secret, now)
	wantRefusal(t, err, ca.CodeTokenUnknown)
}

func TestTokensAreSecretAndKeptAsHashes(t *testing.T) {
	secret, token := attest.NewToken("shop", "web", 0, now)
	other, _ := attest.NewToken("shop", "web", 0, now)
	if secret == other {
		t.Error("two tokens are the same")
	}
	if !strings.HasPrefix(secret, "smj_") || len(secret) != 4+43 {
		t.Errorf("secret has %d letters and begins %.4q", len(secret), secret)
	}
	if strings.Contains(secret, string(token.Hash[:])) || token.Hash == [32]byte{} {
		t.Error("what is kept gives the secret away, or is nothing")
	}
	if want := now.Add(attest.DefaultTokenLifetime); !token.Expires.Equal(want) {
		t.Errorf("expires %s, want %s", token.Expires, want)
	}
}

func TestJoinRefusals(t *testing.T) {
	state := newState(
		workload("shop", "web", "web", "Enabled"),
		workload("shop", "old", "old", "Disabled"),
		workload("sealmesh", "thief", "control", "Enabled"),
	)
	tests := map[string]struct {
		namespace, workload string
		at                  time.Time
		code                ca.Code
	}{
		"expired":                     {"shop", "web", now.Add(time.Hour + time.Second), ca.CodeTokenExpired},
		"workload gone":               {"shop", "gone", now, ca.CodeWorkloadGone},
		"same name, other namespace":  {"bank", "web", now, ca.CodeWorkloadGone},
		"workload unsealed":           {"shop", "old", now, ca.CodeWorkloadUnsealed},
		"control plane's own account": {"sealmesh", "thief", now, ca.CodeIdentityReserved},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, tokens := newAttestor(state)
			secret, token := attest.NewToken(test.namespace, test.workload, time.Hour, now)
			tokens.add(token)
			_, err := a.Join(t.Context(), secret, test.at)
			wantRefusal(t, err, test.code)
			_, err = a.Join(t.Context(), secret, now)
			wantRefusal(t, err, ca.CodeTokenUnknown) // presented once, used up
		})
	}
}

func TestMalformedTokensAreRefusedWithoutAskingThePlatform(t *testing.T) {
	a, tokens := newAttestor(newState())
	tokens.err = errors.New("asked")
	secret, _ := attest.NewToken("shop", "web", time.Hour, now)
	for _, s := range []string{"", "smj_", secret[4:], secret[:len(secret)-1], secret + "A", "SMJ_" + secret[4:], "smj_" + strings.Repeat("!", 43), secret[:len(secret)-1] + "\n"} {
		_, err := a.Join(t.Context(), s, now)
		wantRefusal(t, err, ca.CodeTokenMalformed)
	}
}

func TestPlatformFailureIsNoRefusal(t *testing.T) {
	a, tokens := newAttestor(newState())
	tokens.err = errors.New("disk on fire")
	secret, _ := attest.NewToken("shop", "web", time.Hour, now)
	_, err := a.Join(t.Context(), secret, now)
	var refusal *ca.Refusal
	if err == nil || errors.As(err, &refusal) {
		t.Fatalf("got %v, want an error that is not a refusal: the token may still be good", err)
	}
	if strings.Contains(err.Error(), secret) {
		t.Error("the error tells the secret")
	}
}

func TestRenewal(t *testing.T) {
	state := newState(
		workload("shop", "web-1", "web", "Enabled"), workload("shop", "web-2", "web", "Enabled"),
		workload("shop", "old", "old", "Disabled"),
	)
	identity := func(s string) id.Identity {
		i, err := id.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	got, err := attest.Renew(identity("spiffe://demo.local/ns/shop/sa/web"), state)
	if err != nil || len(got.Workloads) != 2 {
		t.Fatalf("got %v, %v; want both replicas", got, err)
	}
	for peer, code := range map[string]ca.Code{
		"spiffe://demo.local/ns/shop/sa/gone":        ca.CodeIdentityRevoked,
		"spiffe://demo.local/ns/bank/sa/web":         ca.CodeIdentityRevoked,
		"spiffe://demo.local/ns/shop/sa/old":         ca.CodeWorkloadUnsealed,
		"spiffe://other.example/ns/shop/sa/web":      ca.CodeWrongTrustDomain,
		"spiffe://demo.local/ns/sealmesh/sa/control": ca.CodeIdentityRevoked,
	} {
		_, err := attest.Renew(identity(peer), state)
		wantRefusal(t, err, code)
	}
	_, err = attest.Renew(id.Identity{}, state)
	wantRefusal(t, err, ca.CodeWrongTrustDomain)
}

func TestNobodyRenewsAsTheControlPlane(t *testing.T) {
	state := newState(workload("sealmesh", "thief", "control", "Enabled"))
	_, err := attest.Renew(ca.ControlIdentity(state.TrustDomain()), state)
	wantRefusal(t, err, ca.CodeIdentityReserved)
}

func FuzzJoin(f *testing.F) {
	secret, token := attest.NewToken("shop", "web", time.Hour, now)
	f.Add(secret)
	f.Add("smj_")
	f.Add(secret + "=")
	f.Fuzz(func(t *testing.T, s string) {
		a, tokens := newAttestor(newState(workload("shop", "web", "web", "Enabled")))
		tokens.add(token)
		if _, err := a.Join(t.Context(), s, now); (err == nil) != (s == secret) {
			t.Fatalf("secret %q let in by %q: %v", secret, s, err)
		}
	})
}
