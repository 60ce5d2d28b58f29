package app

import (
	"net/http"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"inkan/internal/webkit"
)

// metrics counts what this process does. Every label has few values, known in advance:
// no ID, no address, no code that a person types (threat PL4).
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	refusals *prometheus.CounterVec
	ocsp     *prometheus.CounterVec
	jobs     *prometheus.CounterVec
}

// seconds are the buckets of durations: from an answer out of memory to a time-out.
var seconds = []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 10, 30}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "inkan_http_request_seconds", Buckets: seconds,
			Help: "Time of requests by zone, route and class of status."}, []string{"zone", "route", "class"}),
		refusals: counter("inkan_http_refusals_total", "Refused requests by zone and error code; pickup.wrong_ids are wrong letter IDs.", "zone", "code"),
		ocsp:     counter("inkan_ocsp_answers_total", "OCSP answers by what they say and whether they were kept or signed.", "says", "from"),
		jobs:     counter("inkan_job_failures_total", "Failed turns of background jobs.", "job"),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "inkan_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": Version, "go": runtime.Version()}})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.refusals, m.ocsp, m.jobs, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// classes are those of a status; zero: the connection was cut.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// recorder counts the requests of a zone.
func (m *metrics) recorder() webkit.Recorder {
	return webkit.Recorder{Now: now, Record: func(v webkit.Visit) {
		route := v.Route
		if route == "" {
			route = "none"
		}
		m.requests.WithLabelValues(v.Zone, route, classes[v.Status/100]).Observe(v.Took.Seconds())
		if v.Code != "" {
			m.refusals.WithLabelValues(v.Zone, v.Code).Inc()
		}
	}}
}

func (m *metrics) answered(says string, kept bool) {
	from := "signed"
	if kept {
		from = "kept"
	}
	m.ocsp.WithLabelValues(says, from).Inc()
}
