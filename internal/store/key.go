package store

import (
	"time"

	"inkan/internal/pki"
	"inkan/internal/store/engine"
)

var keyTables = []table{
	{name: "sealed_key", guards: []guard{
		{name: "sealed_key_stays", before: "UPDATE", says: "a key and its request do not change",
			when: `changed(id, spki, spki_sha256) OR (OLD.stage = 'destroyed') OR (OLD.request <> '' AND changed(request))`},
	}},
}

// SealedKey is a holder's key made here. Its life is pool → taken → held →
// destroyed; the blob opens only in the signer process.
type SealedKey struct {
	ID         string
	KeyType    pki.KeyType
	SPKI       []byte // DER of the public key
	SPKISHA256 string // hex
	Stage      string
	Blob       []byte
	Epoch      string // month of the epoch key under which the blob is sealed
	Request    string
	MadeAt     time.Time
	Destroyed  time.Time // filled by Keys and KeysAfter
}

var keyContent = pki.Content[SealedKey]{Name: "key", Version: 1, Fields: []pki.ContentField[SealedKey]{
	{Name: "id", Since: 1, Value: func(k SealedKey) string { return k.ID }},
	{Name: "key-type", Since: 1, Value: func(k SealedKey) string { return string(k.KeyType) }},
	{Name: "spki", Since: 1, Value: func(k SealedKey) string { return pki.ContentBytes(k.SPKI) }},
	{Name: "spki-sha256", Since: 1, Value: func(k SealedKey) string { return k.SPKISHA256 }},
	{Name: "request", Since: 1, Value: func(k SealedKey) string { return k.Request }},
	{Name: "made-at", Since: 1, Value: func(k SealedKey) string { return pki.ContentTime(k.MadeAt) }},
}}

// Origin is the Content.Hash of what never changes of a key that a request took. The audit
// record of the taking holds it (threat CO12).
func (k SealedKey) Origin() string { return keyContent.Hash(k) }

// OriginAs is Origin in the version that another hash names.
func (k SealedKey) OriginAs(other string) string { return keyContent.HashAs(k, other) }

// BlobHash is the SHA-256 in hex of the sealed key; "" of a destroyed one.
func (k SealedKey) BlobHash() string { return pki.ContentBytes(k.Blob) }

// AddPoolKeys stores freshly sealed keys. A public key that was ever seen before is
// refused with pki.ErrConflict: the generator is broken or the machine was cloned.
func (tx *Tx) AddPoolKeys(keys []SealedKey) error {
	for _, k := range keys {
		err := tx.ClaimPublicKey(k.SPKISHA256, "key/"+k.ID)
		if err != nil {
			return err
		}
		err = tx.sql.Add("add pool key", `INSERT INTO sealed_key (id, key_type, spki, spki_sha256, stage, blob, epoch, made_at) VALUES ($1,$2,$3,$4,'pool',$5,$6,$7)`,
			k.ID, string(k.KeyType), k.SPKI, k.SPKISHA256, k.Blob, k.Epoch, engine.Micros(tx.Now))
		if err != nil {
			return err
		}
	}
	return nil
}

// PoolSize counts the keys of a type that wait in the pool.
func (tx *Tx) PoolSize(t pki.KeyType) (int, error) {
	var n int
	err := tx.sql.QueryRow(`SELECT COUNT(*) FROM sealed_key WHERE key_type = $1 AND stage = 'pool'`, string(t)).Scan(&n)
	return n, engine.Error("count pool", err)
}

// TakeKey gives the oldest key of the pool to a request: at most one key a request,
// and the one it already has when it asks again. pki.ErrNotFound: the pool is empty.
func (tx *Tx) TakeKey(t pki.KeyType, request string) (SealedKey, error) {
	k, err := tx.KeyOfRequest(request)
	if pki.ClassOf(err) != pki.NotFound {
		return k, err
	}
	var id string
	err = tx.sql.QueryRow(`UPDATE sealed_key SET stage = 'taken', request = $1 WHERE id =
		(SELECT id FROM sealed_key WHERE key_type = $2 AND stage = 'pool' ORDER BY id LIMIT 1) AND stage = 'pool' RETURNING id`,
		request, string(t)).Scan(&id)
	if err != nil {
		return SealedKey{}, engine.Error("take key", err)
	}
	return tx.KeyOfRequest(request)
}

// KeyOfRequest gives the living key of a request; pki.ErrNotFound where there is none.
func (tx *Tx) KeyOfRequest(request string) (SealedKey, error) {
	var k SealedKey
	var made int64
	err := tx.sql.QueryRow(`SELECT id, key_type, spki, spki_sha256, stage, blob, epoch, request, made_at
		FROM sealed_key WHERE request = $1 AND request <> '' AND stage <> 'destroyed'`, request).
		Scan(&k.ID, &k.KeyType, &k.SPKI, &k.SPKISHA256, &k.Stage, &k.Blob, &k.Epoch, &k.Request, &made)
	k.MadeAt = engine.FromMicros(made)
	return k, engine.Error("read key of request", err)
}

// HoldKey replaces the pool's blob by the one that is bound to the request.
func (tx *Tx) HoldKey(id, request string, blob []byte, epoch string) error {
	return tx.sql.One("hold key", `UPDATE sealed_key SET stage = 'held', blob = $1, epoch = $2 WHERE id = $3 AND request = $4 AND stage = 'taken'`,
		blob, epoch, id, request)
}

// RewrapKey replaces the blob of a held key as the caller saw it.
func (tx *Tx) RewrapKey(id string, seen, blob []byte, epoch string) error {
	return tx.sql.One("rewrap key", `UPDATE sealed_key SET blob = $1, epoch = $2 WHERE id = $3 AND stage = 'held' AND blob = $4`, blob, epoch, id, seen)
}

// DestroyKey destroys the key of a request, and the sealed reference ID of a letter
// that was never dispatched; false when there was no key left. The IDs of a renewal were
// drawn with the request, stand on its page, and stay through another attempt to issue.
func (tx *Tx) DestroyKey(request string) (bool, error) {
	_, err := tx.sql.Exec(`UPDATE reference SET sealed = NULL WHERE request = $1 AND sealed IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM request r WHERE r.id = reference.request AND r.kind = 'renewal' AND r.state NOT IN ('issued', 'cancelled'))`, request)
	if err != nil {
		return false, engine.Error("drop sealed reference", err)
	}
	n, err := tx.sql.Exec(`UPDATE sealed_key SET stage = 'destroyed', blob = NULL, destroyed_at = $1 WHERE request = $2 AND request <> '' AND stage <> 'destroyed'`,
		engine.Micros(tx.Now), request)
	return n > 0, engine.Error("destroy key", err)
}

// DestroyPoolKeysBut destroys keys of the pool that are not of the type in use: they
// would keep their epoch key alive for ever.
func (tx *Tx) DestroyPoolKeysBut(t pki.KeyType) (int64, error) {
	n, err := tx.sql.Exec(`UPDATE sealed_key SET stage = 'destroyed', blob = NULL, destroyed_at = $1 WHERE stage = 'pool' AND key_type <> $2`,
		engine.Micros(tx.Now), string(t))
	return n, engine.Error("destroy pool keys", err)
}

// OldestEpoch gives the oldest month under whose epoch key something still living is
// sealed; "" when nothing is.
func (tx *Tx) OldestEpoch() (string, error) {
	var s string
	err := tx.sql.QueryRow(`SELECT COALESCE(MIN(epoch), '') FROM (
		SELECT epoch FROM sealed_key WHERE stage <> 'destroyed'
		UNION ALL SELECT epoch FROM reference WHERE sealed IS NOT NULL) living`).Scan(&s)
	return s, engine.Error("oldest epoch", err)
}

// KeysDue lists issued requests whose held key is to be destroyed: the download
// deadline has passed, or the certificate was first seen in use before usedBefore.
func (tx *Tx) KeysDue(usedBefore time.Time, limit int) ([]pki.Request, error) {
	rows, err := tx.sql.Query(`SELECT `+requestColumns+` FROM request WHERE id IN
		(SELECT k.request FROM sealed_key k JOIN request r ON r.id = k.request WHERE k.stage = 'held' AND r.state = 'issued'
			AND (r.downloads_until < $1 OR (r.installed_at <> 0 AND r.installed_at < $2)))
		ORDER BY id LIMIT $3`,
		engine.Micros(tx.Now), engine.Micros(usedBefore), limit)
	if err != nil {
		return nil, engine.Error("list keys due", err)
	}
	return engine.Collect(rows, scanRequest)
}

const keyColumns = `id, key_type, spki, spki_sha256, stage, blob, epoch, request, made_at, destroyed_at`

func scanKey(row engine.Scanner) (SealedKey, error) {
	var k SealedKey
	var made, destroyed int64
	err := row.Scan(&k.ID, &k.KeyType, &k.SPKI, &k.SPKISHA256, &k.Stage, &k.Blob, &k.Epoch, &k.Request, &made, &destroyed)
	k.MadeAt, k.Destroyed = engine.FromMicros(made), engine.FromMicros(destroyed)
	return k, err
}

// Keys reads keys by their IDs.
func (tx *Tx) Keys(ids []string) ([]SealedKey, error) {
	return engine.Listed(tx.sql, "sealed_key", keyColumns, "id", ids, "", scanKey)
}

// KeysAfter lists keys in the order of their IDs.
func (tx *Tx) KeysAfter(after string, limit int) ([]SealedKey, error) {
	rows, err := tx.sql.Query(`SELECT `+keyColumns+` FROM sealed_key WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list keys", err)
	}
	return engine.Collect(rows, scanKey)
}
