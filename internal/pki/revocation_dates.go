package pki

import "time"

// MaxAhead is how far ahead a revocation may be dated: a takeover (承継) is known some
// months before it happens.
const MaxAhead = 120 * 24 * time.Hour

// RevocationDates are what an officer may say of the time of a revocation; zero ones are
// not said. The time at which it was decided is nobody's to say: it is the commit's.
type RevocationDates struct {
	Effective    time.Time // it counts from then on; until then the certificate is good
	InvalidSince time.Time // invalidityDate, RFC 5280 §5.3.2: since then nothing signed with it is to be believed
}

// Whole gives the dates in whole seconds and UTC, as CRLs and OCSP answers write them.
func (d RevocationDates) Whole() RevocationDates {
	return RevocationDates{d.Effective.UTC().Truncate(time.Second), d.InvalidSince.UTC().Truncate(time.Second)}
}

// Equal says whether both say the same.
func (d RevocationDates) Equal(other RevocationDates) bool {
	return d.Effective.Equal(other.Effective) && d.InvalidSince.Equal(other.InvalidSince)
}

// Check wants one of the two and refuses what would keep a thief's certificate alive or spoil claims of the
// past (threats RV6, RV7). The errors are of class Invalid.
func (d RevocationDates) Check(c Certificate, reason Reason, why string, now time.Time) error {
	switch ahead, since := !d.Effective.IsZero(), !d.InvalidSince.IsZero(); {
	case ahead == since:
		return E(Invalid, "revocation.one_date")
	case ahead:
		return d.checkAhead(c, reason, now)
	}
	return d.checkSince(c, reason, why, now)
}

func (d RevocationDates) checkAhead(c Certificate, reason Reason, now time.Time) error {
	switch {
	case reason == KeyCompromise || reason == CACompromise || reason == CertificateHold:
		return E(Invalid, "revocation.ahead_reason").With("Reason", reason.String())
	case !d.Effective.After(now):
		return E(Invalid, "revocation.ahead_past").With("Date", d.Effective)
	case d.Effective.After(now.Add(MaxAhead)):
		return E(Invalid, "revocation.ahead_far").With("Date", d.Effective).With("Days", int(MaxAhead/(24*time.Hour)))
	case d.Effective.After(c.NotAfter):
		return E(Invalid, "revocation.ahead_end").With("Date", d.Effective).With("To", c.NotAfter)
	}
	return nil
}

func (d RevocationDates) checkSince(c Certificate, reason Reason, why string, now time.Time) error {
	switch {
	case reason == Unspecified || reason == CertificateHold || why == "":
		return E(Invalid, "revocation.since_reason")
	case !d.InvalidSince.Before(now):
		return E(Invalid, "revocation.since_future").With("Date", d.InvalidSince)
	case d.InvalidSince.Before(c.NotBefore):
		return E(Invalid, "revocation.since_before").With("Date", d.InvalidSince).With("From", c.NotBefore)
	}
	return nil
}
