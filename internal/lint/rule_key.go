package lint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"sync"
)

func key(_ kind, c *x509.Certificate) string { return Key(c.PublicKey) }

// smallPrimes is the product of the primes below 1000: one gcd finds a modulus
// that has one of them. Like the residues below, it is computed for the first RSA key:
// every start of the program would wait for it.
var smallPrimes = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for n := int64(2); n < 1000; n++ {
		if big.NewInt(n).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(n))
		}
	}
	return product
})

// fermatRounds bounds the search for two factors that lie close together.
const fermatRounds = 100

// Key says what is wrong with a public key, "" when it may be certified: RSA of
// 2048, 3072 or 4096 bits with e >= 65537 and a modulus without the known defects,
// or a point on P-256 or P-384 (AP11). It is cheap enough to be asked before any
// signature by the key is looked at.
func Key(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return rsaKey(k)
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return "curve is not P-256 or P-384"
		}
		return ""
	}
	return "neither RSA nor ECDSA"
}

func rsaKey(k *rsa.PublicKey) string {
	if k.N == nil {
		return "no modulus"
	}
	switch k.N.BitLen() {
	case 2048, 3072, 4096:
	default:
		return "size is not 2048, 3072 or 4096 bits"
	}
	switch {
	case k.N.Bit(0) == 0:
		return "modulus is even"
	case k.E < 65537 || k.E&1 == 0:
		return "public exponent below 65537 or even"
	case new(big.Int).GCD(nil, nil, k.N, smallPrimes()).Cmp(big.NewInt(1)) != 0:
		return "modulus has a small factor"
	case roca(k.N):
		return "modulus has the ROCA fingerprint"
	case closePrimes(k.N):
		return "factors of the modulus lie close together"
	}
	return ""
}

// closePrimes runs Fermat's method for a few rounds: n = a²-b² with a just above
// the root of n.
func closePrimes(n *big.Int) bool {
	one := big.NewInt(1)
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) < 0 {
		a.Add(a, one)
	}
	rest, root := new(big.Int), new(big.Int)
	for range fermatRounds {
		rest.Mul(a, a)
		rest.Sub(rest, n)
		root.Sqrt(rest)
		if new(big.Int).Mul(root, root).Cmp(rest) == 0 {
			return true
		}
		a.Add(a, one)
	}
	return false
}

// rocaPrimes are the primes whose residues mark keys of the faulty library
// (CVE-2017-15361): its moduli are powers of 65537 modulo each of them.
var rocaPrimes = []int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

var rocaResidues = sync.OnceValue(func() []map[int64]bool {
	out := make([]map[int64]bool, len(rocaPrimes))
	for i, p := range rocaPrimes {
		out[i] = map[int64]bool{}
		for r := int64(1); !out[i][r]; r = r * 65537 % p {
			out[i][r] = true
		}
	}
	return out
})

func roca(n *big.Int) bool {
	residue, residues := new(big.Int), rocaResidues()
	for i, p := range rocaPrimes {
		if !residues[i][residue.Mod(n, big.NewInt(p)).Int64()] {
			return false
		}
	}
	return true
}
