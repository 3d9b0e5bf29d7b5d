package arch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rule forbids some packages of the module to depend on others. Patterns are
// names of packages; one that ends in "/..." means the packages below it too,
// and "std" means the whole standard library.
type Rule struct {
	// Name is the rule in a few words.
	Name string
	// Bind are the packages that the rule holds for, Free those it does not.
	Bind, Free []string
	// Ban are the packages that must not be depended on, Allow exceptions.
	Ban, Allow []string
	// Depth says whether dependencies of dependencies count.
	Depth Depth
	// Why is the reason, as the person who broke the rule reads it.
	Why string
}

// Depth is how far a rule looks.
type Depth uint8

const (
	// Deep looks at everything that is linked in.
	Deep Depth = iota
	// Direct looks at a package's own imports.
	Direct
)

// The layers, from the bottom up.
var (
	values = []string{
		"./internal/id", "./internal/policy", "./internal/ports", "./internal/snapshot", "./api/mesh/...",
	}
	dataPlane = []string{
		"./internal/mtls", "./internal/lane", "./internal/keylog", "./internal/sock", "./internal/proxy/...", "./internal/redirect/...",
	}
	controlPlane = []string{
		"./internal/ca", "./internal/attest", "./internal/push", "./internal/control/...", "./internal/platform/...",
	}
	feed    = []string{"./internal/feed", "./internal/sidecar/..."}
	enrol   = []string{"./internal/enrol"}
	proof   = []string{"./internal/capture/...", "./internal/dissect/...", "./internal/verify/...", "./internal/decrypt/...", "./internal/report/...", "./internal/probe/..."}
	surface = []string{"./internal/cli/...", "./internal/demo/...", "./cmd/...", "./test/..."}

	kubernetes = []string{"k8s.io/...", "sigs.k8s.io/controller-runtime/..."}
	rpc        = []string{"google.golang.org/grpc/...", "connectrpc.com/...", "./api/control/..."}
)

// Layers are the rules of this module.
var Layers = []Rule{
	{
		Name: "values stand on the standard library",
		Bind: values,
		Ban:  []string{"..."}, Allow: join(values, "std", "github.com/spiffe/go-spiffe/v2/spiffeid"),
		Why: "everything depends on values, so whatever they depend on is in every program and every test",
	},
	{
		Name: "values do nothing",
		Bind: values,
		Ban:  []string{"os/...", "net", "net/http/...", "syscall", "log/...", "io/fs", "golang.org/x/sys/..."}, Depth: Direct,
		Why: "a value that reads the world cannot be judged by its inputs",
	},
	{
		Name: "the data plane knows no platform",
		Bind: dataPlane,
		Ban:  join(kubernetes, rpc...),
		Why:  "it is linked into every workload: what it does not need costs memory in each and is attack surface in each",
	},
	{
		Name: "the data plane stands below all but values",
		Bind: dataPlane,
		Ban:  slices.Concat(controlPlane, feed, enrol, proof, surface),
		Why:  "it judges a connection by a snapshot and must not care who made it",
	},
	{
		Name: "the feed is a client",
		Bind: feed,
		Ban:  slices.Concat(controlPlane, enrol, proof, surface, kubernetes, []string{"google.golang.org/grpc/..."}),
		Why:  "it runs beside the workload: the issuer's code has no business there",
	},
	{
		Name: "the control plane carries no traffic",
		Bind: controlPlane,
		Ban:  slices.Concat([]string{"./internal/lane", "./internal/proxy/...", "./internal/redirect/..."}, feed, enrol, proof, surface),
		Why:  "a workload's bytes never pass it, so nothing of it may be able to touch them",
	},
	{
		Name: "only platform/kube knows Kubernetes",
		Bind: []string{"./..."}, Free: []string{"./internal/platform/kube/..."},
		Ban: kubernetes, Depth: Direct,
		Why: "plain Linux and the tests run the same control plane without it",
	},
	{
		Name: "nobody links grpc-go",
		Bind: []string{"./..."}, Free: []string{"./internal/platform/kube/..."},
		Ban: []string{"google.golang.org/grpc/..."},
		Why: "connect speaks the same protocol on the wire with net/http (docs/adr/0002-connect.md)",
	},
	{
		Name: "the proxy is a proxy",
		Bind: []string{"./internal/sidecar/...", "./cmd/sealmesh-proxy"},
		Ban:  slices.Concat(controlPlane, enrol, proof, kubernetes, []string{"./internal/cli/...", "./internal/demo/...", "./test/..."}),
		Why:  "one runs beside every workload: it carries no key but its own and no code but its own",
	},
	{
		Name: "proof does not lean on what it proves",
		Bind: proof,
		Ban:  slices.Concat(dataPlane, controlPlane, feed, enrol, surface),
		Why:  "a mistake shared by the proxy and by what judges it would be invisible",
	},
	{
		Name: "the lab is for the demo and for tests",
		Bind: []string{"./..."}, Free: []string{"./internal/demo/...", "./test/..."},
		Ban: []string{"./test/..."}, Depth: Direct,
		Why: "it changes the machine it runs on",
	},
	{
		Name: "the command line is the top",
		Bind: []string{"./..."}, Free: []string{"./internal/cli/...", "./cmd/..."},
		Ban: []string{"./internal/cli/...", "./cmd/..."}, Depth: Direct,
		Why: "what a person types is wired to the parts, never the parts to it",
	},
	{
		Name: "programs hold no test code",
		Bind: []string{"./cmd/..."},
		Ban:  []string{"testing/...", "net/http/httptest"},
		Why:  "package testing adds flags and code that nobody runs: helpers for tests go to a package that only tests import",
	},
	{
		Name: "definitions hold no logic",
		Bind: []string{"./api/..."},
		Ban:  []string{"./internal/..."},
		Why:  "others may read our objects and protocol without our code",
	},
}

func join(a []string, b ...string) []string { return slices.Concat(a, b) }

// Violation is one package that breaks one rule.
type Violation struct {
	Rule Rule
	// Chain leads from the package that is bound to the package that is banned,
	// each importing the next.
	Chain []string
}

// String names what is wrong, the way there and the reason.
func (v Violation) String() string {
	return fmt.Sprintf("%s: %s must not depend on %s, because %s\n\t%s", v.Rule.Name,
		v.Chain[0], v.Chain[len(v.Chain)-1], v.Rule.Why, strings.Join(v.Chain, " → "))
}

// CheckLayers returns every violation of rules, ordered by rule and package.
func CheckLayers(packages map[string]*Package, rules []Rule) []Violation {
	var found []Violation
	for _, r := range rules {
		for _, name := range slices.Sorted(maps.Keys(packages)) {
			if p := packages[name]; p.Own && matches(r.Bind, p) && !matches(r.Free, p) {
				found = append(found, r.check(packages, p)...)
			}
		}
	}
	return found
}

// check walks the imports of p breadth first, so that each chain is a shortest
// one, and does not look behind what is banned.
func (r Rule) check(packages map[string]*Package, p *Package) []Violation {
	var found []Violation
	seen := map[string]bool{p.Name: true}
	for queue := [][]string{{p.Name}}; len(queue) > 0; queue = queue[1:] {
		chain := queue[0]
		for _, name := range packages[chain[len(chain)-1]].Imports {
			next := packages[name]
			if next == nil || seen[name] { // "C" and "unsafe" are no packages
				continue
			}
			seen[name] = true
			longer := join(chain, name)
			switch {
			case matches(r.Ban, next) && !matches(r.Allow, next):
				found = append(found, Violation{Rule: r, Chain: longer})
			case r.Depth == Deep && !next.Standard:
				queue = append(queue, longer)
			}
		}
	}
	return found
}

// matches reports whether any pattern means p.
func matches(patterns []string, p *Package) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "std" {
			return p.Standard
		}
		if prefix, ok := strings.CutSuffix(pattern, "..."); ok {
			return strings.HasPrefix(p.Name+"/", prefix)
		}
		return p.Name == pattern
	})
}
