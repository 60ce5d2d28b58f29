package e2e

import (
	"crypto/rand"
	"fmt"
	"math/big"
	"testing"

	"inkan/internal/testkit"
)

// TestInkan is one day of a running demo, told in stories that share it: starting
// one takes keys and time. The stories act on requests of their own, so that each
// can also be run alone (go test ./e2e -run TestInkan/revocation). The last ones
// look at what all of them left behind.
func TestInkan(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	d := Start(t)
	w := &world{Demo: d, pin: newPIN(t)}
	w.secret("PIN", w.pin)
	for _, s := range []struct {
		name string
		tell func(*testing.T, *world)
	}{
		{"what demo.json promises", demoFile},
		{"four eyes", fourEyes},
		{"main job", mainJob},
		{"file for old Windows", oldWindows},
		{"one answer before both IDs are right", oneAnswer},
		{"without JavaScript", withoutJavaScript},
		{"impatient people", impatientPeople},
		{"ten tabs", tenTabs},
		{"what a browser presents", checked},
		{"renewal", renewal},
		{"application", applies},
		{"pages", everyPage},
		{"tabs with certificates", renewalTabs},
		{"root of the site", siteRoot},
		{"program for terminals", clientProgram},
		{"API", apiIssues},
		{"revocation", revocation},
		{"revocation by its holder", revocationByHolder},
		{"command line", commandLine},
		{"nothing secret while running", nothingOnCommandLines},
	} {
		t.Run(s.name, func(t *testing.T) { s.tell(t, w) })
	}
	d.Stop(t)
	t.Run("nothing secret left behind", func(t *testing.T) { nothingInFiles(t, w) })
}

// world is what the stories share.
type world struct {
	*Demo
	pin     string
	secrets []secret
}

// secret is a canary: a value that was given to the program and may be in no log
// and no file.
type secret struct{ what, value string }

func (w *world) secret(what, value string) {
	w.secrets = append(w.secrets, secret{what, value})
}

// issue makes a request whose letter may be used, and remembers its secret.
func (w *world) issue(t *testing.T, terminal string) Request {
	t.Helper()
	r := w.Issue(t, terminal)
	w.secret("reference ID of "+r.RequestID, r.ReferenceID)
	return r
}

// newPIN draws a PIN that no port, year or count is likely to be.
func newPIN(t *testing.T) string {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(3000))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(6001 + n.Int64())
}
