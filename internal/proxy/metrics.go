package proxy

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of the data plane. docs/metrics.md lists them; no label grows with the
// number of peers.
type Metrics struct {
	connections    *prometheus.CounterVec
	open           *prometheus.GaugeVec
	bytes          *prometheus.CounterVec
	refused        *prometheus.CounterVec
	handshakes     *prometheus.CounterVec
	handshakeTimes *prometheus.HistogramVec
	reused         prometheus.Counter
	acceptErrors   prometheus.Counter
	registry       prometheus.Registerer
}

// NewMetrics makes the metrics and registers them.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		registry: r,
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealmesh_connections_total", Help: "Application connections that have ended, by how they were sealed."},
			[]string{"direction", "seal"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sealmesh_connections_open", Help: "Application connections that are carried now."},
			[]string{"direction", "seal"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealmesh_bytes_total", Help: "Application bytes of ended connections, sent and received by the client."},
			[]string{"direction", "seal", "flow"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealmesh_refused_total", Help: "Connections refused or cut, by reason."},
			[]string{"direction", "reason"}),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealmesh_handshakes_total", Help: "TLS handshakes of lanes, by result."},
			[]string{"direction", "result"}),
		handshakeTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "sealmesh_handshake_seconds", Help: "How long successful handshakes took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}},
			[]string{"direction"}),
		reused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealmesh_lanes_reused_total", Help: "Streams that found an idle lane and needed no handshake."}),
		acceptErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealmesh_accept_errors_total", Help: "Failures to accept, such as running out of descriptors."}),
	}
	r.MustRegister(m.connections, m.open, m.bytes, m.refused, m.handshakes, m.handshakeTimes, m.reused, m.acceptErrors)
	return m
}

// observe registers what is read off the proxy when it is asked for.
func (m *Metrics) observe(p *Proxy) {
	gauge := func(name, help string, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("sealmesh_lanes_idle", "Lanes kept for the next stream.", func() float64 { return float64(p.pool.size()) })
	gauge("sealmesh_lanes_open", "Lanes of both roles.", func() float64 {
		p.live.mu.Lock()
		defer p.live.mu.Unlock()
		return float64(len(p.live.links))
	})
	gauge("sealmesh_leaf_expiry_timestamp_seconds", "When the certificate in use ends, 0 without one.", func() float64 {
		leaf := p.Snapshots.Load().Leaf
		if leaf == nil {
			return 0
		}
		return float64(leaf.Leaf.NotAfter.Unix())
	})
}

func (m *Metrics) begin(c *connection) {
	m.open.WithLabelValues(string(c.direction), string(c.seal())).Inc()
}

func (m *Metrics) end(c *connection) {
	direction, seal := string(c.direction), string(c.seal())
	m.connections.WithLabelValues(direction, seal).Inc()
	if c.refusal != nil {
		m.refused.WithLabelValues(direction, string(c.refusal.Reason)).Inc()
	}
	if c.carried.Load() == nil {
		return
	}
	m.open.WithLabelValues(direction, seal).Dec()
	m.bytes.WithLabelValues(direction, seal, "sent").Add(float64(c.bytes.sent.Load()))
	m.bytes.WithLabelValues(direction, seal, "received").Add(float64(c.bytes.received.Load()))
}

// handshake times a handshake; the function it returns takes its result.
func (m *Metrics) handshake(d Direction) func(error) {
	start := now()
	return func(err error) {
		if err != nil {
			m.handshakes.WithLabelValues(string(d), "failed").Inc()
			return
		}
		m.handshakes.WithLabelValues(string(d), "ok").Inc()
		m.handshakeTimes.WithLabelValues(string(d)).Observe(now().Sub(start).Seconds())
	}
}
