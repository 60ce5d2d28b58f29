// Package keystore owns the custody of secrets: the vault (CA keys by URI, the
// key-encryption key, the monthly epoch keys, the keys of reference IDs, the audit
// key), the sealing of holders' keys, the verifier of reference IDs, and the wire
// between the edge and the signer process (both halves: Client and ServeConn).
//
// It does not own who may use a key, how often, or for what: that is signer's
// (limits, lint, journal), and ra's and ca's above it. It never reads a clock.
//
// Layout of the signer's directory:
//
//	vault.age            the vault, age with an scrypt passphrase
//	keys/<id>.key.age    a CA key, PKCS#8, age to the vault's own identity
//	epochs/2026-11.key   an epoch key, wrapped by the vault's KEK
//	refused-…            the PIN that a token refused last, as a MAC
//	journal…, lock       the signer's
package keystore
