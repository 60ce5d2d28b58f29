// Package delivery owns the files in which a holder's key and certificate travel to a
// terminal: PKCS#12 for each kind of terminal. It does not own who may fetch them, nor
// for how long.
//
// The password of such a file has four digits (manual §2.3). It does not protect the
// file: whoever has the file tries all ten thousand in minutes. The iteration counts
// below make that minutes instead of milliseconds, no more; pages say so.
package delivery

import (
	"crypto"
	"crypto/x509"
	"fmt"

	"inkan/internal/pki"
)

// The iteration counts of keys and MAC. Legacy keeps the count that every importer of
// its age bears.
const (
	iterations       = 100_000
	legacyIterations = 2_048
)

// Options says for what kind of terminal a file is.
type Options struct {
	// Legacy is 3DES with SHA-1, the only form that Windows 8.1 and older read. The
	// default is AES-256 with PBKDF2 and SHA-256.
	Legacy bool
	// FriendlyName is what certificate managers show beside the subject, which all
	// terminals of an institution share: code, terminal, expiry. It stands in the
	// encrypted part. Characters outside the BMP are written as surrogates.
	FriendlyName string
}

// PKCS12 makes a PKCS#12 file of a key, its certificate and the chain above it. It
// refuses a key that is not the certificate's: rows of the database may have been
// swapped (threat DL10).
func PKCS12(key crypto.PrivateKey, cert *x509.Certificate, chain []*x509.Certificate, pin pki.Secret, opts Options) ([]byte, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, pki.E(pki.Internal, "delivery.key").Because(fmt.Errorf("a %T cannot sign", key))
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return nil, pki.E(pki.Internal, "delivery.mismatch").Because(fmt.Errorf("key is not that of certificate %s", pki.SerialHex(cert.SerialNumber)))
	}
	if pin == "" {
		return nil, pki.E(pki.Internal, "delivery.password")
	}
	file, err := encode(key, cert, chain, pin.Reveal(), opts)
	if err != nil {
		return nil, fmt.Errorf("encode PKCS#12: %w", err)
	}
	return file, nil
}
