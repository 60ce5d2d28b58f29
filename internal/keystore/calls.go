package keystore

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// SignIntents signs a batch of linted certificates whose intents are stored. Each
// item has a result of its own; an error means that nothing is known of any, and
// that the call may be repeated. A single one travels with others that wait.
func (c *Client) SignIntents(ctx context.Context, requests []SignRequest) ([]SignResult, error) {
	if len(requests) != 1 {
		return c.signIntents(ctx, requests)
	}
	result, err := c.group.sign(ctx, requests[0])
	if err != nil {
		return nil, err
	}
	return []SignResult{result}, nil
}

func (c *Client) signIntents(ctx context.Context, requests []SignRequest) ([]SignResult, error) {
	var out []SignResult
	for part := range frames(requests, func(r SignRequest) int { return len(r.TBS) + len(r.AuditLeaf) }) {
		var a signIntentsAnswer
		err := c.call(ctx, verbSignIntents, &signIntentsCall{part}, &a)
		if err != nil {
			return nil, err
		}
		if len(a.results) != len(part) {
			return nil, errAway.Because(errForm)
		}
		out = append(out, a.results...)
	}
	return out, nil
}

// SignCRL signs the TBS of a CRL; its number must be above every one before.
func (c *Client) SignCRL(ctx context.Context, issuer string, tbs []byte) ([]byte, error) {
	var a bytesMessage
	err := c.call(ctx, verbSignCRL, &signCRLCall{issuer, tbs}, &a)
	return a.bytes, err
}

// SealPool seals fresh keys into the pool.
func (c *Client) SealPool(ctx context.Context, keys []PoolKey) ([][]byte, error) {
	var out [][]byte
	for part := range frames(keys, func(k PoolKey) int { return 2*len(k.PKCS8) + headerSize }) {
		var a sealPoolAnswer
		err := c.call(ctx, verbSealPool, &sealPoolCall{part}, &a)
		if err != nil {
			return nil, err
		}
		if len(a.blobs) != len(part) {
			return nil, errAway.Because(errForm)
		}
		out = append(out, a.blobs...)
	}
	return out, nil
}

// Hold takes a key from the pool for a request.
func (c *Client) Hold(ctx context.Context, r HoldRequest) (Held, error) {
	var a Held
	err := c.call(ctx, verbHold, &r, &a)
	return a, err
}

// OpenHeld gives the PKCS#8 key of a request. The caller wipes it after use.
func (c *Client) OpenHeld(ctx context.Context, r OpenRequest) ([]byte, error) {
	var a bytesMessage
	err := c.call(ctx, verbOpenHeld, &r, &a)
	return a.bytes, err
}

// Rewrap seals a held key anew under the present month, for an extension.
func (c *Client) Rewrap(ctx context.Context, r RewrapRequest) (Held, error) {
	var a Held
	err := c.call(ctx, verbRewrap, &r, &a)
	return a, err
}

// NewVerifier makes what the database keeps of a reference ID.
func (c *Client) NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (Verifier, error) {
	var a Verifier
	err := c.call(ctx, verbNewVerifier, &referenceCall{requestID: requestID, reference: ref}, &a)
	return a, err
}

// CheckReference says whether ref is the reference ID of the request.
func (c *Client) CheckReference(ctx context.Context, requestID string, ref pki.Secret, v Verifier) (bool, error) {
	if ref == "" || len(ref) > maxName || len(requestID) > maxName {
		return false, nil // typed by anybody: wrong, not malformed
	}
	var a boolMessage
	err := c.call(ctx, verbCheckReference, &referenceCall{requestID: requestID, reference: ref, verifier: v}, &a)
	return a.yes, err
}

// SealReference keeps a reference ID until its letter is printed.
func (c *Client) SealReference(ctx context.Context, requestID string, ref pki.Secret) ([]byte, error) {
	var a bytesMessage
	err := c.call(ctx, verbSealReference, &referenceCall{requestID: requestID, reference: ref}, &a)
	return a.bytes, err
}

// OpenReference gives it back.
func (c *Client) OpenReference(ctx context.Context, requestID string, blob []byte) (pki.Secret, error) {
	var a secretMessage
	err := c.call(ctx, verbOpenReference, &referenceCall{requestID: requestID, blob: blob}, &a)
	return a.secret, err
}

// SignCheckpoint signs the head of the audit tree as a note of x/mod. after is the number
// of the newest checkpoint that the caller knows the signer to have signed, proof is the
// RFC 6962 consistency proof from that one to next; nil where after is 0. The newest
// itself may be signed again. Refusals: signer.tree_moved (class Busy: another checkpoint
// is the newest), signer.tree_smaller, signer.tree_forked.
func (c *Client) SignCheckpoint(ctx context.Context, after int64, next pki.Checkpoint, proof tlog.TreeProof) ([]byte, error) {
	var a bytesMessage
	err := c.call(ctx, verbSignCheckpoint, &checkpointCall{after, next, proof}, &a)
	return a.bytes, err
}

// AcceptLoss makes the signer follow another tree than the one that it remembers. by are
// the signatures of two administrators. The same loss may be accepted again. Refusals:
// signer.tree_moved, signer.loss.
func (c *Client) AcceptLoss(ctx context.Context, l pki.Loss, by []pki.LossSignature) error {
	return c.call(ctx, verbAcceptLoss, &lossCall{l, by}, &emptyMessage{})
}

// DestroyEpochs destroys the epoch keys strictly before a month and names them.
func (c *Client) DestroyEpochs(ctx context.Context, before string) ([]string, error) {
	var a textsMessage
	err := c.call(ctx, verbDestroyEpochs, &textMessage{before}, &a)
	return a.texts, err
}

// Info tells about the signer, or that it does not answer: within two seconds.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var a Info
	err := c.look(ctx, &a)
	return a, err
}

// frames cuts a list into parts that fit a frame.
func frames[T any](items []T, size func(T) int) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		from, bytes := 0, 0
		for i, item := range items {
			n := size(item) + 2*maxName + itemOverhead
			if i > from && (bytes+n > batchBytes || i-from >= maxBatch) {
				if !yield(items[from:i]) {
					return
				}
				from, bytes = i, 0
			}
			bytes += n
		}
		if from < len(items) {
			yield(items[from:])
		}
	}
}
