package keystore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"inkan/internal/pki"
)

// Who waits while calls are under way travels together, and each gets its own answer;
// one that the signer cannot read does no harm to its neighbours.
func TestSigningsTravelTogether(t *testing.T) {
	gate := make(chan struct{})
	var taken atomic.Int64
	var mu sync.Mutex
	var sizes []int
	g := group{call: func(requests []SignRequest) ([]SignResult, error) {
		taken.Add(int64(len(requests)))
		<-gate
		mu.Lock()
		sizes = append(sizes, len(requests))
		mu.Unlock()
		var results []SignResult
		for _, r := range requests {
			if r.Profile == "odd" {
				return nil, errMalformed
			}
			results = append(results, SignResult{Signature: []byte(r.Issuer)})
		}
		return results, nil
	}}
	const n = 100
	var group sync.WaitGroup
	ask := func(i int) {
		group.Go(func() {
			r := SignRequest{Issuer: fmt.Sprint(i)}
			if i == 50 {
				r.Profile = "odd"
			}
			got, err := g.sign(t.Context(), r)
			switch {
			case i == 50 && pki.CodeOf(err) != errMalformed.Code:
				t.Errorf("the odd one: %v", err)
			case i != 50 && (err != nil || string(got.Signature) != r.Issuer):
				t.Errorf("%d: %s, %v", i, got.Signature, err)
			}
		})
	}
	for i := range n {
		ask(i)
	}
	for asked := 0; asked < n; runtime.Gosched() {
		g.mu.Lock()
		asked = len(g.waiting) + int(taken.Load())
		g.mu.Unlock()
	}
	close(gate)
	group.Wait()
	if len(sizes) > maxFlights+n/maxGroup+1+maxGroup { // the odd one's neighbours went alone
		t.Errorf("%d calls: %v", len(sizes), sizes)
	}
	for _, size := range sizes {
		if size > maxGroup {
			t.Errorf("%d in one call", size)
		}
	}
}

func TestSigningThatIsLeft(t *testing.T) {
	gate := make(chan struct{})
	g := group{call: func([]SignRequest) ([]SignResult, error) { <-gate; return nil, errAway }}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := g.sign(ctx, SignRequest{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("left with %v", err)
	}
	close(gate)
	_, err = g.sign(t.Context(), SignRequest{})
	if pki.CodeOf(err) != errAway.Code {
		t.Errorf("away: %v", err)
	}
}
