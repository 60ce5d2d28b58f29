package portal_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/portal"
	"inkan/internal/ra"
)

func TestPreview(t *testing.T) {
	if os.Getenv("PREVIEW") == "" {
		t.Skip()
	}
	var h http.Handler
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	server.StartTLS()
	s := open(t, func(c *portal.Config) {
		c.Hosts = []string{server.Listener.Addr().String()}
		c.Demo = true
		c.Now = time.Now
		c.Authorities = []portal.Authority{{"Online Billing NW Common Root CA - G1", "http://127.0.0.1:8080/ca/root.cer"}, {"Inkan Issuing CA", "http://127.0.0.1:8080/ca/g1.cer"}}
	})
	s.pickups.prepare = func(in ra.PickupInput) (pki.Secret, error) {
		s.pickups.cookie, s.pickups.left = in.CookieHash, 3
		m := map[string]string{"0000": "pickup.pin_form", "1111": "pickup.wrong_ids", "2222": "pickup.deadline", "3333": "pickup.not_dispatched", "4444": "pickup.slow", "5555": "pickup.csr"}
		if c := m[in.PIN.Reveal()]; c != "" {
			cl := pki.Gone
			if c == "pickup.wrong_ids" {
				cl = pki.NotFound
			}
			return "", pki.E(cl, c).With("Deadline", time.Now()).With("Until", time.Now().Add(25*time.Second))
		}
		return goodTicket, nil
	}
	h = s.h
	os.WriteFile("/tmp/preview.url", []byte(server.URL), 0o644)
	fmt.Println(server.URL)
	time.Sleep(20 * time.Minute)
}
