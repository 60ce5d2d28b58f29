package kill

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"inkan/internal/ra"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// Serve and its signer are killed at random moments, each alone and both, while
// clients go on as clients do. KILL_FOR says for how long, KILL_SEED with which luck.
func TestRandomKills(t *testing.T) {
	testkit.Long(t, "starts the whole program")
	span, seed := time.Minute, rand.Uint64()
	var err error
	if s := os.Getenv("KILL_FOR"); s != "" {
		span, err = time.ParseDuration(s)
		must(t, err)
	}
	if s := os.Getenv("KILL_SEED"); s != "" {
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	t.Logf("KILL_FOR=%v KILL_SEED=%d", span, seed)
	for n, engine := range storetest.Engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			p := newPlant(t, engine, true)
			must(t, p.revive())
			s := &storm{plant: p, dice: rand.New(rand.NewPCG(seed, uint64(n)))}
			s.blow(t, span)
			t.Logf("seed %d: killed %d times edge, %d times signer, %d times both; issued %d by the API and %d by letter, applied on the site %d times, revoked %d, decided %d cases, %d answers of OCSP, %d CRLs",
				seed, s.kills[0], s.kills[1], s.kills[2], len(p.orders), len(p.letters), s.applied, len(p.revoked), s.decided, s.answers.Load(), s.lists.Load())
			if len(p.orders) < 10 || len(p.letters) == 0 || s.applied == 0 || len(p.revoked) == 0 || s.decided == 0 || s.answers.Load() == 0 || s.lists.Load() == 0 {
				t.Error("hardly anything happened: this proves nothing")
			}
			must(t, p.check())
			must(t, p.checkPromises())
			for _, l := range p.letters {
				if _, revoked := p.revoked[l.Serial]; !revoked {
					must(t, persist(func() error { return p.download(l) }))
					break
				}
			}
			p.stop()
			must(t, p.checkFiles())
		})
	}
}

// storm is what goes on at once.
type storm struct {
	*plant
	dice           *rand.Rand // of the killer alone
	kills          [3]int
	applied        int // of the applicant alone
	holds, decided int // of the claimant alone
	over           atomic.Bool
	answers, lists atomic.Int64
}

func (s *storm) blow(t *testing.T, span time.Duration) {
	var clients sync.WaitGroup
	for name, do := range map[string]func() error{"API 1": s.order, "API 2": s.order, "counter 1": s.letter, "counter 2": s.letter, "applicant": s.apply, "claimant": s.claim, "officer": s.condemn, "reader": s.read} {
		clients.Go(func() {
			for !s.over.Load() && !t.Failed() {
				err := do()
				if err != nil {
					s.note("client %s: %v", name, err)
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	for end := time.Now().Add(span); time.Now().Before(end) && !t.Failed(); {
		time.Sleep(time.Duration(s.dice.IntN(int(2500 * time.Millisecond))))
		err := s.strike(s.dice.IntN(3))
		if err != nil {
			t.Error(err)
		}
	}
	s.over.Store(true)
	clients.Wait()
}

// strike kills the edge, the signer or both. The signer comes back by itself; the edge
// is started as a service manager would.
func (s *storm) strike(whom int) error {
	s.kills[whom]++
	switch whom {
	case 0:
		s.note("kill: edge")
		s.serve.kill()
	case 1:
		pid, err := s.childOf(s.serve.cmd.Process.Pid)
		s.note("kill: signer %d", pid)
		if err != nil || pid == 0 { // it is just being started again
			return err
		}
		return s.reap(syscall.Kill(pid, syscall.SIGKILL))
	case 2:
		s.note("kill: both")
		err := s.reap(syscall.Kill(-s.serve.group, syscall.SIGKILL))
		if err != nil {
			return err
		}
		<-s.serve.done
	}
	return s.revive()
}

// reap takes it that who is to be killed has died meanwhile.
func (s *storm) reap(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// childOf finds the process whose parent is another; 0 if there is none.
func (s *storm) childOf(parent int) (int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // gone
		}
		_, after, _ := bytes.Cut(raw, []byte(") ")) // the name may hold anything
		fields := strings.Fields(string(after))
		if len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(parent) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, err
}

// order is a vendor's program.
func (s *storm) order() error {
	o, err := newOrder()
	if err != nil {
		return err
	}
	return persist(func() error { return s.post(o) })
}

// letter is the counter, the approver, the post office and the holder.
func (s *storm) letter() error {
	l, err := s.newLetter()
	if err != nil {
		return err
	}
	return persist(func() error { return s.download(l) })
}

// apply is an applicant at the site: the mailed link makes the request, that of the
// receipt withdraws it.
func (s *storm) apply() error {
	err := s.play("apply")
	if err != nil {
		return err
	}
	s.applied++
	return s.play("withdraw")
}

// claim is a holder who asks for revocations with a letter, and the officers who decide.
// A report of a leak holds at once only so often in an hour (threat RV1).
func (s *storm) claim() error {
	for _, step := range []string{"reject", "lift", "final"} {
		_, found, err := s.reportable()
		if err != nil {
			return err
		}
		if !found { // the counters make them
			time.Sleep(50 * time.Millisecond)
			return nil
		}
		if step != "reject" {
			if s.holds == ra.LetterHolds {
				continue
			}
			s.holds++
		}
		err = s.play(step)
		if err != nil {
			return err
		}
		s.decided++
	}
	return nil
}

// play does a step of the crash matrix with no point armed: death comes when it likes.
func (s *storm) play(step string) error {
	a, err := steps[step](s.plant)
	if err != nil {
		return fmt.Errorf("before %s: %w", step, err)
	}
	s.note("attempt %s: %v", step, a.attempt())
	err = a.finish()
	if err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// condemn revokes a certificate that somebody has.
func (s *storm) condemn() error {
	serial := s.some(false)
	if serial == "" {
		time.Sleep(50 * time.Millisecond)
		return nil
	}
	err := persist(func() error { return s.revoke(serial) })
	if err != nil {
		return err
	}
	err = persist(func() error { return s.everywhere(serial) })
	if err != nil {
		return fmt.Errorf("after the revocation: %w", err)
	}
	return nil
}

// some gives a certificate of an order that is revoked or not; "" if there is none.
func (s *storm) some(revoked bool) string {
	s.Lock()
	defer s.Unlock()
	for _, o := range s.orders { // none of them is as good as another
		_, is := s.revoked[o.serial]
		if is == revoked {
			return o.serial
		}
	}
	return ""
}

// read is a relying system: it asks about what is good and what is revoked, and
// fetches the list.
func (s *storm) read() error {
	for _, serial := range []string{s.some(true), s.some(false)} {
		if serial == "" {
			continue
		}
		err := persist(func() error {
			_, err := s.status(serial)
			return err
		})
		if err != nil {
			return err
		}
		s.answers.Add(1)
	}
	err := persist(func() error {
		_, err := s.crl()
		return err
	})
	s.lists.Add(1)
	time.Sleep(20 * time.Millisecond)
	return err
}
