package app

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/internal/i18n"
	"inkan/internal/issuance"
	"inkan/internal/webkit"
)

// health remembers since when each part of this node fails.
type health struct {
	mu    sync.Mutex
	since map[string]time.Time // by part: a job, or one of those below
}

// Parts that are no jobs.
const (
	partDraining = "draining"
	partStatus   = "status"
	partRoot     = "root"
	partClock    = "clock"
	partRelay    = "relay"
	partEvidence = "evidence" // the audit tree contradicts what the signer remembers

	partSigner       = "signer"
	partSignerSilent = "signer_silent" // words of partSigner where it is there and hangs

	partUnlisted  = "unlisted"  // revocations wait for a CRL
	partUndecided = "undecided" // a revocation waits for an officer
	partUnheld    = "unheld"    // what was reported compromised still works
)

// stopping are the parts without which this node should get no requests. Of the others
// people are told; the node serves on.
var stopping = []string{partDraining, partStatus, partSigner}

// set notes that a part fails or works, and says whether that is new.
func (h *health) set(part string, fails bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, failed := h.since[part]
	switch {
	case fails && !failed:
		h.since[part] = now()
	case !fails && failed:
		delete(h.since, part)
	}
	return fails != failed
}

// wrong is one thing that is wrong, in words.
type wrong struct {
	Part  string            `json:"part"`
	Stops bool              `json:"stops"` // this node should get no requests
	Since time.Time         `json:"since"`
	What  map[string]string `json:"what"` // by language
	Means map[string]string `json:"means"`
	Do    map[string]string `json:"do"`
}

func newWrong(part string, since time.Time, args map[string]any) wrong {
	return saying(part, part, since, args)
}

// saying is newWrong with other words than those of the part's name.
func saying(part, words string, since time.Time, args map[string]any) wrong {
	w := wrong{Part: part, Stops: slices.Contains(stopping, part), Since: since.UTC().Truncate(time.Second),
		What: map[string]string{}, Means: map[string]string{}, Do: map[string]string{}}
	for _, lang := range i18n.Languages {
		w.What[lang] = i18n.Text(lang, "health."+words+".what", args)
		w.Means[lang] = i18n.Text(lang, "health."+words+".means", args)
		w.Do[lang] = i18n.Text(lang, "health."+words+".do", args)
	}
	return w
}

// horizonHealth is the age of the view's horizon beyond which a node is not ready.
const horizonHealth = 10 * time.Second

// unlistedHealth is how long a revocation may wait for its CRL before people are told.
const unlistedHealth = 5 * time.Second

// rootCRLWarn is how long before its end the root's CRL is told to need a ceremony.
const rootCRLWarn = 60 * 24 * time.Hour

// problems lists what is wrong, the oldest first.
func (s *server) problems() []wrong {
	out := []wrong{}
	s.health.set(partClock, s.clock.Doubt() != nil)
	s.health.mu.Lock()
	for part, since := range s.health.since {
		words := part
		if part == partSigner && s.signerSilent.Load() {
			words = partSignerSilent
		}
		out = append(out, saying(part, words, since, nil))
	}
	s.health.mu.Unlock()
	for _, issuer := range online {
		since := s.view.Unlisted(issuer)
		if !since.IsZero() && s.clock.Now().Sub(since) > unlistedHealth {
			out = append(out, newWrong(partUnlisted, since, map[string]any{"Issuer": issuer}))
		}
	}
	horizon := s.view.Horizon()
	if s.clock.Now().Sub(horizon) > horizonHealth {
		out = append(out, newWrong(partStatus, horizon, nil))
	}
	root, _ := s.view.CRL(issuance.Root)
	warn := root.NextUpdate.Add(-rootCRLWarn)
	if s.clock.Now().After(warn) {
		out = append(out, newWrong(partRoot, warn, map[string]any{"Until": root.NextUpdate}))
	}
	slices.SortFunc(out, func(a, b wrong) int {
		if order := a.Since.Compare(b.Since); order != 0 {
			return order
		}
		return strings.Compare(a.Part, b.Part)
	})
	return out
}

func ready(all []wrong) bool {
	return !slices.ContainsFunc(all, func(w wrong) bool { return w.Stops })
}

// internal answers monitoring on this machine: live, ready, what is wrong in words, and
// metrics. Another Host is refused, so that no page of a browser can ask (threat PL4).
func (s *server) internal() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("live\n")) })
	mux.HandleFunc("GET /ready", s.getReady)
	mux.HandleFunc("GET /health", s.getHealth)
	mux.Handle("GET /metrics", s.metrics.handler())
	return webkit.OneMeaning(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		webkit.Secure(w.Header())
		host := hostOnly(r.Host)
		if host != "localhost" && host != "127.0.0.1" && host != "::1" && host != "[::1]" {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// getReady is for balancers and monitoring: 503 while this node should get no requests.
func (s *server) getReady(w http.ResponseWriter, _ *http.Request) {
	all := s.problems()
	is := ready(all)
	w.Header().Set("Content-Type", "application/json")
	if !is {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"ready": is, "wrong": all})
}

// getHealth says the same to a person, in their language.
func (s *server) getHealth(w http.ResponseWriter, r *http.Request) {
	lang := webkit.Lang(r)
	all := s.problems()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(all) == 0 {
		_, _ = fmt.Fprintln(w, i18n.Text(lang, "health.good", nil))
	}
	for _, p := range all {
		since := i18n.Text(lang, "health.since", map[string]any{"Since": p.Since})
		_, _ = fmt.Fprintf(w, "%s (%s)\n  %s\n  %s\n", p.What[lang], since, p.Means[lang], p.Do[lang])
	}
}
