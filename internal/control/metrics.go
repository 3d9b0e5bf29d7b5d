package control

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealmesh/sealmesh/internal/ca"
)

// metrics counts what the control plane does. Labels are closed sets.
type metrics struct {
	registry   *prometheus.Registry
	certs      *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	pushes     prometheus.Counter
	connected  prometheus.GaugeFunc
	issuerEnds prometheus.GaugeFunc
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		certs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealmesh_control_certificates_issued_total",
			Help: "Certificates issued, by how the caller proved who it is.",
		}, []string{"proof"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sealmesh_control_refusals_total",
			Help: "Requests refused, by code.",
		}, []string{"code"}),
		pushes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sealmesh_control_snapshot_pushes_total",
			Help: "Snapshots sent to proxies.",
		}),
		connected: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sealmesh_control_connected_proxies",
			Help: "Watch streams of proxies that run now.",
		}, func() float64 { return float64(s.registry.Connected()) }),
		issuerEnds: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sealmesh_control_issuer_expiry_timestamp_seconds",
			Help: "When the issuer's certificate ends, in Unix seconds; 0 before it is known.",
		}, func() float64 {
			if view, _ := s.hub.Load(); view != nil {
				return float64(view.State.Issuer.Chain[0].NotAfter.Unix())
			}
			return 0
		}),
	}
	m.registry.MustRegister(m.certs, m.refusals, m.pushes, m.connected, m.issuerEnds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *metrics) issued(by proof)      { m.certs.WithLabelValues(string(by)).Inc() }
func (m *metrics) refused(code ca.Code) { m.refusals.WithLabelValues(string(code)).Inc() }
func (m *metrics) pushed()              { m.pushes.Inc() }
