// Package issuance makes what the CA signs and checks what the CA signed:
// certificates by profile, the certificates of the CAs themselves, revocation
// lists, OCSP answers; and it reads what others sign for us: certification requests
// and OCSP requests.
//
// The order cannot be written wrongly: only Prepare and Relint make a Linted, only
// a Linted can be signed, once, and only with the issuer's own key. Prepare has the
// standard library build the certificate, signed with a throw-away key of the CA
// key's algorithm, and then compares every byte with what our own encoder writes
// from the same facts; Relint is the signer's half and does that comparison for
// bytes that somebody else prepared. Both ask zlint (RFC 5280) and package lint (our
// policy).
//
// It does not own when to issue, who asked, the CA keys (keystore), serial
// uniqueness (store), or the clock: every function that needs a time is given one.
package issuance
