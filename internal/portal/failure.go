package portal

import (
	"net/http"
	"strings"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/webkit"
)

// three is the card of a failure: what happened, what to do, whom to call.
type three struct {
	Failure *drawn
	Help    HelpDesk
}

// drawn is a failure as templates need it.
type drawn struct {
	Code   string
	Args   map[string]any
	Spoken string // the look-up code in its groups
	Tone   string // bad, care or tell: colour, shape and urgency
}

// tones are the codes that are no mistake of the person.
var tones = map[string]string{
	"pickup.slow": "care", "pickup.not_issued": "tell", "pickup.not_dispatched": "care", "pickup.busy": "care",
	"pickup.csr": "tell", "pickup.suspended": "care", "pickup.key_destroyed": "tell", "pickup.not_saved": "tell", "pickup.not_kept": "tell",
	"ticket.over": "tell", "ticket.foreign": "care", "internal": "care", "flow.ended": "tell", "flow.unknown": "care",
	"renewal.none": "care", "renewal.suspended": "care", "renewal.early": "tell", "renewal.not_begun": "tell", "form.stale": "care",
	"renewal.revoking": "care", "revocation.slow": "care", "revocation.busy": "care", "revocation.not_issued": "tell", "revocation.already": "tell",
	"revocation.expired": "tell", "revocation.none": "care",
	"apply.slow": "care", "apply.mails": "care", "apply.link": "care", "status.link": "care", "status.too_late": "tell",
}

// links are where the [link] in the words of a failure leads.
var links = map[string]string{
	"renewal.none": "/p/check", "renewal.foreign": "/p/check", "revocation.none": "/p/check", "revocation.foreign": "/p/check",
}

func (p *Portal) three(f webkit.Failure) three {
	d := &drawn{Code: f.Code, Args: spoken(f.Args), Spoken: webkit.SpokenLookup(f.Lookup), Tone: tones[f.Code]}
	if d.Tone == "" {
		d.Tone = "bad"
	}
	d.Args["Href"] = links[f.Code]
	if !i18n.Has("error." + d.Code + ".title") {
		d.Code, d.Tone = "internal", "care" // no words of its own for this site
	}
	return three{Failure: d, Help: p.Help}
}

// spoken rounds times of waiting up to the minute that is said: "until 14:05" must
// not be heard twenty seconds too early.
func spoken(args map[string]any) map[string]any {
	out := make(map[string]any, len(args))
	for k, v := range args {
		until, ok := v.(time.Time)
		if ok && k == "Until" {
			v = until.Add(time.Minute - time.Nanosecond).Truncate(time.Minute)
		}
		out[k] = v
	}
	return out
}

type failureData struct {
	three
	Heading string
	Again   string    // where to go on; "" nowhere
	Back    string    // key of its words
	Resume  *stepForm // on the page of a session's end
}

// sites are the sequences of pages, each with its first page.
var sites = []struct{ path, title, back string }{
	{"/p/rcd", "rcd.title", "back.form"},
	{"/p/ru", "ru.title", "back.ru"},
	{"/p/rx", "rx.title", "back.rx"},
	{"/p/rcr", "rcr.title", "back.rcr"},
	{"/p/status", "status.title", "back.status"},
}

// failureOn is the page of a failure under the title of the pages where it happened.
func (p *Portal) failureOn(r *http.Request, f webkit.Failure) failureData {
	data := failureData{three: p.three(f), Heading: i18n.Text(f.Lang, "site.name", nil)}
	for _, site := range sites {
		if strings.HasPrefix(r.URL.Path, site.path) {
			data.Again, data.Back, data.Heading = site.path, site.back, i18n.Text(f.Lang, site.title, nil)
		}
	}
	return data
}

// drawFailure is the page of any failure that has no page of its own.
func (p *Portal) drawFailure(w http.ResponseWriter, r *http.Request, f webkit.Failure) error {
	data := p.failureOn(r, f)
	if f.Code == "form.stale" { // what was typed is on the page that is drawn anew
		data.Again, data.Back = r.URL.Path, "back.same"
	}
	return p.sendFailure(w, f, data)
}

func (p *Portal) sendFailure(w http.ResponseWriter, f webkit.Failure, data failureData) error {
	card := data.three
	title := i18n.Text(f.Lang, "error."+card.Failure.Code+".title", card.Failure.Args)
	body, err := p.pages.Render(f.Lang, "failure", p.page(title, screenOf(f.Code), true, data))
	if err != nil {
		return err
	}
	webkit.WriteHTML(w, f.Status, body)
	return nil
}

// screens are the 画面番号 of failures; the help desk's list has the same.
var screens = map[string]string{
	"pickup.wrong_ids": "RCD-1E", "pickup.ids_form": "RCD-1F", "pickup.slow": "RCD-1L", "pickup.pin_form": "RCD-1P", "pickup.pin_differs": "RCD-1Q",
	"pickup.busy": "RCD-1B", "pickup.not_issued": "RCD-3A", "pickup.not_dispatched": "RCD-3B", "pickup.deadline": "RCD-3C",
	"pickup.cancelled": "RCD-3D", "pickup.rejected": "RCD-3E", "pickup.revoked": "RCD-3F", "pickup.suspended": "RCD-3G",
	"pickup.expired": "RCD-3H", "pickup.key_destroyed": "RCD-3I", "pickup.csr": "RCD-3J",
	"pickup.not_saved": "RCD-2E", "pickup.not_kept": "RCD-2F",
	"ticket.unknown": "RCD-4A", "ticket.foreign": "RCD-4B", "ticket.over": "RCD-4C",
	"renewal.none": "RU-1N", "renewal.foreign": "RU-1O", "renewal.revoked": "RU-1R", "renewal.suspended": "RU-1S", "renewal.expired": "RU-1X",
	"renewal.not_begun": "RU-1Y", "renewal.early": "RU-2E", "renewal.unknown": "RU-3N", "renewal.pin_form": "RU-3P", "form.stale": "ERR-4", "flow.unknown": "ERR-5", "flow.ended": "ERR-6",
	"renewal.revoking": "RU-2R", "revocation.wrong_ids": "RX-1E", "revocation.ids_form": "RX-1G", "revocation.slow": "RX-1L", "revocation.busy": "RX-1B", "revocation.not_issued": "RX-1A",
	"revocation.already": "RX-1F", "revocation.expired": "RX-1H", "revocation.foreign": "RX-1O", "revocation.none": "RX-1N", "revocation.contact": "RX-2E",
	"apply.fields": "RCR-1E", "apply.slow": "RCR-1L", "apply.mails": "RCR-2M", "apply.link": "RCR-4N", "status.link": "ST-2N", "status.too_late": "ST-2L",
	"not_found": "ERR-404", "http.foreign_site": "ERR-1", "http.too_large": "ERR-2", "http.form": "ERR-3",
}

func screenOf(code string) string {
	screen, ok := screens[code]
	if !ok {
		return "ERR-0"
	}
	return screen
}
