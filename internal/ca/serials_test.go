package ca

import (
	"math/big"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/issuance"
	"inkan/internal/store"
)

// A set of serial numbers says what a plain map says, however it came to be: packed at
// once, added later, packed again; and numbers that are close to each other, or short,
// are told apart.
func TestSerialsAreAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(20, 159))
	draw := func() serial {
		var s serial
		switch random.IntN(8) {
		case 0: // short, and few: drawn again and again
			s[19] = byte(random.IntN(20))
		case 1: // foreign: negative, were it ours
			s[0] = 0xff
			s[19] = byte(random.IntN(20))
		default:
			issuance.NewSerial().FillBytes(s[:])
			for i := range 8 { // few beginnings
				s[i] &= 0x41
			}
		}
		return s
	}
	for _, size := range []int{0, 1, 2, 7, 8, 9, 100, 2000} {
		plain := map[serial]bool{}
		var lists [][]serial
		for len(plain) < size {
			var list []serial
			for range random.IntN(300) {
				s := draw()
				if !plain[s] && len(plain) < size {
					plain[s] = true
					list = append(list, s)
				}
			}
			lists = append(lists, list)
		}
		set := packSerials(lists...)
		for round := range 6 {
			if set.count() != len(plain) {
				t.Errorf("%d of %d, round %d", set.count(), len(plain), round)
			}
			for s := range plain {
				if !set.has(s) {
					t.Fatalf("%x is not there, of %d, round %d", s, len(plain), round)
				}
				s[random.IntN(20)] ^= 1 << random.IntN(8)
				if set.has(s) != plain[s] {
					t.Fatalf("%x is there: %t, of %d, round %d", s, !plain[s], len(plain), round)
				}
			}
			for range random.IntN(2 * (size + 1)) {
				s := draw()
				plain[s] = true
				set.add(s)
			}
			if round%2 == 1 {
				set = set.repacked()
				if len(set.late) != 0 {
					t.Errorf("%d are loose after packing", len(set.late))
				}
			}
		}
	}
}

// A view packs what came while it is asked: no certificate is unknown for a moment.
func TestPackingWhileAsked(t *testing.T) {
	v := NewView(nil, []string{"g1"}, time.Now, nil)
	number := func(n int) *big.Int { return new(big.Int).Lsh(big.NewInt(int64(n)+1), 143) }
	var added atomic.Int64
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for n := 0; ; n = (n*31 + 7) % max(1, int(added.Load())) {
				select {
				case <-done:
					return
				default:
				}
				row, ok := v.Status("g1", number(n))
				if int64(n) < added.Load() && (!ok || !row.Revoked.IsZero()) {
					t.Errorf("%d is known: %t, revoked %s", n, ok, row.Revoked)
					return
				}
			}
		})
	}
	packed := 0
	for n := 0; n < 1<<15; n += 1 << 10 {
		v.mu.Lock()
		for i := range 1 << 10 {
			err := v.put(v.known, store.StatusRow{Issuer: "g1", Serial: number(n + i).Text(16)})
			if err != nil {
				t.Error(err)
			}
		}
		v.mu.Unlock()
		added.Store(int64(n + 1<<10))
		v.pack()
		if len(v.known.issued[0].late) == 0 {
			packed++
		}
	}
	close(done)
	asking.Wait()
	if issued, _ := v.Counts(); issued != 1<<15 || packed == 0 {
		t.Errorf("%d issued, packed %d times", issued, packed)
	}
}
