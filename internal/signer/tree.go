package signer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/pki"
)

// SignCheckpoint signs the head of the audit tree, if it extends the newest one that was
// signed; see keystore.Client.
func (s *Server) SignCheckpoint(_ context.Context, after int64, next pki.Checkpoint, proof tlog.TreeProof) ([]byte, error) {
	if next.Size < 1 || next.Number < 1 {
		return nil, pki.E(pki.Invalid, "signer.message")
	}
	flight, err := s.admitTree(after, next, proof)
	if err != nil {
		return nil, err
	}
	err = flight.wait()
	if err != nil {
		return nil, err
	}
	crash.At("signer.tree journaled")
	next.Origin = s.vault.AuditOrigin()
	note, err := s.vault.SignNote(next.Text())
	crash.At("signer.tree signed")
	return note, err
}

func (s *Server) admitTree(after int64, next pki.Checkpoint, proof tlog.TreeProof) (*flight, error) {
	rec := treeRecord(s.cfg.Now(), next)
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.memory.admitTree(after, next, proof)
	if err != nil {
		s.refusedTree(err)
		return nil, err
	}
	s.memory.apply(rec)
	crash.At("signer.tree admitted")
	return s.journal.add(rec), nil
}

// refusedTree counts what only a changed database can bring about.
func (s *Server) refusedTree(err error) {
	if pki.ClassOf(err) != pki.Busy {
		s.refused.Add(1)
	}
}

const (
	maxAccepted = 16             // losses that a signer remembers: a head has to hold them
	lossLife    = 24 * time.Hour // how old a statement may be: two people do not work in one room
	lossAhead   = 5 * time.Minute
)

// acceptedLoss is a loss and the serial numbers of the certificates that signed for it.
type acceptedLoss struct {
	pki.Loss
	By []string `json:"by"`
}

// AcceptLoss makes the signer follow another tree than the one that it remembers, on the
// word of two who have keys of the Operations CA. Whether both are administrators it
// cannot know, for it has no register of operators: the office asks that. The loss stays
// in the journal for ever, and verify tells of it.
func (s *Server) AcceptLoss(_ context.Context, l pki.Loss, by []pki.LossSignature) error {
	signed, err := s.lossSigners(l, by)
	if err != nil {
		s.refused.Add(1)
		return err
	}
	flight, err := s.admitLoss(acceptedLoss{l, signed})
	if err != nil {
		return err
	}
	if flight == nil {
		return nil
	}
	return flight.wait()
}

func (s *Server) admitLoss(l acceptedLoss) (*flight, error) {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	before := slices.IndexFunc(s.memory.losses, func(has acceptedLoss) bool {
		return string(has.Statement()) == string(l.Statement())
	})
	switch {
	case before >= 0:
		return nil, nil // the answer to the first call was lost
	case !l.Lost.Same(s.memory.tree) || l.Next.Number <= s.memory.tree.Number:
		return nil, errMoved.With("Number", s.memory.tree.Number)
	case len(s.memory.losses) >= maxAccepted:
		return nil, pki.E(pki.Forbidden, "signer.loss").Because(errors.New("too many losses were accepted"))
	}
	s.log.Error("alarm: the loss of audit records is accepted", "signed", l.Lost.Size, "records", l.Next.Size, "number", l.Next.Number, "by", l.By)
	rec := record{At: now.Unix(), Kind: kindLoss, Loss: &l}
	s.memory.apply(rec)
	return s.journal.add(rec), nil
}

// lossSigners gives the serial numbers of the two certificates that signed, or refuses:
// signer.loss with a private cause.
func (s *Server) lossSigners(l pki.Loss, by []pki.LossSignature) ([]string, error) {
	refused := pki.E(pki.Forbidden, "signer.loss")
	now := s.cfg.Now()
	age := now.Sub(l.At)
	switch {
	case l.Instance != s.vault.InstanceID():
		return nil, refused.Because(errors.New("the statement is another instance's"))
	case age > lossLife || age < -lossAhead:
		return nil, refused.Because(fmt.Errorf("the statement is %s old", age))
	case l.Next.Size < 1 || l.Kept < 0 || l.Kept > l.Lost.Number || l.Reason == "":
		return nil, refused.Because(errors.New("the statement is not whole"))
	case len(by) != 2:
		return nil, refused.Because(fmt.Errorf("%d signatures", len(by)))
	}
	var serials, keys []string
	for _, signature := range by {
		cert, err := s.operationsCertificate(signature.Certificate, now)
		if err == nil {
			err = checkSignature(cert.PublicKey, l.Statement(), signature.Signature)
		}
		if err != nil {
			return nil, refused.Because(err)
		}
		serials = append(serials, pki.SerialHex(cert.SerialNumber))
		keys = append(keys, string(cert.RawSubjectPublicKeyInfo))
	}
	if serials[0] == serials[1] || keys[0] == keys[1] {
		return nil, refused.Because(errors.New("both signatures are of one key"))
	}
	return serials, nil
}

// operationsCertificate reads a certificate of the Operations CA that is in its time.
func (s *Server) operationsCertificate(der []byte, now time.Time) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	issuer := s.cfg.Issuers[issuance.Operations]
	if issuer == nil {
		return nil, errors.New("there is no Operations CA")
	}
	err = cert.CheckSignatureFrom(issuer.Certificate())
	if err != nil {
		return nil, err
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return nil, errors.New("the certificate is not in its time")
	}
	return cert, nil
}

func checkSignature(public crypto.PublicKey, text, signature []byte) error {
	digest := sha256.Sum256(text)
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(key, digest[:], signature) {
			return nil
		}
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature)
	}
	return errors.New("the signature does not match")
}
