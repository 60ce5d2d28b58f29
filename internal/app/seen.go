package app

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store/audit"
)

// seenFile keeps the last checkpoint with which this node compared the audit tree: the
// signer's verifier key on the first line, then the signed note. While the signer is away
// it stands for what the signer remembers.
const seenFile = "audit.seen"

// headTime is how long the first write of a process waits for the signer: a revocation
// must not wait for one that hangs.
const headTime = 300 * time.Millisecond

// head gives what is known of the audit tree from outside of the database: what the
// signer remembers; what this node saw last, where that is newer or the signer is away.
func (i *instance) head(ctx context.Context) (audit.Head, error) {
	seen, err := readSeen(inside(i.dir, seenFile))
	if err != nil {
		return audit.Head{}, err
	}
	short, cancel := context.WithTimeout(ctx, headTime)
	defer cancel()
	info, err := i.signer.Info(short)
	if pki.ClassOf(err) == pki.Busy || short.Err() != nil {
		return seen, ctx.Err()
	}
	if err != nil {
		return audit.Head{}, err
	}
	head := ops.Head(info)
	if seen.Number > head.Number && seen.VerifierKey == head.VerifierKey {
		head.Checkpoint = seen.Checkpoint
	}
	return head, nil
}

// maxSeen bounds the file.
const maxSeen = 16 << 10

// readSeen reads what was seen; nothing where there is no file. audit.seen: somebody
// changed it.
func readSeen(path string) (audit.Head, error) {
	damaged := pki.E(pki.Conflict, "audit.seen").With("File", path)
	raw, err := readLimited(path, maxSeen)
	if errors.Is(err, fs.ErrNotExist) {
		return audit.Head{}, nil
	}
	if err != nil {
		return audit.Head{}, damaged.Because(err)
	}
	key, text, _ := strings.Cut(string(raw), "\n")
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return audit.Head{}, damaged.Because(err)
	}
	n, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return audit.Head{}, damaged.Because(err)
	}
	c, err := pki.ParseCheckpoint(n.Text)
	if err != nil {
		return audit.Head{}, damaged.Because(err)
	}
	return audit.Head{Checkpoint: c, VerifierKey: key}, nil
}

// saw writes what was seen, if it is another than before.
func (i *instance) saw(head audit.Head, signed []byte) {
	if i.lastSeen.Swap(head.Number) == head.Number {
		return
	}
	err := putInPlace(inside(i.dir, seenFile), append([]byte(head.VerifierKey+"\n"), signed...))
	if err != nil {
		i.lastSeen.Store(0)
		i.log.Error("the last checkpoint is not kept", "file", seenFile, "err", err)
	}
}
