// Package signer is the signer process: the one place where CA keys, the
// key-encryption key, the keys of reference IDs and the audit key are in memory. It
// owns the socket and who may connect to it, the signer's own lint, its limits and
// its journal with the high-waters of CRL numbers and of the audit tree.
//
// It trusts nothing that the edge says (threat CK1): every certificate is checked
// again from its bytes, against a profile, the clock, the rate and what the journal
// remembers. It does not know requests, people or SQL; sealing itself and the wire
// are keystore's.
package signer
