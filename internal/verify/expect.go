package verify

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Expectations say what must be seen and how it must be sealed, and what may be
// in clear and why. They are one YAML document:
//
//	expect:
//	- name: web to cart
//	  from: 10.1.1.2              # address, prefix or *, with :port or :port-port
//	  to: 10.1.1.3:2929
//	  seal: mtls                  # mtls, tls, tls>=1.3, wireguard, … or any
//	  ciphers: [TLS_AES_128_GCM_SHA256]
//	  groups: [X25519MLKEM768]
//	  client: spiffe://demo.local/ns/shop/sa/web
//	exempt:
//	- reason: probes of the kubelet
//	  to: "*:15090"
//	  protocol: http
type Expectations struct {
	Expect []*Expectation `json:"expect"`
	Exempt []*Exemption   `json:"exempt"`
}

// Matcher says which flows are meant. What is empty matches all.
type Matcher struct {
	// From and To are "address", "prefix" or "*", and may end in ":port" or
	// ":port-port"; IPv6 with a port stands in brackets.
	From string `json:"from"`
	To   string `json:"to"`
	// Proto is "tcp", "udp", "icmp", …
	Proto string `json:"proto"`
	// Vantage is where it was captured.
	Vantage string `json:"vantage"`

	from, to side
}

// Expectation is an edge that must exist, and how it must be sealed.
type Expectation struct {
	Matcher
	Name string `json:"name"`
	// Seal is a verdict that seals, "mtls", "tls>=" and a version, or "any".
	Seal string `json:"seal"`
	// Ciphers, Groups, Client and Server, where set, are the only ones allowed.
	// Client and Server are identities that proxies attest, or names in a
	// certificate that was in clear.
	Ciphers []string `json:"ciphers"`
	Groups  []string `json:"groups"`
	Client  string   `json:"client"`
	Server  string   `json:"server"`
	// Weak allows what is out of date.
	Weak bool `json:"weak"`
	// Optional: it is no fault if the edge is not seen.
	Optional bool `json:"optional"`

	floor string // version of "tls>="
}

// Exemption is what need not be sealed.
type Exemption struct {
	Matcher
	// Reason is for the auditor, and must be given.
	Reason string `json:"reason"`
	// Protocol of the plaintext, such as "http".
	Protocol string `json:"protocol"`
	// Upgrade limits it to what stands in clear before this protocol is upgraded
	// to TLS, such as "smtp".
	Upgrade string `json:"upgrade"`
}

// ParseExpectations reads the YAML of Expectations. Every problem is reported.
func ParseExpectations(text []byte) (*Expectations, error) {
	var e Expectations
	if err := yaml.UnmarshalStrict(text, &e); err != nil {
		return nil, errors.New(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: "), "while decoding JSON: "))
	}
	if len(e.Expect)+len(e.Exempt) == 0 {
		return nil, errors.New("says nothing: must have a list \"expect\" or \"exempt\"")
	}
	var problems []error
	for i, x := range e.Expect {
		if x == nil {
			problems = append(problems, fmt.Errorf("expect[%d]: empty", i))
			continue
		}
		if err := x.validate(); err != nil {
			problems = append(problems, fmt.Errorf("expect[%d]: %w", i, err))
		}
	}
	for i, x := range e.Exempt {
		if x == nil {
			problems = append(problems, fmt.Errorf("exempt[%d]: empty", i))
			continue
		}
		if err := x.validate(); err != nil {
			problems = append(problems, fmt.Errorf("exempt[%d]: %w", i, err))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return &e, nil
}

// tlsFloors are the versions that "tls>=" takes, the oldest first.
var tlsFloors = []string{"1.0", "1.1", "1.2", "1.3"}

func (x *Expectation) validate() error {
	var problems []error
	floor, isFloor := strings.CutPrefix(x.Seal, "tls>=")
	switch {
	case isFloor && slices.Contains(tlsFloors, floor):
		x.floor = floor
	case isFloor:
		problems = append(problems, fmt.Errorf("seal %q: version must be one of %s", x.Seal, strings.Join(tlsFloors, ", ")))
	case x.Seal == "":
		problems = append(problems, errors.New("seal: must be given, such as mtls, tls>=1.2, wireguard or any"))
	case x.Seal != sealMTLS && x.Seal != sealAny && !Verdict(x.Seal).Seals():
		problems = append(problems, fmt.Errorf("seal %q: must be mtls, tls, tls>=1.2, wireguard, dtls, quic, ipsec, macsec, ssh or any", x.Seal))
	}
	if x.From == "" && x.To == "" {
		problems = append(problems, errors.New("from, to: at least one must be given"))
	}
	if x.Name == "" {
		x.Name = strings.TrimSpace(orAny(x.From) + " to " + orAny(x.To))
	}
	return errors.Join(append(problems, x.compile())...)
}

func (x *Exemption) validate() error {
	var problems []error
	if strings.TrimSpace(x.Reason) == "" {
		problems = append(problems, errors.New("reason: must be given"))
	}
	if x.From == "" && x.To == "" && x.Proto == "" && x.Protocol == "" && x.Upgrade == "" && x.Vantage == "" {
		problems = append(problems, errors.New("matches everything: give from, to, proto, protocol, upgrade or vantage"))
	}
	return errors.Join(append(problems, x.compile())...)
}

// sealAny is met by whatever seals.
const sealAny = "any"

func orAny(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

// met says why a finding does not meet the expectation, or nothing.
func (x *Expectation) met(found *Finding) string {
	if why := x.sealMet(found); why != "" {
		return why
	}
	if len(x.Ciphers) > 0 && !slices.Contains(x.Ciphers, cipherOf(found)) {
		return fmt.Sprintf("cipher %s, expected %s", orNone(cipherOf(found)), strings.Join(x.Ciphers, " or "))
	}
	if len(x.Groups) > 0 && (found.TLS == nil || !slices.Contains(x.Groups, found.TLS.Group)) {
		group := ""
		if found.TLS != nil {
			group = found.TLS.Group
		}
		return fmt.Sprintf("group %s, expected %s", orNone(group), strings.Join(x.Groups, " or "))
	}
	if !x.Weak && x.floor == "" && len(found.Weak) > 0 {
		return "weak: " + strings.Join(found.Weak, ", ")
	}
	client, server := identities(found)
	if x.Client != "" && !slices.Contains(client, x.Client) {
		return fmt.Sprintf("client %s, expected %s", orNone(strings.Join(client, ", ")), x.Client)
	}
	if x.Server != "" && !slices.Contains(server, x.Server) {
		return fmt.Sprintf("server %s, expected %s", orNone(strings.Join(server, ", ")), x.Server)
	}
	return ""
}

// sealMet says why a finding is not sealed as expected, or nothing.
func (x *Expectation) sealMet(found *Finding) string {
	if found.Seal == "" {
		return fmt.Sprintf("not sealed (%s), expected %s", found.Verdict, x.Seal)
	}
	switch {
	case x.Seal == sealAny:
	case x.floor != "":
		version := ""
		if found.TLS != nil {
			version = found.TLS.Version
		}
		if found.Verdict != TLS || slices.Index(tlsFloors, version) < slices.Index(tlsFloors, x.floor) {
			return fmt.Sprintf("%s %s, expected %s", found.Verdict, orNone(version), x.Seal)
		}
	case x.Seal == string(TLS) && found.Verdict == TLS:
	case x.Seal != found.Seal:
		return fmt.Sprintf("sealed by %s, expected %s", found.Seal, x.Seal)
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

func cipherOf(found *Finding) string {
	switch {
	case found.TLS != nil:
		return found.TLS.Cipher
	case found.SSH != nil:
		return found.SSH.Cipher
	}
	return ""
}

// identities are all names that are known of either end, other than what a
// client asked for.
func identities(found *Finding) (client, server []string) {
	if a := found.Attested; a != nil {
		client, server = append(client, a.Client), append(server, a.Server)
	}
	if d := found.Decrypted; d != nil {
		client, server = append(client, d.Client), append(server, d.Server)
	}
	if t := found.TLS; t != nil {
		if c := t.ClientCert; c != nil {
			client = append(append(client, c.Subject), c.Names...)
		}
		if c := t.ServerCert; c != nil {
			server = append(append(server, c.Subject), c.Names...)
		}
	}
	if w := found.WireGuard; w != nil {
		client, server = append(client, w.Client), append(server, w.Server)
	}
	empty := func(s string) bool { return s == "" }
	return slices.DeleteFunc(client, empty), slices.DeleteFunc(server, empty)
}

// covers reports whether an exemption excuses a finding.
func (x *Exemption) covers(found *Finding) bool {
	if x.Protocol != "" && x.Protocol != found.Protocol {
		return false
	}
	return x.Upgrade == "" || found.Upgrade != nil && found.Upgrade.From == x.Upgrade
}

// apply judges a finding by the expectations: it is exempted, or measured by the
// first expectation that means it.
func (e *Expectations) apply(found *Finding, r *record, outcomes []Outcome, uses []Use) {
	if e == nil {
		return
	}
	if !found.Verdict.Seals() && found.Verdict != Silent {
		for i, x := range e.Exempt {
			if x.matches(found, r) && x.covers(found) {
				found.Exempt = x.Reason
				uses[i].Flows++
				return
			}
		}
	}
	if found.Verdict == Silent {
		return
	}
	for i, x := range e.Expect {
		if !x.matches(found, r) {
			continue
		}
		outcomes[i].Flows++
		if why := x.met(found); why != "" {
			found.Violates = x.Name + ": " + why
			outcomes[i].Violations++
		} else {
			found.expected = true
		}
		return
	}
}

// Outcome is how an expectation came out.
type Outcome struct {
	Name string `json:"name"`
	Seal string `json:"seal"`
	// Flows it was measured by, and how many of them did not meet it.
	Flows      int `json:"flows"`
	Violations int `json:"violations"`
	// Missing: none was seen, and it is not optional.
	Missing bool `json:"missing,omitempty"`
}

// Use is an exemption and how many flows it covers.
type Use struct {
	Reason string `json:"reason"`
	Flows  int    `json:"flows"`
}

// blank is the outcomes and uses before anything was seen.
func (e *Expectations) blank() (outcomes []Outcome, uses []Use) {
	if e == nil {
		return nil, nil
	}
	for _, x := range e.Expect {
		outcomes = append(outcomes, Outcome{Name: x.Name, Seal: x.Seal})
	}
	for _, x := range e.Exempt {
		uses = append(uses, Use{Reason: x.Reason})
	}
	return outcomes, uses
}
