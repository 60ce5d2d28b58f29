package kill

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"inkan/internal/portal/portaltest"
)

// holder is a person at a browser in the middle of a way through pages, who goes on
// after a death as people do: by a reload. Of a page whose button was not answered that
// sends the form again.
type holder struct {
	*http.Client
	at     string     // the address bar
	unsent url.Values // form that was sent to it, as long as nobody answered
	page   []byte     // what is shown
}

// visit opens a browser at an address, before anything is asked for.
func (p *plant) visit(at string) (*holder, error) {
	h := &holder{at: at}
	browser, err := p.browser()
	if err != nil {
		return nil, err
	}
	browser.CheckRedirect = func(next *http.Request, _ []*http.Request) error {
		h.at, h.unsent = next.URL.String(), nil // the form was answered, whatever comes of the next page
		return nil
	}
	h.Client = browser
	return h, nil
}

// load shows the page anew.
func (h *holder) load() error {
	var err error
	if h.unsent == nil {
		h.page, err = page(h.Get(h.at))
		return err
	}
	h.page, err = page(h.PostForm(h.at, h.unsent))
	if err == nil {
		h.unsent = nil
	}
	return err
}

// step is the step of a flow whose form the page shows; "" where it has none.
func (h *holder) step() string {
	return portaltest.Sealed(url.Values{}, string(h.page)).Get("step")
}

// press fills in the form of the page and sends it.
func (h *holder) press(typed url.Values) error {
	h.unsent = portaltest.Sealed(typed, string(h.page))
	return h.load()
}

// once keeps what people were told, which no later page may tell otherwise.
func once(kept *string, told string) error {
	switch {
	case told == "":
		return wrong{errors.New("the page tells no number")}
	case *kept != "" && *kept != told:
		return wrong{fmt.Errorf("the page told %s first and tells %s now", *kept, told)}
	}
	*kept = told
	return nil
}
