package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"inkan/internal/crash"
	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// poolBatch bounds how many keys are made between two commits: a kill loses at most
// these.
const poolBatch = 4

// FillPool makes keys ahead until the pool has its size, so that nobody waits for
// RSA key generation. It stops with the context.
func (s *Service) FillPool(ctx context.Context) error {
	for {
		var have int
		err := s.DB.View(ctx, func(tx *store.Tx) error {
			var err error
			have, err = tx.PoolSize(s.PoolKeyType)
			return err
		})
		if err != nil {
			return err
		}
		if have >= s.PoolSize {
			return nil
		}
		err = s.addPoolKeys(ctx, s.PoolKeyType, min(poolBatch, s.PoolSize-have))
		if err != nil {
			return err
		}
	}
}

// epoch is the month to note for what the signer seals by its own clock: about
// midnight the earlier of two, whose key then lives a month longer than it had to.
func (s *Service) epoch() string { return pki.Month(s.Now().Add(-time.Hour)) }

// addPoolKeys makes n keys and stores them sealed. In clear they live only in this
// function and in the signer.
func (s *Service) addPoolKeys(ctx context.Context, t pki.KeyType, n int) error {
	fresh := make([]keystore.PoolKey, 0, n)
	defer func() {
		for _, k := range fresh {
			clear(k.PKCS8)
		}
	}()
	rows := make([]store.SealedKey, n)
	for i := range rows {
		err := ctx.Err()
		if err != nil {
			return err
		}
		key, err := issuance.GenerateKey(t)
		if err != nil {
			return fmt.Errorf("generate key: %w", err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return fmt.Errorf("encode key: %w", err)
		}
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return fmt.Errorf("encode public key: %w", err)
		}
		// An ID begins with the time: the pool gives its keys away in the order of
		// their IDs, and one that nobody ever took would keep its epoch alive.
		id := binary.BigEndian.AppendUint64(nil, uint64(s.Now().UnixMicro()))
		id = append(id, make([]byte, 8)...)
		_, _ = rand.Read(id[8:]) // never fails; see crypto/rand
		rows[i] = store.SealedKey{ID: hex.EncodeToString(id), KeyType: t, SPKI: spki, SPKISHA256: hashHex(spki), Epoch: s.epoch()}
		fresh = append(fresh, keystore.PoolKey{KeyID: rows[i].ID, PKCS8: pkcs8})
	}
	crash.At("pool.1 before the signer")
	blobs, err := s.Signer.SealPool(ctx, fresh)
	crash.At("pool.1 after the signer")
	if err != nil {
		return pki.E(pki.Busy, "signer.away").Because(err)
	}
	for i := range rows {
		rows[i].Blob = blobs[i]
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		err := tx.AddPoolKeys(rows)
		crash.At("pool.2 before commit")
		return err
	})
	crash.At("pool.2 after commit")
	return err
}
