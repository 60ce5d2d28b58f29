package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// stateMetrics reads what is counted elsewhere at the moment at which somebody asks.
type stateMetrics struct{ *server }

// askDatabase bounds how long metrics wait for the database.
const askDatabase = 2 * time.Second

// mailGivenUp is longer than any pause between two tries of a mail: what is due later
// was given up.
const mailGivenUp = 72 * time.Hour

func described(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("inkan_"+name, help, labels, nil)
}

var (
	readyDesc     = described("ready", "1 while this node should get requests.")
	wrongDesc     = described("wrong", "1 for each part that is wrong; /health says it in words.", "part")
	horizonDesc   = described("horizon_age_seconds", "Age of what this node knows of the status of certificates.")
	issuedDesc    = described("certificates_issued_total", "Certificates that this node knows, of all issuers.")
	revokedDesc   = described("certificates_revoked", "Certificates that are revoked or suspended.")
	crlNumberDesc = described("crl_number", "Number of the newest CRL.", "issuer")
	crlAgeDesc    = described("crl_age_seconds", "Time since its thisUpdate.", "issuer")
	crlLeftDesc   = described("crl_left_seconds", "Time until its nextUpdate.", "issuer")
	crlSizeDesc   = described("crl_bytes", "Its size.", "issuer")
	commitsDesc   = described("writer_commits_total", "Transactions of the writer.")
	closuresDesc  = described("writer_closures_total", "Changes in them; the quotient is the size of a group commit.")
	signerDesc    = described("signer_refusals_total", "What the signer refused since it started: a defect or an attack.")
	databaseDesc  = described("database_up", "1 where the database answered just now.")
	poolDesc      = described("pool_keys", "Keys made ahead.")
	outboxDesc    = described("outbox_mails", "Mails that have not left, by state: waiting or given_up.", "state")
	auditDesc     = described("audit_records", "Size of the audit tree.")
)

// Describe lists everything that Collect may give.
func (s stateMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, wrongDesc, horizonDesc, issuedDesc, revokedDesc, crlNumberDesc, crlAgeDesc, crlLeftDesc,
		crlSizeDesc, commitsDesc, closuresDesc, signerDesc, databaseDesc, poolDesc, outboxDesc, auditDesc} {
		out <- d
	}
}

// Collect gives the values.
func (s stateMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	all := s.problems()
	gauge(readyDesc, truth(ready(all)))
	for _, w := range all {
		gauge(wrongDesc, 1, w.Part)
	}
	gauge(horizonDesc, now().Sub(s.view.Horizon()).Seconds())
	issued, revoked := s.view.Counts()
	counter(issuedDesc, float64(issued))
	gauge(revokedDesc, float64(revoked))
	for _, issuer := range caIDs {
		crl, _ := s.view.CRL(issuer)
		if crl.Number > 0 {
			gauge(crlNumberDesc, float64(crl.Number), issuer)
			gauge(crlAgeDesc, now().Sub(crl.ThisUpdate).Seconds(), issuer)
			gauge(crlLeftDesc, crl.NextUpdate.Sub(now()).Seconds(), issuer)
			gauge(crlSizeDesc, float64(len(crl.DER)), issuer)
		}
	}
	writer := s.db.Stats()
	counter(commitsDesc, float64(writer.Commits))
	counter(closuresDesc, float64(writer.Closures))
	counter(signerDesc, float64(s.signerRefusals.Load()))
	rows, err := s.countRows()
	gauge(databaseDesc, truth(err == nil))
	if err != nil {
		return
	}
	gauge(poolDesc, float64(rows.pool))
	gauge(outboxDesc, float64(rows.waiting), "waiting")
	gauge(outboxDesc, float64(rows.givenUp), "given_up")
	gauge(auditDesc, float64(rows.audit))
}

type rowCounts struct {
	pool, waiting, givenUp int
	audit                  int64
}

func (s stateMetrics) countRows() (rowCounts, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askDatabase)
	defer cancel()
	var c rowCounts
	err := s.db.View(ctx, func(tx *store.Tx) error {
		var err error
		c.pool, err = tx.PoolSize(pki.KeyType(s.config.Policy.HolderKey))
		if err != nil {
			return err
		}
		c.waiting, c.givenUp, err = tx.UnsentMessages(tx.Now.Add(mailGivenUp))
		if err != nil {
			return err
		}
		c.audit, _, err = tx.AuditTree()
		return err
	})
	return c, err
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
