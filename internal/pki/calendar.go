package pki

import "time"

// JST is the time zone in which people of this service speak. It has had no
// daylight saving since 1951, so a fixed zone is right and needs no zone files.
var JST = time.FixedZone("JST", 9*60*60)

// ValidityMonths is the life of a holder's certificate, 3年3か月 (manual §1.2).
const ValidityMonths = 39

// RenewalDays is the number of days before expiry at which renewal opens.
const RenewalDays = 90

// DownloadDays is the time in which a new certificate may be fetched (manual §2.3).
const DownloadDays = 180

// AddMonths adds calendar months in Japan to the second; where the day does not
// exist in the target month, that month's last day is taken.
func AddMonths(t time.Time, months int) time.Time {
	j := t.In(JST)
	y, m, d := j.Date()
	first := time.Date(y, m+time.Month(months), 1, j.Hour(), j.Minute(), j.Second(), j.Nanosecond(), JST)
	last := first.AddDate(0, 1, -1).Day()
	return first.AddDate(0, 0, min(d, last)-1).UTC()
}

// Day gives the midnight in Japan with which the day of t begins.
func Day(t time.Time) time.Time {
	y, m, d := t.In(JST).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, JST)
}

// DaysLeft counts calendar days in Japan from now to the day of expiry: 0 on that
// day itself, negative after it.
func DaysLeft(now, notAfter time.Time) int {
	return int(Day(notAfter).Sub(Day(now)) / (24 * time.Hour))
}

// RenewalOpens is 00:00 in Japan on the day 90 days before the day of expiry.
func RenewalOpens(notAfter time.Time) time.Time {
	return Day(notAfter).AddDate(0, 0, -RenewalDays)
}

// DownloadDeadline is the end of the last day, in Japan, on which a certificate
// issued at t may be fetched.
func DownloadDeadline(t time.Time) time.Time {
	return DayEnd(t.AddDate(0, 0, DownloadDays))
}

// DayEnd is the last second of the day of t in Japan.
func DayEnd(t time.Time) time.Time { return Day(t).AddDate(0, 0, 1).Add(-time.Second).UTC() }

// Month names the calendar month in Japan, "2026-11": the name of an epoch key.
func Month(t time.Time) string { return t.In(JST).Format("2006-01") }
