package proxy

import (
	"cmp"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Report is what /connections answers.
type Report struct {
	// Identity is our own.
	Identity    string             `json:"identity"`
	Connections []ConnectionReport `json:"connections"`
	// Lanes are those that are open, and the last that have ended.
	Lanes []LaneReport `json:"lanes"`
}

// ConnectionReport is one open application connection.
type ConnectionReport struct {
	Direction Direction      `json:"direction"`
	Client    netip.AddrPort `json:"client"`
	Server    netip.AddrPort `json:"server"`
	Seal      Seal           `json:"seal"`
	Peer      string         `json:"peer,omitempty"`
	// Lane is the ClientHello random of the lane that carries it.
	Lane     string    `json:"lane,omitempty"`
	Sent     uint64    `json:"bytes_sent"`
	Received uint64    `json:"bytes_received"`
	Opened   time.Time `json:"opened"`
}

// LaneReport attests one lane: who is at both ends of one TCP connection.
type LaneReport struct {
	// Direction is outbound if the client is ours.
	Direction Direction `json:"direction"`
	// Client and Server are the ends of the TCP connection, as on the wire.
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
	Local  string         `json:"local"`
	Peer   string         `json:"peer"`
	// HelloRandom of the ClientHello, in hex, joins the lane to a capture.
	HelloRandom string    `json:"client_hello_random"`
	Cipher      string    `json:"cipher"`
	Group       string    `json:"group"`
	PeerSerial  string    `json:"peer_serial"`
	Streams     uint64    `json:"streams"`
	Busy        bool      `json:"busy"`
	Sent        uint64    `json:"wire_bytes_sent"`
	Received    uint64    `json:"wire_bytes_received"`
	Opened      time.Time `json:"opened"`
	Expires     time.Time `json:"expires"`
	Ended       time.Time `json:"ended,omitzero"`
}

func (l *link) report(ended time.Time) LaneReport {
	info := l.Info()
	r := LaneReport{
		Direction: l.role,
		Client:    info.Local, Server: info.Remote,
		Peer:        l.peer.String(),
		HelloRandom: hex.EncodeToString(info.HelloRandom[:]),
		Cipher:      tls.CipherSuiteName(info.Cipher),
		Group:       info.Group.String(),
		PeerSerial:  hex.EncodeToString(info.PeerChain[0].SerialNumber.Bytes()),
		Streams:     l.streams.Load(),
		Busy:        l.busy.Load(),
		Opened:      l.opened.UTC(), Expires: l.expires.UTC(), Ended: ended.UTC(),
	}
	if len(l.leaf.Leaf.URIs) == 1 {
		r.Local = l.leaf.Leaf.URIs[0].String()
	}
	if l.role == Inbound {
		r.Client, r.Server = info.Remote, info.Local
	}
	r.Received, r.Sent = l.Bytes()
	return r
}

// Report lists the connections and lanes there are.
func (p *Proxy) Report() Report {
	connections, links := p.live.all()
	out := Report{Identity: p.Snapshots.Load().Identity.String(), Connections: []ConnectionReport{}, Lanes: []LaneReport{}}
	for _, c := range connections {
		r := ConnectionReport{
			Direction: c.direction, Client: c.client, Server: c.server, Seal: SealNone,
			Sent: c.bytes.sent.Load(), Received: c.bytes.received.Load(), Opened: c.opened.UTC(),
		}
		if by := c.carried.Load(); by != nil {
			r.Seal, r.Peer = by.seal, by.peer.String()
			if by.link != nil {
				random := by.link.Info().HelloRandom
				r.Lane = hex.EncodeToString(random[:])
			}
		}
		out.Connections = append(out.Connections, r)
	}
	for _, l := range links {
		out.Lanes = append(out.Lanes, l.report(time.Time{}))
	}
	p.live.mu.Lock()
	out.Lanes = append(out.Lanes, p.live.ended...)
	p.live.mu.Unlock()
	slices.SortFunc(out.Connections, func(a, b ConnectionReport) int { return a.Opened.Compare(b.Opened) })
	slices.SortFunc(out.Lanes, func(a, b LaneReport) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.HelloRandom, b.HelloRandom))
	})
	return out
}

// Admin serves what a proxy tells of itself. Only /live and /ready answer beyond
// loopback: the rest names peers.
func (p *Proxy) Admin(metrics prometheus.Gatherer, ready func() bool) http.Handler {
	local := http.NewServeMux()
	local.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	local.HandleFunc("GET /admin/ping", say(http.StatusOK, "pong\n"))
	local.HandleFunc("GET /connections", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(p.Report())
	})
	all := http.NewServeMux()
	all.HandleFunc("GET /live", say(http.StatusOK, "live\n"))
	all.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if ready() {
			say(http.StatusOK, "ready\n")(w, r)
			return
		}
		say(http.StatusServiceUnavailable, "not ready: no certificate and snapshot yet\n")(w, r)
	})
	all.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !fromLoopback(r) {
			http.Error(w, "only /live and /ready answer beyond loopback", http.StatusForbidden)
			return
		}
		local.ServeHTTP(w, r)
	})
	return all
}

// fromLoopback looks at both ends: a request from loopback to a host name that a
// web page chose (DNS rebinding) does not count. Fails closed.
func fromLoopback(r *http.Request) bool {
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !client.Addr().Unmap().IsLoopback() {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func say(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}
