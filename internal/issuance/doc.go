// Package issuance makes what the CA signs and checks what the CA signed:
// certificates by profile, the certificates of the CAs themselves, revocation
// lists, OCSP answers; and it reads what others sign for us: certification requests
// and OCSP requests.
//
// The order cannot be written wrongly: only Prepare and Relint make a Linted, only
// a Linted can be signed, once, and only with the issuer's own key. In Prepare our
// encoder writes the bytes and the standard library reads them back under a stand-in
// for the signature; Relint is the signer's half: it reads bytes that somebody else
// prepared, writes them anew from what it read and accepts only the same. Both ask
// package lint (our policy); Prepare asks zlint (RFC 5280), too, about each shape of a
// certificate. Tests compare our encoder with the standard library's.
//
// It does not own when to issue, who asked, the CA keys (keystore), serial
// uniqueness (store), or the clock: every function that needs a time is given one.
package issuance
