package store

import "inkan/internal/store/engine"

var publicKeyTables = []table{
	{name: "public_key", guards: []guard{
		{name: "public_key_stays", before: "UPDATE", says: "a public key keeps its owner",
			when: `changed(spki_sha256, owner)`},
		{name: "public_key_keep", before: "DELETE", says: "a public key keeps its owner"},
	}},
}

// ClaimPublicKey enters a public key into the register of all keys ever seen;
// pki.ErrConflict when it is another owner's.
func (tx *Tx) ClaimPublicKey(spkiSHA256, owner string) error {
	return tx.sql.One("claim public key", `INSERT INTO public_key (spki_sha256, owner) VALUES ($1, $2)
		ON CONFLICT (spki_sha256) DO UPDATE SET owner = excluded.owner WHERE public_key.owner = excluded.owner`, spkiSHA256, owner)
}

// PublicKey is an entry of the register of all public keys ever seen.
type PublicKey struct{ SPKISHA256, Owner string }

func scanPublicKey(row engine.Scanner) (PublicKey, error) {
	var k PublicKey
	err := row.Scan(&k.SPKISHA256, &k.Owner)
	return k, err
}

// PublicKeys reads entries by the hash of the key.
func (tx *Tx) PublicKeys(hashes []string) ([]PublicKey, error) {
	return engine.Listed(tx.sql, "public_key", "spki_sha256, owner", "spki_sha256", hashes, "", scanPublicKey)
}

// PublicKeysAfter lists entries in the order of the keys' hashes.
func (tx *Tx) PublicKeysAfter(after string, limit int) ([]PublicKey, error) {
	rows, err := tx.sql.Query(`SELECT spki_sha256, owner FROM public_key WHERE spki_sha256 > $1 ORDER BY spki_sha256 LIMIT $2`, after, limit)
	if err != nil {
		return nil, engine.Error("list public keys", err)
	}
	return engine.Collect(rows, scanPublicKey)
}
