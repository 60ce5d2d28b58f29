package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/pki"
)

// Service is what a signer does. *Client has the same methods, so whoever needs a
// signer cannot tell the two apart.
type Service interface {
	SignIntents(ctx context.Context, requests []SignRequest) ([]SignResult, error)
	SignCRL(ctx context.Context, issuer string, tbs []byte) ([]byte, error)
	SealPool(ctx context.Context, keys []PoolKey) ([][]byte, error)
	Hold(ctx context.Context, r HoldRequest) (Held, error)
	OpenHeld(ctx context.Context, r OpenRequest) ([]byte, error)
	Rewrap(ctx context.Context, r RewrapRequest) (Held, error)
	NewVerifier(ctx context.Context, requestID string, ref pki.Secret) (Verifier, error)
	CheckReference(ctx context.Context, requestID string, ref pki.Secret, v Verifier) (bool, error)
	SealReference(ctx context.Context, requestID string, ref pki.Secret) ([]byte, error)
	OpenReference(ctx context.Context, requestID string, blob []byte) (pki.Secret, error)
	SignCheckpoint(ctx context.Context, after int64, next pki.Checkpoint, proof tlog.TreeProof) ([]byte, error)
	AcceptLoss(ctx context.Context, l pki.Loss, by []pki.LossSignature) error
	DestroyEpochs(ctx context.Context, before string) ([]string, error)
	Info(ctx context.Context) (Info, error)
}

// bodyTimeout bounds how long a frame may take to arrive once it has begun.
const bodyTimeout = time.Minute

// ServeConn answers the calls of one connection until it ends. large has room for
// the CRLs that may be in memory at once, over all connections.
func ServeConn(ctx context.Context, conn net.Conn, s Service, large chan struct{}, log *slog.Logger) error {
	for {
		kind, size, err := readHeader(conn)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		err = serveCall(ctx, conn, s, verb(kind), size, large, log)
		if err != nil {
			return err
		}
	}
}

// serveCall gives an error only where the connection is of no more use: the peer
// speaks something else, or is gone.
func serveCall(ctx context.Context, conn net.Conn, s Service, v verb, size int, large chan struct{}, log *slog.Logger) error {
	if size > frameLimit {
		large <- struct{}{}
		defer func() { <-large }()
	}
	late := time.AfterFunc(bodyTimeout, func() { _ = conn.Close() })
	body, err := readBody(conn, size, v.limit())
	late.Stop()
	if err != nil {
		return err
	}
	defer clear(body)
	answer, err := dispatch(ctx, s, v, body, log)
	if err != nil {
		log.ErrorContext(ctx, "signer refused a call", "verb", v, "code", pki.CodeOf(err), "error", err)
		answer = newFailure(err)
	}
	encoded, tail, encodeErr := encode(answer)
	if encodeErr != nil {
		return fmt.Errorf("encode answer: %w", encodeErr)
	}
	defer clear(encoded)
	status := statusOK
	if err != nil {
		status = statusError
	}
	return writeFrame(conn, status, encoded, tail)
}

var errMalformed = pki.E(pki.Invalid, "signer.message")

func dispatch(ctx context.Context, s Service, v verb, body []byte, log *slog.Logger) (answer message, err error) {
	defer func() {
		p := recover()
		if p != nil { // its type, never its value: that may hold a secret (threat DL11)
			log.ErrorContext(ctx, "signer call panicked", "verb", v, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			answer, err = nil, pki.E(pki.Internal, "signer.internal")
		}
	}()
	q := newCall(v)
	if q == nil {
		return nil, errMalformed.With("Verb", int(v))
	}
	err = decode(body, q)
	if err != nil {
		return nil, errMalformed.With("Verb", int(v)).Because(err)
	}
	switch v {
	case verbSignIntents:
		results, err := s.SignIntents(ctx, q.(*signIntentsCall).requests)
		return &signIntentsAnswer{results}, err
	case verbSignCRL:
		signature, err := s.SignCRL(ctx, q.(*signCRLCall).issuer, q.(*signCRLCall).tbs)
		return &bytesMessage{signature}, err
	case verbSealPool:
		blobs, err := s.SealPool(ctx, q.(*sealPoolCall).keys)
		return &sealPoolAnswer{blobs}, err
	case verbHold:
		held, err := s.Hold(ctx, *q.(*HoldRequest))
		return &held, err
	case verbOpenHeld:
		key, err := s.OpenHeld(ctx, *q.(*OpenRequest))
		return &bytesMessage{key}, err
	case verbRewrap:
		held, err := s.Rewrap(ctx, *q.(*RewrapRequest))
		return &held, err
	case verbSignCheckpoint:
		call := q.(*checkpointCall)
		note, err := s.SignCheckpoint(ctx, call.after, call.next, call.proof)
		return &bytesMessage{note}, err
	case verbAcceptLoss:
		err := s.AcceptLoss(ctx, q.(*lossCall).loss, q.(*lossCall).by)
		return &emptyMessage{}, err
	case verbDestroyEpochs:
		epochs, err := s.DestroyEpochs(ctx, q.(*textMessage).text)
		return &textsMessage{epochs}, err
	case verbInfo:
		info, err := s.Info(ctx)
		return &info, err
	}
	r := q.(*referenceCall)
	switch v {
	case verbNewVerifier:
		verifier, err := s.NewVerifier(ctx, r.requestID, r.reference)
		return &verifier, err
	case verbCheckReference:
		yes, err := s.CheckReference(ctx, r.requestID, r.reference, r.verifier)
		return &boolMessage{yes}, err
	case verbSealReference:
		blob, err := s.SealReference(ctx, r.requestID, r.reference)
		return &bytesMessage{blob}, err
	default: // verbOpenReference; newCall knows no others
		ref, err := s.OpenReference(ctx, r.requestID, r.blob)
		return &secretMessage{ref}, err
	}
}

// newCall gives the empty call of a verb, nil for an unknown one.
func newCall(v verb) message {
	switch v {
	case verbSignIntents:
		return &signIntentsCall{}
	case verbSignCRL:
		return &signCRLCall{}
	case verbSealPool:
		return &sealPoolCall{}
	case verbHold:
		return &HoldRequest{}
	case verbOpenHeld:
		return &OpenRequest{}
	case verbRewrap:
		return &RewrapRequest{}
	case verbNewVerifier, verbCheckReference, verbSealReference, verbOpenReference:
		return &referenceCall{}
	case verbSignCheckpoint:
		return &checkpointCall{}
	case verbAcceptLoss:
		return &lossCall{}
	case verbDestroyEpochs:
		return &textMessage{}
	case verbInfo:
		return &emptyMessage{}
	}
	return nil
}
