package pki_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inkan/internal/pki"
)

// code gives the code of an error, "" for none.
func code(err error) string {
	if err == nil {
		return ""
	}
	return pki.CodeOf(err)
}

func jst(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.ParseInLocation(time.DateTime, s, pki.JST)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestParseHolder(t *testing.T) {
	sixDigits := "13800" + string(pki.CheckDigit("0013800")) // as municipal insurers write it
	for _, c := range []struct {
		kind        pki.HolderKind
		typed, want string
		prefecture  string
		code        string
	}{
		{pki.Medical, "0110119153", "0110119153", "hokkaido", ""},
		{pki.Medical, "1619931494", "1619931494", "toyama", ""},
		{pki.Medical, "0110113719", "0110113719", "hokkaido", ""},
		{pki.Medical, "０１１０１１９１５３", "0110119153", "hokkaido", ""},
		{pki.Medical, "01-1-0119153", "0110119153", "hokkaido", ""},
		{pki.Medical, "　01 1 0119153 ", "0110119153", "hokkaido", ""},
		{pki.Medical, "01ー1−0119153", "0110119153", "hokkaido", ""},
		{pki.Insurer, "33120015", "33120015", "chiba", ""},
		{pki.Insurer, sixDigits, "00" + sixDigits, "tokyo", ""},

		{pki.Medical, "0119153", "", "", "holder.code_short"},
		{pki.Medical, "０１１９１５３", "", "", "holder.code_short"},
		{pki.Insurer, "0119153", "", "", "holder.code_digits"}, // eight digits: seven are simply wrong
		{pki.Medical, "138008", "", "", "holder.code_digits"},
		{pki.Medical, "", "", "", "holder.code_digits"},
		{pki.Medical, "01101191530", "", "", "holder.code_digits"},
		{pki.Medical, "011011915x", "", "", "holder.code_digits"},
		{pki.Medical, "٠١١٠١١٩١٥٣", "", "", "holder.code_digits"},
		{pki.Medical, "0110119\u200b153", "", "", "holder.code_digits"},
		{pki.Medical, "0010119153", "", "", "holder.code_prefecture"},
		{pki.Medical, "4810119153", "", "", "holder.code_prefecture"},
		{pki.Medical, "4710119153", "", "", "holder.code_check"},
		{pki.Dental, "0110119153", "", "", "holder.code_kind"},
		{pki.Pharmacy, "0110119153", "", "", "holder.code_kind"},
		{pki.Visiting, "0110119153", "", "", "holder.code_kind"},
		{pki.Checkup, "0110119153", "0110119153", "hokkaido", ""}, // any 点数表番号
		{pki.Medical, "0110119154", "", "", "holder.code_check"},
		{pki.Medical, "0110119135", "", "", "holder.code_check"}, // two digits exchanged
		{"hospital", "0110119153", "", "", "holder.kind"},
		{"", "0110119153", "", "", "holder.kind"},
	} {
		got, err := pki.ParseHolder(c.kind, c.typed)
		if code(err) != c.code || got.Code != c.want || got.Prefecture() != c.prefecture {
			t.Errorf("ParseHolder(%s, %q) = %+v in %q, %v; want %s in %q, %q", c.kind, c.typed, got, got.Prefecture(), err, c.want, c.prefecture, c.code)
		}
		if err != nil && pki.ClassOf(err) != pki.Invalid {
			t.Errorf("ParseHolder(%s, %q): class %s", c.kind, c.typed, pki.ClassOf(err))
		}
	}
}

func digits(n int) *rapid.Generator[string] { return rapid.StringMatching(fmt.Sprintf(`[0-9]{%d}`, n)) }

func TestCheckDigit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := fmt.Sprintf("%02d1%s", rapid.IntRange(1, 47).Draw(t, "prefecture"), digits(6).Draw(t, "rest"))
		right := pki.CheckDigit(body)
		for d := byte('0'); d <= '9'; d++ {
			_, err := pki.ParseHolder(pki.Medical, body+string(d))
			if (err == nil) != (d == right) {
				t.Fatalf("%s%c: %v, check digit is %c", body, d, err, right)
			}
		}
		// What Luhn is for: one wrong digit is always found.
		whole := []byte(body + string(right))
		at := rapid.IntRange(3, 9).Draw(t, "at")
		whole[at] = '0' + (whole[at]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "off by")))%10
		_, err := pki.ParseHolder(pki.Medical, string(whole))
		if code(err) != "holder.code_check" {
			t.Fatalf("%s with digit %d changed: %v", whole, at, err)
		}
	})
}

func TestAddMonths(t *testing.T) {
	for _, c := range []struct {
		from   string
		months int
		want   string
	}{
		{"2020-12-14 17:39:07", 39, "2024-03-14 17:39:07"}, // the manual's example
		{"2023-11-30 00:00:00", 3, "2024-02-29 00:00:00"},
		{"2022-11-30 23:59:59", 3, "2023-02-28 23:59:59"},
		{"2020-11-30 12:00:00", 39, "2024-02-29 12:00:00"},
		{"2021-11-30 12:00:00", 39, "2025-02-28 12:00:00"},
		{"2024-02-29 08:00:00", 12, "2025-02-28 08:00:00"},
		{"2024-02-29 08:00:00", 39, "2027-05-29 08:00:00"},
		{"2026-10-31 08:00:00", 39, "2030-01-31 08:00:00"},
		{"2026-12-31 00:00:00", 39, "2030-03-31 00:00:00"}, // 30 December in UTC
		{"2026-01-31 00:00:00", 1, "2026-02-28 00:00:00"},
		{"2026-01-31 00:00:00", 0, "2026-01-31 00:00:00"},
	} {
		got := pki.AddMonths(jst(t, c.from), c.months)
		if !got.Equal(jst(t, c.want)) || got.Location() != time.UTC {
			t.Errorf("AddMonths(%s, %d) = %s, want %s", c.from, c.months, got.In(pki.JST), c.want)
		}
		same := pki.AddMonths(jst(t, c.from).UTC(), c.months)
		if !same.Equal(got) {
			t.Errorf("AddMonths(%s in UTC) = %s", c.from, same.In(pki.JST))
		}
	}
}

func TestAddMonthsKeepsDayAndClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "from"), 0).In(pki.JST)
		months := rapid.IntRange(0, 60).Draw(t, "months")
		got := pki.AddMonths(from, months).In(pki.JST)
		if got.Format(time.TimeOnly) != from.Format(time.TimeOnly) {
			t.Fatalf("%s became %s", from, got)
		}
		if (got.Year()-from.Year())*12+int(got.Month()-from.Month()) != months {
			t.Fatalf("%s is not %d months after %s", got, months, from)
		}
		if got.Day() != from.Day() && got.AddDate(0, 0, 1).Day() != 1 {
			t.Fatalf("%s is neither the day of %s nor the month's last", got, from)
		}
	})
}

func TestDays(t *testing.T) {
	end := jst(t, "2030-02-24 10:32:00")
	for now, want := range map[string]int{
		"2029-11-26 00:00:00": 90,
		"2029-11-25 23:59:59": 91,
		"2030-02-23 23:59:59": 1,
		"2030-02-24 00:00:00": 0,
		"2030-02-24 23:59:59": 0,
		"2030-02-25 00:00:00": -1,
	} {
		got := pki.DaysLeft(jst(t, now).UTC(), end.UTC())
		if got != want {
			t.Errorf("DaysLeft(%s) = %d, want %d", now, got, want)
		}
	}
	if got := pki.RenewalOpens(end.UTC()); !got.Equal(jst(t, "2029-11-26 00:00:00")) {
		t.Errorf("renewal opens %s", got)
	}
	if got := pki.DaysLeft(pki.RenewalOpens(end), end); got != pki.RenewalDays {
		t.Errorf("%d days are left when renewal opens", got)
	}
	if got := pki.DownloadDeadline(jst(t, "2026-11-23 00:00:00")); !got.Equal(jst(t, "2027-05-22 23:59:59")) {
		t.Errorf("download deadline %s", got.In(pki.JST))
	}
	if got := pki.Month(time.Date(2026, 11, 30, 15, 0, 0, 0, time.UTC)); got != "2026-12" {
		t.Errorf("month %s", got)
	}
}

func TestRequestStates(t *testing.T) {
	states := []pki.RequestState{pki.Received, pki.Reviewing, pki.Approved, pki.Generating, pki.Issuing, pki.Issued, pki.Returned,
		pki.Rejected, pki.Cancelled, pki.Failed, "", "nonsense"}
	events := []pki.RequestEvent{pki.EventCheck, pki.EventApprove, pki.EventReturn, pki.EventCorrect, pki.EventReject, pki.EventCancel,
		pki.EventGenerate, pki.EventIntend, pki.EventIssue, pki.EventFail, "", "nonsense"}
	want := map[string]pki.RequestState{}
	for _, row := range strings.Fields(`
		received+check=reviewing received+approve=approved received+return=returned received+reject=rejected received+cancel=cancelled
		reviewing+approve=approved reviewing+return=returned reviewing+reject=rejected reviewing+cancel=cancelled
		returned+correct=received returned+reject=rejected returned+cancel=cancelled
		approved+generate=generating approved+cancel=cancelled
		generating+intend=issuing generating+fail=failed
		issuing+issue=issued issuing+fail=failed
		issued+cancel=cancelled
		failed+generate=generating failed+cancel=cancelled`) {
		step, next, _ := strings.Cut(row, "=")
		want[step] = pki.RequestState(next)
	}
	steps := 0
	for _, s := range states {
		for _, e := range events {
			next, err := s.Next(e)
			wanted, ok := want[string(s)+"+"+string(e)]
			if ok {
				steps++
				if err != nil || next != wanted {
					t.Errorf("%s after %s is %s, %v; want %s", s, e, next, err, wanted)
				}
				continue
			}
			if code(err) != "request.state" || pki.ClassOf(err) != pki.Conflict || next != s {
				t.Errorf("%s after %s is %s, %v; want a conflict", s, e, next, err)
			}
		}
	}
	if steps != len(want) {
		t.Errorf("%d of %d steps were seen", steps, len(want))
	}
}

func TestSecondPerson(t *testing.T) {
	for _, c := range []struct {
		name             string
		entered, checked string
		editors          []string
		actor, code      string
	}{
		{"entered by another", "a", "", nil, "b", ""},
		{"checked by another", "", "a", nil, "b", ""},
		{"entered and checked by others", "a", "c", nil, "b", ""},
		{"entered by himself", "a", "", nil, "a", "request.same_person"},
		{"checked by himself", "", "a", nil, "a", "request.same_person"},
		{"checked by himself, entered by another", "b", "a", nil, "a", "request.same_person"},
		{"edited by himself", "b", "", []string{"c", "a"}, "a", "request.same_person"},
		{"edited by others", "b", "", []string{"c"}, "a", ""},
		{"nobody looked", "", "", nil, "a", "request.unchecked"},
		{"nobody looked, but another edited", "", "", []string{"b"}, "a", "request.unchecked"},
	} {
		err := pki.SecondPerson(pki.Request{EnteredBy: c.entered, CheckedBy: c.checked}, c.editors, pki.Actor{ID: c.actor})
		if code(err) != c.code {
			t.Errorf("%s: %v, want %q", c.name, err, c.code)
		}
	}
	// An actor without a name is nobody, and nobody is in the list of those who acted.
	if pki.SecondPerson(pki.Request{CheckedBy: "a"}, nil, pki.Actor{}) == nil {
		t.Error("nobody approved")
	}
}

func TestGrantAllows(t *testing.T) {
	now := jst(t, "2026-11-23 09:00:00")
	holder := pki.Holder{Kind: pki.Medical, Code: "0110119153"}
	for name, c := range map[string]struct {
		change func(*pki.Grant)
		limit  string
	}{
		"plain":                   {func(*pki.Grant) {}, ""},
		"one person":              {func(g *pki.Grant) { g.ApprovedBy = "" }, "approval"},
		"same person":             {func(g *pki.Grant) { g.ApprovedBy = g.MadeBy }, "approval"},
		"revoked":                 {func(g *pki.Grant) { g.RevokedAt = now.Add(-time.Second) }, "revoked"},
		"ends now":                {func(g *pki.Grant) { g.EndsAt = now }, "end"},
		"ends in a moment":        {func(g *pki.Grant) { g.EndsAt = now.Add(1) }, ""},
		"its kind":                {func(g *pki.Grant) { g.Kinds = []pki.HolderKind{pki.Dental, pki.Medical} }, ""},
		"another kind":            {func(g *pki.Grant) { g.Kinds = []pki.HolderKind{pki.Dental} }, "kind"},
		"its prefecture":          {func(g *pki.Grant) { g.Prefectures = []string{"hokkaido"} }, ""},
		"another prefecture":      {func(g *pki.Grant) { g.Prefectures = []string{"tokyo"} }, "prefecture"},
		"last of all":             {func(g *pki.Grant) { g.Used = 99 }, ""},
		"all used":                {func(g *pki.Grant) { g.Used = 100 }, "total"},
		"last of the day":         {func(g *pki.Grant) { g.UsedToday = 9 }, ""},
		"day used":                {func(g *pki.Grant) { g.UsedToday = 10 }, "day"},
		"yesterday used":          {func(g *pki.Grant) { g.UsedToday, g.Today = 10, "2026-11-22" }, ""},
		"never for nothing a day": {func(g *pki.Grant) { g.PerDay = 0 }, "day"},
		"zero grant":              {func(g *pki.Grant) { *g = pki.Grant{} }, "approval"},
	} {
		g := pki.Grant{MadeBy: "a", ApprovedBy: "b", PerDay: 10, Total: 100, Today: "2026-11-23", EndsAt: now.Add(time.Hour)}
		c.change(&g)
		err := g.Allows(holder, now.UTC())
		e, _ := errors.AsType[*pki.Error](err)
		switch {
		case c.limit == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.limit != "" && (e == nil || e.Code != "grant.exhausted" || e.Class != pki.Forbidden || e.Args["Limit"] != c.limit):
			t.Errorf("%s: %v, want limit %s", name, err, c.limit)
		}
	}
	// The day is the day in Japan.
	g := pki.Grant{MadeBy: "a", ApprovedBy: "b", PerDay: 1, Total: 9, UsedToday: 1, Today: "2026-11-23", EndsAt: now.AddDate(0, 0, 9)}
	if g.Allows(holder, jst(t, "2026-11-23 23:59:59").UTC()) == nil || g.Allows(holder, jst(t, "2026-11-24 00:00:00").UTC()) != nil {
		t.Error("the day does not end at midnight in Japan")
	}
}

func TestCertificateState(t *testing.T) {
	begin, end := jst(t, "2026-01-01 00:00:00"), jst(t, "2029-04-01 00:00:00")
	middle := jst(t, "2027-01-01 00:00:00")
	for _, c := range []struct {
		name   string
		change func(*pki.Certificate)
		now    time.Time
		want   pki.CertificateState
		usable bool
	}{
		{"in the middle", func(*pki.Certificate) {}, middle, pki.Valid, true},
		{"first second", func(*pki.Certificate) {}, begin, pki.Valid, true},
		{"last second", func(*pki.Certificate) {}, end, pki.Valid, true},
		{"before", func(*pki.Certificate) {}, begin.Add(-1), pki.NotBegun, false},
		{"after", func(*pki.Certificate) {}, end.Add(1), pki.Expired, false},
		{"renewed", func(c *pki.Certificate) { c.Successor = "02" }, middle, pki.Superseded, true},
		{"renewed and over", func(c *pki.Certificate) { c.Successor = "02" }, end.Add(1), pki.Expired, false},
		{"revoked", func(c *pki.Certificate) { c.RevokedAt, c.EffectiveAt, c.Reason = middle, middle, pki.KeyCompromise }, middle, pki.Revoked, false},
		{"revoked and over", func(c *pki.Certificate) { c.RevokedAt, c.EffectiveAt = middle, middle }, end.Add(1), pki.Revoked, false},
		{"on hold", func(c *pki.Certificate) { c.RevokedAt, c.EffectiveAt, c.Reason = middle, middle, pki.CertificateHold }, middle, pki.Suspended, false},
		{"revoked from tomorrow", func(c *pki.Certificate) { c.RevokedAt, c.EffectiveAt = middle, middle.Add(time.Hour) }, middle, pki.Valid, true},
	} {
		cert := pki.Certificate{NotBefore: begin, NotAfter: end}
		c.change(&cert)
		got := cert.State(c.now)
		if got != c.want || got.Usable() != c.usable {
			t.Errorf("%s: %s, usable %t; want %s, %t", c.name, got, got.Usable(), c.want, c.usable)
		}
	}
}

func good() pki.Application {
	return pki.Application{Holder: pki.Holder{Kind: pki.Medical, Code: "0110119153"}, TerminalName: "受付1号機", Email: "clinic@example.jp",
		MaintenanceEmail: "vendor@example.co.jp", Department: "医事課", Phone: "03-1234-5678", PaymentMethod: 1, CSR: []byte{1}}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*pki.Application)
		from   pki.Source
		code   string
	}{
		"good":                      {func(*pki.Application) {}, pki.FromSite, ""},
		"least":                     {func(a *pki.Application) { a.MaintenanceEmail, a.Department, a.Phone, a.CSR = "", "", "", nil }, pki.FromSite, ""},
		"site without e-mail":       {func(a *pki.Application) { a.Email = "" }, pki.FromSite, "email.missing"},
		"operator without e-mail":   {func(a *pki.Application) { a.Email = "" }, pki.FromOperator, "email.missing"},
		"no source, no e-mail":      {func(a *pki.Application) { a.Email = "" }, "", "email.missing"},
		"API without e-mail":        {func(a *pki.Application) { a.Email = "" }, pki.FromAPI, ""},
		"API with a wrong e-mail":   {func(a *pki.Application) { a.Email = "x" }, pki.FromAPI, "email.form"},
		"code not folded":           {func(a *pki.Application) { a.Holder.Code = "01-10119153" }, pki.FromSite, "holder.code_digits"},
		"code full width":           {func(a *pki.Application) { a.Holder.Code = "０１１０１１９１５３" }, pki.FromSite, "holder.code_digits"},
		"code wrong":                {func(a *pki.Application) { a.Holder.Code = "0110119154" }, pki.FromSite, "holder.code_check"},
		"no terminal":               {func(a *pki.Application) { a.TerminalName = "" }, pki.FromSite, "terminal.missing"},
		"40 letters":                {func(a *pki.Application) { a.TerminalName = strings.Repeat("室", 40) }, pki.FromSite, ""},
		"41 letters":                {func(a *pki.Application) { a.TerminalName = strings.Repeat("室", 41) }, pki.FromSite, "terminal.long"},
		"wide blank inside":         {func(a *pki.Application) { a.TerminalName = "受付　1" }, pki.FromSite, ""},
		"half-width kana":           {func(a *pki.Application) { a.TerminalName = "ﾚｾﾌﾟﾄ" }, pki.FromSite, ""},
		"blank at the end":          {func(a *pki.Application) { a.TerminalName = "受付 " }, pki.FromSite, "terminal.letters"},
		"wide blank at the start":   {func(a *pki.Application) { a.TerminalName = "　受付" }, pki.FromSite, "terminal.letters"},
		"department hides a letter": {func(a *pki.Application) { a.Department = "医\u2066事" }, pki.FromSite, "department.letters"},
		"department too long":       {func(a *pki.Application) { a.Department = strings.Repeat("課", 61) }, pki.FromSite, "department.long"},
		"e-mail with a name":        {func(a *pki.Application) { a.Email = "A <a@example.jp>" }, pki.FromSite, "email.form"},
		"e-mail with line break":    {func(a *pki.Application) { a.Email = "a@example.jp\r\nBcc: b@example.jp" }, pki.FromSite, "email.form"},
		"two e-mails":               {func(a *pki.Application) { a.Email = "a@example.jp,b@example.jp" }, pki.FromSite, "email.form"},
		"e-mail full width":         {func(a *pki.Application) { a.Email = "ａ@example.jp" }, pki.FromSite, "email.form"},
		"e-mail too long":           {func(a *pki.Application) { a.Email = strings.Repeat("a", 250) + "@b.jp" }, pki.FromSite, "email.form"},
		"second e-mail wrong":       {func(a *pki.Application) { a.MaintenanceEmail = "vendor" }, pki.FromSite, "email.form"},
		"phone with letters":        {func(a *pki.Application) { a.Phone = "ext. 12" }, pki.FromSite, "phone.form"},
		"phone too long":            {func(a *pki.Application) { a.Phone = strings.Repeat("1", 21) }, pki.FromSite, "phone.form"},
		"payment 0":                 {func(a *pki.Application) { a.PaymentMethod = 0 }, pki.FromSite, "payment.method"},
		"payment 3":                 {func(a *pki.Application) { a.PaymentMethod = 3 }, pki.FromSite, "payment.method"},
	} {
		a := good()
		c.change(&a)
		err := a.Validate(c.from)
		if code(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}

// What a reviewer could not see as it is, is not stored (threat AP8).
func TestUnseenLetters(t *testing.T) {
	for _, hidden := range []string{
		"\u202e", "\u202d", "\u2066", "\u2069", "\u200e", "\u061c", // direction
		"\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u034f", "\u180e", // no width
		"\u3164", "\uffa0", "\u115f", "\u1160", "\u2800", // letters and symbols without ink
		"\ufe00", "\ufe0f", "\U000e0100", "\U000e01ef", // variation selectors, IVS
		"\U000e0041", "\U000e0001", // tags
		"\u0000", "\u0009", "\u000a", "\u000d", "\u001b", "\u007f", "\u0085", "\u009b", // controls
		"\u2028", "\u2029", "\u00a0", "\u2003", "\u202f", // separators
		"\ue000", "\U000f0000", "\ufffd", "\ufffe", "\u0378", // private, damaged, not letters
		"\xff", "\xed\xa0\x80", "\xc0\xaf", // not UTF-8
	} {
		a := good()
		a.TerminalName = "受" + hidden + "付"
		err := a.Validate(pki.FromSite)
		if code(err) != "terminal.letters" {
			t.Errorf("%+q in a name: %v", hidden, err)
		}
	}
}

func TestHashSeesEveryField(t *testing.T) {
	text := rapid.String()
	application := rapid.Custom(func(t *rapid.T) pki.Application {
		return pki.Application{Holder: pki.Holder{Kind: pki.HolderKind(text.Draw(t, "kind")), Code: text.Draw(t, "code")},
			TerminalName: text.Draw(t, "terminal"), Email: text.Draw(t, "email"), MaintenanceEmail: text.Draw(t, "maintenance"),
			Department: text.Draw(t, "department"), Phone: text.Draw(t, "phone"), PaymentMethod: rapid.Int().Draw(t, "payment"),
			CSR: rapid.SliceOf(rapid.Byte()).Draw(t, "csr")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a := application.Draw(t, "a")
		before := a.Hash()
		if len(before) != 66 || a.Hash() != before {
			t.Fatalf("hash %q", before)
		}
		// Every field, also those that are added some day, by reflection.
		changed := 0
		var walk func(v reflect.Value, name string)
		walk = func(v reflect.Value, name string) {
			saved := reflect.New(v.Type()).Elem()
			saved.Set(v)
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					walk(v.Field(i), name+"."+v.Type().Field(i).Name)
				}
				return
			case reflect.String:
				v.SetString(v.String() + "x")
			case reflect.Int:
				v.SetInt(v.Int() + 1)
			case reflect.Slice:
				v.Set(reflect.Append(v, reflect.ValueOf(byte(1))))
			default:
				t.Fatalf("%s: teach the test the type %s", name, v.Type())
			}
			changed++
			if a.Hash() == before {
				t.Fatalf("%s may change under an approval", name)
			}
			v.Set(saved)
		}
		walk(reflect.ValueOf(&a).Elem(), "Application")
		if changed < 9 || a.Hash() != before {
			t.Fatalf("%d fields were tried", changed)
		}
		// What moves from one field to the next is another content.
		a.TerminalName, a.Email = "ab", "c"
		first := a.Hash()
		a.TerminalName, a.Email = "a", "bc"
		if a.Hash() == first {
			t.Fatal("fields flow together")
		}
	})
}
