package issuance

import (
	"crypto"
	"crypto/x509"

	"inkan/internal/lint"
	"inkan/internal/pki"
)

// MaxCSR is the most bytes of a certification request that are looked at.
const MaxCSR = 16 << 10

// ParseCSR reads a PKCS#10 request and gives its public key. Subject and extensions
// are ignored: names come from us (threat AP11). The key is judged before the
// signature, so that a giant or odd modulus costs nothing. Errors are *pki.Error
// of class Invalid: csr.size, csr.form, csr.key, csr.signature. Whether the key was
// used before is asked by the caller, who has the register.
func ParseCSR(der []byte) (crypto.PublicKey, error) {
	if len(der) > MaxCSR {
		return nil, pki.E(pki.Invalid, "csr.size").With("Limit", MaxCSR)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, pki.E(pki.Invalid, "csr.form").Because(err)
	}
	defect := lint.Key(request.PublicKey)
	if defect != "" {
		return nil, pki.E(pki.Invalid, "csr.key").With("Defect", defect)
	}
	switch request.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return nil, pki.E(pki.Invalid, "csr.signature").With("Algorithm", request.SignatureAlgorithm.String())
	}
	err = request.CheckSignature()
	if err != nil {
		return nil, pki.E(pki.Invalid, "csr.signature").Because(err)
	}
	return request.PublicKey, nil
}
