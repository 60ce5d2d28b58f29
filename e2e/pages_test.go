package e2e

import (
	"os"
	"testing"
)

// everyPage wants no page to have anything wrong with it, in either language.
func everyPage(t *testing.T, w *world) {
	for _, lang := range []string{"ja", "en"} {
		t.Run(lang, func(t *testing.T) { walk(t, w, lang, "") })
	}
}

// walk looks at every page in one language.
func walk(t *testing.T, w *world, lang, screens string) {
	samples := append([]Sample(nil), w.Samples...)
	suspended := w.issue(t, "一時停止1号機 "+lang)
	w.Must(t, nil, "revoke", suspended.Serial, "--reason", "certificateHold", "--as", w.Operator(t, "officer"))
	samples = append(samples, Sample{Purpose: "suspended", RequestID: suspended.RequestID, ReferenceID: suspended.ReferenceID})

	var result struct {
		Pages []struct {
			Name, URL, Heading string
			Problems           []string
		}
	}
	NewBrowser(t, w.TLSRoot).Run(t, "pages.mjs", map[string]any{
		"lang": lang, "portal": w.Portal, "mail": w.Mail, "samples": samples, "pin": w.pin, "screens": screens,
		"origins": []string{w.Portal, w.PortalAuth, w.Status, w.Mail},
		"starts":  map[string]string{"start": w.Portal + "/", "mail": w.Mail + "/", "status": w.Status + "/", "with-certificate": w.PortalAuth + "/"},
	}, &result)
	if len(result.Pages) < 8 {
		t.Errorf("saw %d pages only", len(result.Pages))
	}
	for _, page := range result.Pages {
		t.Logf("%-24s %s  %q", page.Name, page.URL, page.Heading)
		for _, p := range page.Problems {
			t.Errorf("%s: %s", page.Name, p)
		}
	}
}

// TestScreens writes every page as a picture into the directory INKAN_SCREENS
// (make screens), for people to look at.
func TestScreens(t *testing.T) {
	screens := os.Getenv("INKAN_SCREENS")
	if screens == "" {
		t.Skip("make screens sets INKAN_SCREENS")
	}
	err := os.MkdirAll(screens, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Demo: Start(t), pin: newPIN(t)}
	for _, lang := range []string{"ja", "en"} {
		walk(t, w, lang, screens)
	}
}
