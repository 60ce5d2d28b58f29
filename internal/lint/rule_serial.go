package lint

import "crypto/x509"

// serial: 20 octets, positive (CK7). A shorter number was not drawn by us: ours
// have 159 random bits and a first octet that is not zero.
func serial(_ kind, c *x509.Certificate) string {
	switch {
	case c.SerialNumber.Sign() <= 0:
		return "not positive"
	case len(c.SerialNumber.Bytes()) != 20, c.SerialNumber.BitLen() > 159:
		return "not 20 octets"
	}
	return ""
}
