package portal

import (
	"net/http"

	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/webkit"
)

// checkPage says which certificate the browser presented and whether it is the right
// one (登録した証明書の確認).
type checkPage struct {
	ra.Presented
	Verdict  string
	DaysLeft int
	Subject  []subjectLine
	Soon     bool // renewal is open
	System   string
	// Again is where the browser is asked anew: a name of the zone for which it has not
	// chosen yet, where there is one.
	Again string
}

func (p *Portal) getCheck(w http.ResponseWriter, r *http.Request) error {
	webkit.Browser(w, r)
	leaf := webkit.Leaf(r)
	v, err := p.office.Present(r.Context(), leaf)
	if err != nil {
		return err
	}
	page := checkPage{Presented: v, Verdict: string(v.Verdict), System: system(r.UserAgent())}
	page.Again = "/p/check"
	other := webkit.OtherHost(r, p.AuthHosts)
	if other != "" {
		page.Again = "https://" + other + "/p/check"
	}
	if leaf != nil {
		page.Subject = subjectLines(leaf)
	}
	if v.Authority.Certificate.Serial != "" {
		page.DaysLeft = pki.DaysLeft(p.Now(), v.Authority.Certificate.NotAfter)
		page.Soon = v.Verdict == ra.Verdict(pki.Valid) && !p.Now().Before(pki.RenewalOpens(v.Authority.Certificate.NotAfter))
	}
	// The next page asks anew: a connection keeps its certificate as long as it lives. A
	// browser may still remember a choice for the name (threat RS2).
	w.Header().Set("Connection", "close")
	return p.show(w, r, "check", "check.title", "CHK-1", page)
}
