package delivery_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"regexp"
	"strings"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"inkan/internal/delivery"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

const (
	pin  = pki.Secret("7391")
	name = "0110119153 受付1号機 2030-02-24"
)

// authority makes a CA and a holder's certificate under it.
func authority(t testing.TB, key crypto.Signer) (cert, ca *x509.Certificate) {
	t.Helper()
	caKey, now := testkit.Key(t), time.Now()
	ca = testkit.SelfSigned(t, &x509.Certificate{
		Subject:   pkix.Name{CommonName: "Test CA - G1", Organization: []string{"Test"}},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, caKey).Leaf
	leaf := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "0110119153"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(3, 3, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	return testkit.Sign(t, leaf, ca, key.Public(), caKey), ca
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	testkit.Must(t, err)
	return key
}

func TestPKCS12(t *testing.T) {
	p256 := testkit.Key(t)
	for _, tt := range []struct {
		name string
		key  crypto.Signer
		opts delivery.Options
	}{
		{"RSA", rsaKey(t), delivery.Options{FriendlyName: name}},
		{"P-256", p256, delivery.Options{FriendlyName: name}},
		{"RSA legacy", rsaKey(t), delivery.Options{Legacy: true, FriendlyName: name}},
		{"P-256 legacy", p256, delivery.Options{Legacy: true}},
		{"no name", p256, delivery.Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert, ca := authority(t, tt.key)
			file, err := delivery.PKCS12(tt.key, cert, []*x509.Certificate{ca}, pin, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			key, got, chain, err := pkcs12.DecodeChain(file, pin.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			if !tt.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.(crypto.Signer).Public()) || !got.Equal(cert) || len(chain) != 1 || !chain[0].Equal(ca) {
				t.Error("the file holds something else")
			}
			_, _, _, err = pkcs12.DecodeChain(file, "7392")
			if err == nil {
				t.Error("another password opens the file")
			}
			path := testkit.WriteFile(t, t.TempDir(), "file.p12", file)
			t.Run("OpenSSL", func(t *testing.T) { withOpenSSL(t, path, tt.opts) })
			t.Run("NSS", func(t *testing.T) { withNSS(t, path, tt.opts) })
			t.Run("Java", func(t *testing.T) { withJava(t, path) })
			t.Run("GnuTLS", func(t *testing.T) { withGnuTLS(t, path) })
		})
	}
}

// TestThreatDL6: a guess at the PIN costs 100,000 rounds at each of the three places where
// it can be tried: the MAC, the certificates and the key.
func TestThreatDL6(t *testing.T) {
	key := rsaKey(t)
	cert, ca := authority(t, key)
	for _, friendly := range []string{"", name} {
		file, err := delivery.PKCS12(key, cert, []*x509.Certificate{ca}, pin, delivery.Options{FriendlyName: friendly})
		if err != nil {
			t.Fatal(err)
		}
		rounds := []byte{2, 3, 0x01, 0x86, 0xa0} // INTEGER 100000
		if n := bytes.Count(file, rounds); n != 3 {
			t.Errorf("named %q: 100,000 rounds at %d places of 3", friendly, n)
		}
		for _, weak := range [][]byte{{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1}, {0x2b, 14, 3, 2, 26}} { // PBE of PKCS#12, SHA-1
			if bytes.Contains(file, weak) {
				t.Errorf("named %q: holds algorithm %x", friendly, weak)
			}
		}
	}
}

// BenchmarkPKCS12 makes the file of one download.
func BenchmarkPKCS12(b *testing.B) {
	key := rsaKey(b)
	cert, ca := authority(b, key)
	for b.Loop() {
		_, err := delivery.PKCS12(key, cert, []*x509.Certificate{ca}, pin, delivery.Options{FriendlyName: name})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkThreatDL6 measures what all ten thousand PINs cost on one core, beside the limit.
func BenchmarkThreatDL6(b *testing.B) {
	key := rsaKey(b)
	cert, ca := authority(b, key)
	file, err := delivery.PKCS12(key, cert, []*x509.Certificate{ca}, pin, delivery.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		_, _, _, err = pkcs12.DecodeChain(file, "0000")
		if err == nil {
			b.Fatal("a wrong PIN opens the file")
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)*10_000, "s/10000-PINs")
	b.ReportMetric(60, "s-at-least")
}

func withOpenSSL(t *testing.T, path string, opts delivery.Options) {
	t.Helper()
	out := testkit.Run(t, "openssl", "pkcs12", "-in", path, "-passin", "pass:"+pin.Reveal(), "-info", "-nodes")
	wants := []string{
		"MAC: sha256, Iteration 100000", "MAC length: 32, salt length: 16",
		"Certificate bag", "PKCS7 Encrypted data: PBES2, PBKDF2, AES-256-CBC, Iteration 100000, PRF hmacWithSHA256",
		"Shrouded Keybag: PBES2, PBKDF2, AES-256-CBC, Iteration 100000, PRF hmacWithSHA256",
	}
	if opts.Legacy {
		wants = []string{
			"MAC: sha1, Iteration 2048",
			"PKCS7 Encrypted data: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048",
			"Shrouded Keybag: pbeWithSHA1And3-KeyTripleDES-CBC, Iteration 2048",
		}
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("openssl does not say %q:\n%s", want, regexp.MustCompile(`(?s)-----BEGIN.*?-----END[^\n]*\n`).ReplaceAllString(out, ""))
		}
	}
	if n := strings.Count(out, "BEGIN CERTIFICATE"); n != 2 {
		t.Errorf("openssl sees %d certificates", n)
	}
	if n := strings.Count(out, "localKeyID"); n != 2 {
		t.Errorf("openssl sees localKeyID %d times: key and certificate must name each other", n)
	}
}

func withNSS(t *testing.T, path string, opts delivery.Options) {
	t.Helper()
	db := "sql:" + t.TempDir()
	testkit.Run(t, "certutil", "-N", "-d", db, "--empty-password")
	testkit.Run(t, "pk12util", "-i", path, "-d", db, "-W", pin.Reveal())
	out := testkit.Run(t, "certutil", "-L", "-d", db)
	if opts.FriendlyName != "" && !strings.Contains(out, opts.FriendlyName) {
		t.Errorf("NSS does not show the friendly name:\n%s", out)
	}
	keys := testkit.Run(t, "certutil", "-K", "-d", db)
	if !strings.Contains(keys, "< 0>") {
		t.Errorf("NSS has no key:\n%s", keys)
	}
}

// A renewed certificate has the subject of the old one and another name; Firefox must
// take it beside the old one.
func TestRenewalBesideTheOldOne(t *testing.T) {
	dir := t.TempDir()
	db := "sql:" + dir
	testkit.Run(t, "certutil", "-N", "-d", db, "--empty-password")
	for _, until := range []string{"2030-02-24", "2033-05-24"} {
		key := rsaKey(t)
		cert, ca := authority(t, key)
		file, err := delivery.PKCS12(key, cert, []*x509.Certificate{ca}, pin, delivery.Options{FriendlyName: "0110119153 受付1号機 " + until})
		if err != nil {
			t.Fatal(err)
		}
		path := testkit.WriteFile(t, dir, until+".p12", file)
		testkit.Run(t, "pk12util", "-i", path, "-d", db, "-W", pin.Reveal())
	}
	keys := testkit.Run(t, "certutil", "-K", "-d", db)
	if strings.Count(keys, "rsa") != 2 {
		t.Errorf("NSS has not both keys:\n%s", keys)
	}
}

func withJava(t *testing.T, path string) {
	t.Helper()
	out := testkit.Run(t, "keytool", "-J-Duser.language=en", "-J-Dfile.encoding=UTF-8", "-J-Dstdout.encoding=UTF-8", "-list", "-v", "-storetype", "PKCS12", "-keystore", path, "-storepass", pin.Reveal())
	if !strings.Contains(out, "PrivateKeyEntry") || !strings.Contains(out, "Certificate chain length: 2") {
		t.Errorf("keytool:\n%s", out)
	}
}

func withGnuTLS(t *testing.T, path string) {
	t.Helper()
	out := testkit.Run(t, "certtool", "--p12-info", "--inder", "--infile", path, "--password", pin.Reveal())
	if strings.Count(out, "BEGIN CERTIFICATE") != 2 || !strings.Contains(out, "PRIVATE KEY") {
		t.Errorf("certtool:\n%s", out)
	}
}

// Threat DL10: rows may have been swapped; a key leaves only with its own certificate.
func TestRefusals(t *testing.T) {
	mine, other := rsaKey(t), rsaKey(t)
	cert, ca := authority(t, mine)
	ec := testkit.Key(t)
	for _, tt := range []struct {
		name string
		key  crypto.PrivateKey
		pin  pki.Secret
		code string
	}{
		{"another key", other, pin, "delivery.mismatch"},
		{"a key of another kind", ec, pin, "delivery.mismatch"},
		{"no key", nil, pin, "delivery.key"},
		{"no password", mine, "", "delivery.password"},
	} {
		file, err := delivery.PKCS12(tt.key, cert, []*x509.Certificate{ca}, tt.pin, delivery.Options{})
		if pki.CodeOf(err) != tt.code || file != nil {
			t.Errorf("%s: %v, %d bytes", tt.name, err, len(file))
		}
		if err != nil && strings.Contains(err.Error(), pin.Reveal()) {
			t.Errorf("%s: the error holds the password", tt.name)
		}
	}
}
