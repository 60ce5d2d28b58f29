package app

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"inkan/internal/pki"
)

// How often each job runs. Work that must happen once is made safe by conditional
// updates, not by electing a node.
const (
	crlCheck        = time.Second
	recoverEvery    = 10 * time.Second
	recoverGrace    = 15 * time.Second
	poolCheck       = 5 * time.Second
	checkpointEvery = 10 * time.Second
	sweepEvery      = 10 * time.Minute
	ownEvery        = time.Hour
	mailEvery       = 2 * time.Second
	signerEvery     = 500 * time.Millisecond // with the look itself, people are told within two seconds
	downloadsEvery  = 5 * time.Second
	revocationEvery = 10 * time.Second
)

// retryAfter is the longest pause after a failure: what failed because the signer or
// the database was away for a moment does not wait for its next turn in an hour.
const retryAfter = 2 * time.Second

// startJobs starts the background work of this node; running waits for it.
func (s *server) startJobs(ctx context.Context, running *sync.WaitGroup) {
	running.Go(func() { s.view.Run(ctx) })
	running.Go(func() {
		debug.FreeOSMemory() // reading status left as much again as is known
		keepHeadroom(ctx, edgeHeadroom)
	})
	s.every(ctx, running, "signer", signerEvery, s.lookAtSigner)
	s.every(ctx, running, "crl", crlCheck, s.renewCRLs)
	// What is open at the start was left by a crash. Should another node be at it, both
	// sign the same bytes.
	grace := time.Duration(0)
	s.every(ctx, running, "issue", recoverEvery, func(ctx context.Context) error {
		err := s.ca.Recover(ctx, grace)
		grace = recoverGrace
		return err
	})
	s.every(ctx, running, "pool", poolCheck, s.ca.FillPool)
	s.every(ctx, running, "checkpoint", checkpointEvery, s.signTree)
	s.every(ctx, running, "sweep", sweepEvery, func(ctx context.Context) error {
		_, err := s.ca.Sweep(ctx)
		return errors.Join(err, s.db.Shred(ctx))
	})
	s.every(ctx, running, "revocation", revocationEvery, s.lookAtRevocations)
	s.every(ctx, running, "certificates", ownEvery, s.renewOwn)
	s.every(ctx, running, "downloads", downloadsEvery, func(context.Context) error { return s.shelf.Look() })
	if s.mailer != nil {
		s.every(ctx, running, "mail", mailEvery, s.sendMails)
	}
}

// every runs a job at once, then after each pause, and keeps what is
// wrong with it for the health page. A job that fails is tried again soon.
func (s *server) every(ctx context.Context, running *sync.WaitGroup, name string, pause time.Duration, do func(context.Context) error) {
	running.Go(func() {
		for {
			err := do(ctx)
			if ctx.Err() != nil {
				return
			}
			s.note(name, err)
			rest := pause
			if err != nil {
				rest = min(pause, retryAfter)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(rest):
			}
		}
	})
}

func (s *server) note(name string, err error) {
	if err != nil {
		s.metrics.jobs.WithLabelValues(name).Inc()
	}
	turned := s.health.set(name, err != nil)
	switch {
	case turned && err != nil:
		s.log.Error("job failed", "job", name, "err", err)
	case turned:
		s.log.Info("job works again", "job", name)
	}
}

// sendMails sends what is due. Mails that the relay did not take are no failure of the
// job, but people are told.
func (s *server) sendMails(ctx context.Context) error {
	_, err := s.mailer.Drain(ctx)
	if err != nil {
		return err
	}
	delayed, err := s.mailer.Delayed(ctx)
	if err != nil {
		return err
	}
	if s.health.set(partRelay, delayed > 0) {
		s.log.Info("mail relay", "delayed", delayed)
	}
	return nil
}

// signTree has the audit tree signed. That it contradicts what the signer remembers is told
// apart from a signer that is away: nothing is written from then on.
func (s *server) signTree(ctx context.Context) error {
	err := s.ops.Checkpoint(ctx)
	contradicts := pki.CodeOf(err) == "audit.contradicts"
	if err != nil && !contradicts {
		return err // says nothing about the tree: what was told of it stays told
	}
	if s.health.set(partEvidence, contradicts) && contradicts {
		s.log.ErrorContext(ctx, "alarm: the audit records are not those that were signed; nothing is written", "err", err)
	}
	return err
}

// lookAtSigner makes sure that the signer answers, and remembers what it refused and
// whether it hangs.
func (s *server) lookAtSigner(ctx context.Context) error {
	info, err := s.signer.Info(ctx)
	s.signerSilent.Store(silent(err))
	if err != nil {
		return err
	}
	s.signerRefusals.Store(info.Refused)
	return nil
}

// revocationWaits is how long a case of revocation may wait for an officer before people
// are told: long before it is decided by silence (threat RV3).
const revocationWaits = 2 * time.Hour

// lookAtRevocations ends the cases that nobody decided and tells of those that wait, and
// of administrators who were made with the root key.
func (s *server) lookAtRevocations(ctx context.Context) error {
	queue, err := s.ra.FinishRevocations(ctx)
	for part, fails := range map[string]bool{
		partUndecided: !queue.Oldest.IsZero() && s.clock.Now().Sub(queue.Oldest) > revocationWaits,
		partUnheld:    queue.Unheld > 0,
	} {
		if s.health.set(part, fails) && fails {
			s.log.Error("alarm: revocations wait for an officer", "part", part, "open", queue.Open, "oldest", queue.Oldest)
		}
	}
	return errors.Join(err, s.ops.TellRecoveries(ctx))
}
