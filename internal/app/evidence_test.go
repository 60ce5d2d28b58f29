package app

import (
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
)

// TestThreatAU1Told: that the audit records contradict what was signed is told on the health
// page with an alarm, stays told while the signer is away, and ends with the right records.
func TestThreatAU1Told(t *testing.T) {
	o := catest.New(t, catest.Options{})
	s := &server{instance: newInstance("", Config{}, o.Log.Logger()), metrics: newMetrics(), health: health{since: map[string]time.Time{}}}
	s.ops = o.Ops
	o.Submit(catest.Application(1))
	catest.Must(t, s.signTree(t.Context()))
	honest := o.AuditRows()
	forged := slices.Clone(honest)
	forged[0].Actor = "somebody"
	told := func() bool { _, is := s.health.since[partEvidence]; return is }
	o.Rebuild(forged)
	catest.WantCode(t, s.signTree(t.Context()), "audit.contradicts")
	if !told() || !strings.Contains(o.Log.String(), "alarm: the audit records are not those that were signed") {
		t.Error("nobody is told")
	}
	o.Signer.Once("Info", catest.Before, func() error { return pki.E(pki.Busy, "signer.away") })
	catest.WantCode(t, s.signTree(t.Context()), "signer.away")
	if !told() {
		t.Error("what was told is forgotten while the signer is away")
	}
	o.Rebuild(honest)
	catest.Must(t, s.signTree(t.Context()))
	if told() {
		t.Error("it is told still, and the records are right")
	}
}
