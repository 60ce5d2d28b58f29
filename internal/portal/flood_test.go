package portal

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// TestThreatDL2Flood: 100,000 wrong answers on one request, as fast as 50 sources can send
// them, and the owner at a 51st is let in at once, though slowed.
func TestThreatDL2Flood(t *testing.T) {
	const request = "202611230000123"
	now := time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)
	g := newGuard(nil, func() time.Time { return now }, testkit.Quiet)
	answered, refused := 0, 0
	for n := range 100_000 {
		now = now.Add(2 * time.Millisecond)
		leave, err := g.enter(netip.MustParseAddr(fmt.Sprintf("203.0.113.%d", n%50)), request)
		if err != nil {
			refused++
			continue
		}
		answered++
		leave(true)
	}
	if answered > 50*(pairTries+8) || answered+refused != 100_000 { // ten at once, and one each 30 s
		t.Errorf("%d guesses were answered", answered)
	}
	leave, err := g.enter(netip.MustParseAddr("198.51.100.1"), request)
	if err != nil {
		t.Fatalf("the owner is locked out: %v", err)
	}
	leave(false)
	for n := range attackWrong + 1 { // of ever new sources
		now = now.Add(time.Second)
		leave, err := g.enter(netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", n/250, n%250)), request)
		if err != nil {
			t.Fatal(err)
		}
		leave(true)
	}
	if !g.attacked(request) || g.attacked("202611230000124") {
		t.Error("the request under attack is not known as such, or another is")
	}
	for range 100 {
		leave, err := g.enter(netip.MustParseAddr("198.51.100.1"), request)
		if err != nil {
			t.Fatalf("the owner is locked out: %v", err)
		}
		leave(false)
	}
}

// TestThreatDL1Work: 10,000 wrong IDs from one source reach the office 60 times; the others
// find every budget as if nothing had been, and the memory of it all is bounded.
func TestThreatDL1Work(t *testing.T) {
	now := time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)
	g := newGuard(nil, func() time.Time { return now }, testkit.Quiet)
	answered := 0
	for n := range 10_000 {
		leave, err := g.enter(netip.MustParseAddr("203.0.113.1"), fmt.Sprintf("20261123%07d", n))
		if err == nil {
			answered++
			leave(true)
		} else if pki.CodeOf(err) != "pickup.slow" {
			t.Fatal(err)
		}
	}
	if answered != sourceTries {
		t.Errorf("%d of 10,000 guesses were answered", answered)
	}
	for n := range pairTries { // the first of the guessed requests, by another source
		leave, err := g.enter(netip.MustParseAddr("203.0.113.2"), "202611230000000")
		if err != nil {
			t.Fatalf("try %d of another source: %v", n, err)
		}
		leave(true)
	}
	if g.pairs.Len() > sourceTries+1 || g.sources.Len() != 2 || len(g.watched) > sourceTries {
		t.Errorf("remembers %d pairs, %d sources, %d requests", g.pairs.Len(), g.sources.Len(), len(g.watched))
	}
}

// TestThreatDL1AllTogether: more than 200 wrong answers a second of ever new sources are
// more than the office is asked; a second later it goes on.
func TestThreatDL1AllTogether(t *testing.T) {
	now := time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)
	g := newGuard(nil, func() time.Time { return now }, testkit.Quiet)
	answered := 0
	for n := range 1_000 {
		leave, err := g.enter(netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", n/250, n%250)), fmt.Sprintf("20261123%07d", n))
		if err == nil {
			answered++
			leave(true)
		}
	}
	if answered != allTries {
		t.Errorf("%d were answered at once", answered)
	}
	now = now.Add(time.Second)
	leave, err := g.enter(netip.MustParseAddr("198.51.100.1"), "202611230000123")
	if err != nil {
		t.Fatal(err)
	}
	leave(false)
}
