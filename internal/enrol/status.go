package enrol

import (
	"os"
	"strings"
	"time"

	"github.com/sealmesh/sealmesh/internal/obs"
	"github.com/sealmesh/sealmesh/internal/redirect"
)

// Status is how a workload stands.
type Status struct {
	Workload string `json:"workload"`
	// PID of the proxy, 0 if there is none that is ready.
	PID int `json:"pid"`
	// Phase of the rules, guard or redirect, and their number in the namespace.
	Phase string `json:"phase"`
	Rules int    `json:"rules"`
	// Since is when PID or Phase changed.
	Since time.Time `json:"since"`
	// Failures is how often a proxy, or what it needs, failed.
	Failures int `json:"failures"`
	// Admin is the port of the proxy's admin endpoint, 0 if there is none yet.
	Admin uint16 `json:"admin"`
	// Keys is the socket at which the proxy is asked for session secrets
	// (internal/keylog), "" if there is none yet.
	Keys string `json:"keys,omitempty"`
	// Error is why there is no proxy, "" if there is one.
	Error string `json:"error,omitempty"`
}

// report is how the workload stands now.
func (k *keeper) report() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.Rules = k.realm.rules()
	return s
}

// opened notes that the workload is guarded and where its proxy will listen.
func (k *keeper) opened(id namespaceID, own proxyPorts) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.namespace = id
	select {
	case <-k.anew: // no news any more
	default:
	}
	k.status.Keys = k.keySocket()
	k.status.Phase, k.status.Admin, k.status.PID, k.status.Since = redirect.Guard.String(), own.admin, 0, time.Now()
}

// serving notes that a proxy is ready and the workload redirected to it.
func (k *keeper) serving(c *child) {
	k.log.Info("sealed", obs.KeyPID, c.pid, obs.KeyPath, c.path, obs.KeyRules, k.realm.rules())
	if !k.workload.whole() && bridgesFilter(k.realm.path) {
		k.log.Warn("containers of this machine cannot reach the workload: set net.bridge.bridge-nf-call-iptables and bridge-nf-call-ip6tables to 0")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.Phase, k.status.PID, k.status.Error, k.status.Since = redirect.Redirect.String(), c.pid, "", time.Now()
}

// failed notes why there is no proxy.
func (k *keeper) failed(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.PID, k.status.Error, k.status.Since = 0, err.Error(), time.Now()
	k.status.Failures++
}

// bridgesFilter reports whether packets between ports of a local bridge pass
// through netfilter twice in a namespace: on the bridge they lose the proxy's
// socket (br_netfilter), so that a host workload does not answer callers behind it.
// Fails closed, but silently, hence the warning.
func bridgesFilter(namespace string) (on bool) {
	_ = redirect.InNamespace(namespace, func() error {
		for _, family := range []string{"iptables", "ip6tables"} {
			b, err := os.ReadFile("/proc/sys/net/bridge/bridge-nf-call-" + family)
			on = on || err == nil && strings.TrimSpace(string(b)) == "1"
		}
		return nil
	})
	return on
}
