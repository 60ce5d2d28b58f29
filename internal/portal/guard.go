package portal

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"inkan/internal/pki"
	"inkan/internal/webkit"
)

// The budgets of wrong answers (threats DL1, DL2). Secrecy comes from the 58 bits of a
// reference ID; budgets protect capacity and make an attack visible. None of them locks
// a request: request IDs can be counted up, so a lock would be a weapon.
const (
	pairTries, pairEvery     = 10, 30 * time.Second // per source and request ID
	sourceTries, sourceEvery = 60, time.Second      // per source
	sharedTries, sharedEvery = 600, 100 * time.Millisecond
	allTries, allEvery       = 200, 5 * time.Millisecond // everybody together

	maxSources = 50_000
	maxPairs   = 200_000

	// attackWrong wrong answers on one request within attackWindow raise the alarm and
	// slow right answers on it to attackDelay.
	attackWrong  = 1_000
	attackWindow = 24 * time.Hour
	attackDelay  = 2 * time.Second
	maxWatched   = 50_000
)

type pair struct {
	source  netip.Addr
	request string
}

type guard struct {
	pairs   *webkit.Budget[pair]
	sources *webkit.Budget[netip.Addr]
	shared  *webkit.Budget[netip.Addr]
	all     *webkit.Budget[struct{}]
	nets    []netip.Prefix
	now     func() time.Time
	log     *slog.Logger

	mu      sync.Mutex
	watched map[string]watch
}

// watch counts wrong answers on one request ID, whether it exists or not.
type watch struct {
	since time.Time
	wrong int
}

func newGuard(nets []netip.Prefix, now func() time.Time, log *slog.Logger) *guard {
	return &guard{
		pairs:   webkit.NewBudget[pair](pairTries, pairEvery, maxPairs, now),
		sources: webkit.NewBudget[netip.Addr](sourceTries, sourceEvery, maxSources, now),
		shared:  webkit.NewBudget[netip.Addr](sharedTries, sharedEvery, maxSources, now),
		all:     webkit.NewBudget[struct{}](allTries, allEvery, 1, now),
		nets:    nets, now: now, log: log, watched: map[string]watch{},
	}
}

// enter takes one try from every budget before the answer is known, so that a hundred
// guesses at once cannot pass on one try. leave gives them back unless the answer was
// wrong. The error is pickup.slow.
func (g *guard) enter(source netip.Addr, request string) (leave func(wrong bool), err error) {
	perSource := g.sources
	source, shared := webkit.SourceNetwork(source, g.nets)
	if shared {
		perSource = g.shared
	}
	taken := []func(){}
	back := func() {
		for _, giveBack := range taken {
			giveBack()
		}
	}
	key := pair{source, request}
	steps := []struct {
		take func() (time.Time, bool)
		back func()
	}{
		{func() (time.Time, bool) { return g.pairs.Take(key) }, func() { g.pairs.Back(key) }},
		{func() (time.Time, bool) { return perSource.Take(source) }, func() { perSource.Back(source) }},
		{func() (time.Time, bool) { return g.all.Take(struct{}{}) }, func() { g.all.Back(struct{}{}) }},
	}
	for _, s := range steps {
		until, ok := s.take()
		if !ok {
			back()
			return nil, pki.E(pki.Limited, "pickup.slow").With("Until", until)
		}
		taken = append(taken, s.back)
	}
	return func(wrong bool) {
		if wrong {
			g.count(request)
			return
		}
		back()
	}, nil
}

func (g *guard) count(request string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	w := g.watched[request]
	if now.Sub(w.since) > attackWindow {
		w = watch{since: now}
	}
	w.wrong++
	_, known := g.watched[request]
	if !known && len(g.watched) >= maxWatched {
		for id := range g.watched { // an arbitrary one; see webkit.Budget
			delete(g.watched, id)
			break
		}
	}
	g.watched[request] = w
	if w.wrong == attackWrong+1 {
		g.log.Warn("alarm: many wrong reference IDs on one request", "request", request, "wrong", w.wrong)
	}
}

// attacked says whether a right answer on the request has to take its time.
func (g *guard) attacked(request string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.watched[request]
	return w.wrong > attackWrong && g.now().Sub(w.since) <= attackWindow
}
