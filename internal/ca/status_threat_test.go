package ca_test

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // hashes of issuers, as clients choose them
	_ "crypto/sha512"
	"crypto/x509"
	"math/big"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// TestThreatST1: a captured "good" is worth nothing to a client that sends a nonce, and
// nothing after an hour to one that does not. openssl is the client.
func TestThreatST1(t *testing.T) {
	testkit.Tool(t, "openssl")
	o := catest.New(t, catest.Options{})
	dir := t.TempDir()
	file := func(name string, data []byte) string { return testkit.WriteFile(t, dir, name, data) }
	inPEM := func(name string, cert *x509.Certificate) string { return file(name, testkit.CertificateText(cert)) }
	// openssl believes its own clock: what it must refuse is signed 61 minutes ago.
	o.Set(time.Now().Add(-61 * time.Minute))
	r := o.Issued(catest.Application(1))
	root, g1 := inPEM("root.pem", o.CAs[issuance.Root]), inPEM("g1.pem", o.CAs[issuance.G1])
	cert := inPEM("cert.pem", o.Leaf(r.Serial))
	check := func(question, answer []byte) string {
		// openssl tells expiry for a -cert, and compares nonces only without one.
		about := []string{"-cert", cert, "-no_nonce"}
		if bytes.Contains(question, nonceOID) {
			about = []string{"-resp_text"}
		}
		args := []string{"ocsp", "-issuer", g1, "-reqin", file("q", question), "-respin", file("a", answer), "-validity_period", "0", "-CAfile", root, "-verify_other", g1}
		out, _ := exec.Command("openssl", append(args, about...)...).CombinedOutput()
		return string(out)
	}
	ask := func(name string, more ...string) []byte {
		path := filepath.Join(dir, name)
		testkit.Run(t, "openssl", append([]string{"ocsp", "-issuer", g1, "-cert", cert, "-reqout", path}, more...)...)
		return testkit.ReadFile(t, path)
	}
	v := newView(t, o, o.Now)
	a := newAnswers(t, o, v)
	answer := func(question []byte) []byte {
		must(t, v.Catch(t.Context()))
		answer, err := a.Answer(t.Context(), question, always)
		must(t, err)
		return answer.Body
	}
	plain, nonced, other := ask("plain", "-no_nonce"), ask("nonced"), ask("other")
	old := answer(plain)
	says := func(name, out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s: want %q in: %s", name, want, out)
			}
		}
	}
	says("after 61 minutes", check(plain, old), "Response verify OK", "status expired")
	o.Set(time.Now())
	young := check(plain, answer(plain))
	says("fresh", young, "Response verify OK", ": good")
	if strings.Contains(young, "expired") {
		t.Errorf("fresh: %s", young)
	}
	captured := answer(nonced)
	says("own nonce", check(nonced, captured), "Response verify OK", "Cert Status: good")
	revoke(t, o, r.Serial, pki.KeyCompromise)
	says("replayed to another nonce", check(other, captured), "Nonce Verify error")
	says("asked anew", check(other, answer(other)), "Response verify OK", "Cert Status: revoked")
}

var nonceOID = []byte{0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2}

// TestThreatST2Quota: beyond its quota an asker gets the answer that serves everybody,
// which costs no signature.
func TestThreatST2Quota(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	a := newAnswers(t, o, newView(t, o, o.Now))
	n, err := pki.ParseSerial(r.Serial)
	must(t, err)
	common, err := a.Answer(t.Context(), question(t, o, r.Serial), never)
	must(t, err)
	for i := range byte(5) {
		nonce := bytes.Repeat([]byte{i, 0x5a}, 16)
		got, err := a.Answer(t.Context(), questionOf(t, o, n, issuance.G1, nonce), never)
		must(t, err)
		if !bytes.Equal(got.Body, common.Body) {
			t.Errorf("nonce %d: an answer of its own was signed", i)
		}
		if bytes.Contains(got.Body, nonce) {
			t.Errorf("nonce %d was echoed", i)
		}
	}
}

var hashOIDs = map[crypto.Hash][]int{
	crypto.SHA1: {1, 3, 14, 3, 2, 26}, crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
	crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2}, crypto.SHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
}

// certID names a certificate by hashes of name and key, which may be of two CAs.
func certID(hash crypto.Hash, name, key *x509.Certificate, serial *big.Int) []byte {
	digest := func(data []byte) []byte {
		h := hash.New()
		h.Write(data)
		return h.Sum(nil)
	}
	spki := cryptobyte.String(key.RawSubjectPublicKeyInfo)
	var inner cryptobyte.String
	var bits []byte
	_ = spki.ReadASN1(&inner, asn1.SEQUENCE) && inner.SkipASN1(asn1.SEQUENCE) && inner.ReadASN1BitStringAsBytes(&bits)
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(hashOIDs[hash])
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(digest(name.RawSubject))
		b.AddASN1OctetString(digest(bits))
		b.AddASN1BigInt(serial)
	})
	return b.BytesOrPanic()
}

func questionAbout(ids ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, id := range ids {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(id) })
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// TestThreatST3: SHA-1 is a name to look up, never a hash to sign with; an issuer is
// meant by name and key together; the answer repeats what was asked byte for byte.
func TestThreatST3(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	serial, err := pki.ParseSerial(r.Serial)
	must(t, err)
	a := newAnswers(t, o, newView(t, o, o.Now))
	g1, other := o.CAs[issuance.G1], o.CAs[issuance.Operations]
	for _, row := range []struct {
		what      string
		hash      crypto.Hash
		name, key *x509.Certificate
		answered  bool
	}{
		{"SHA-1", crypto.SHA1, g1, g1, true},
		{"SHA-256", crypto.SHA256, g1, g1, true},
		{"SHA-384", crypto.SHA384, g1, g1, false},
		{"SHA-512", crypto.SHA512, g1, g1, false},
		{"wrong name, right key", crypto.SHA256, other, g1, false},
		{"right name, wrong key", crypto.SHA256, g1, other, false},
		{"another issuer", crypto.SHA1, other, other, false},
		{"its own root", crypto.SHA256, o.CAs[issuance.Root], o.CAs[issuance.Root], false},
	} {
		t.Run(row.what, func(t *testing.T) {
			id := certID(row.hash, row.name, row.key, serial)
			answer, err := a.Answer(t.Context(), questionAbout(id), always)
			must(t, err)
			if !row.answered {
				if !bytes.Equal(answer.Body, issuance.OCSPUnauthorized) || !answer.ThisUpdate.IsZero() {
					t.Errorf("answered %x", answer.Body)
				}
				return
			}
			got, err := ocsp.ParseResponse(answer.Body, g1)
			must(t, err)
			if got.Status != ocsp.Good || got.SerialNumber.Cmp(serial) != 0 || !bytes.Contains(answer.Body, id) {
				t.Errorf("status %d, the ID repeated: %t", got.Status, bytes.Contains(answer.Body, id))
			}
			if slices.Contains([]x509.SignatureAlgorithm{x509.SHA1WithRSA, x509.ECDSAWithSHA1}, got.SignatureAlgorithm) {
				t.Errorf("signed with %s", got.SignatureAlgorithm)
			}
		})
	}
}

// TestThreatST4: of several IDs each is answered, in its place, or none.
func TestThreatST4(t *testing.T) {
	o := catest.New(t, catest.Options{})
	good, gone := o.Issued(catest.Application(1)), o.Issued(catest.Application(2))
	revoke(t, o, gone.Serial, pki.KeyCompromise)
	a := newAnswers(t, o, newView(t, o, o.Now))
	g1 := o.CAs[issuance.G1]
	number := func(serial string) *big.Int {
		n, err := pki.ParseSerial(serial)
		must(t, err)
		return n
	}
	id := func(serial string) []byte { return certID(crypto.SHA256, g1, g1, number(serial)) }
	yes, no, unknown := id(good.Serial), id(gone.Serial), id("7f01")
	foreign := certID(crypto.SHA256, o.CAs[issuance.TLS], o.CAs[issuance.TLS], number(good.Serial))
	for _, row := range []struct {
		what string
		ids  [][]byte
		want []byte // nil: every ID is answered
	}{
		{"one", [][]byte{yes}, nil},
		{"two", [][]byte{yes, no}, nil},
		{"revoked first", [][]byte{no, yes}, nil},
		{"the same twice", [][]byte{no, yes, no}, nil},
		{"eight", [][]byte{yes, no, unknown, yes, no, unknown, yes, no}, nil},
		{"nine", slices.Repeat([][]byte{yes}, 9), issuance.OCSPMalformed},
		{"none", nil, issuance.OCSPMalformed},
		{"one of another issuer", [][]byte{yes, foreign, no}, issuance.OCSPUnauthorized},
	} {
		t.Run(row.what, func(t *testing.T) {
			answer, err := a.Answer(t.Context(), questionAbout(row.ids...), always)
			must(t, err)
			if row.want != nil {
				if !bytes.Equal(answer.Body, row.want) {
					t.Errorf("answered %x", answer.Body)
				}
				return
			}
			rest := answer.Body
			for n, id := range row.ids { // in the order of the question
				at := bytes.Index(rest, id)
				if at < 0 {
					t.Fatalf("ID %d is not answered in its place", n)
				}
				rest = rest[at+len(id):]
			}
			for serial, status := range map[string]int{good.Serial: ocsp.Good, gone.Serial: ocsp.Revoked, "7f01": ocsp.Unknown} {
				if !slices.ContainsFunc(row.ids, func(asked []byte) bool { return bytes.Equal(asked, id(serial)) }) {
					continue
				}
				got, err := ocsp.ParseResponseForCert(answer.Body, &x509.Certificate{SerialNumber: number(serial)}, g1)
				if err != nil || got.Status != status {
					t.Errorf("%s: status %v, %v", serial, got, err)
				}
			}
		})
	}
}
