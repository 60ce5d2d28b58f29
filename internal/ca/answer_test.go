package ca_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"inkan/internal/ca"
	"inkan/internal/ca/catest"
	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// answers is the OCSP office of one node.
type answers struct {
	*ca.Answers
	o *catest.Office
}

func newAnswers(t *testing.T, o *catest.Office, v *ca.View) answers {
	t.Helper()
	key := o.Keyed(pki.P256)
	cert, err := o.CA.IssueOwn(t.Context(), issuance.ProfileOCSP, "OCSP Responder 1", key.Public(), nil, nil)
	must(t, err)
	return answersWith(t, o, v, key, cert)
}

// answersWith starts with the responder of an earlier run.
func answersWith(t *testing.T, o *catest.Office, v *ca.View, key crypto.Signer, cert *x509.Certificate) answers {
	t.Helper()
	issuer, err := issuance.NewIssuer(issuance.G1, o.CAs[issuance.G1], catest.Config)
	must(t, err)
	a := answers{ca.NewAnswers(v, issuer, o.Clock.Now), o}
	must(t, a.UseResponder(cert, key))
	return a
}

func always() bool { return true }
func never() bool  { return false }

// ask gives an answer that verifies.
func (a answers) ask(t *testing.T, question []byte) *ocsp.Response {
	t.Helper()
	answer, err := a.Answer(t.Context(), question, always)
	must(t, err)
	got, err := ocsp.ParseResponse(answer.Body, a.o.CAs[issuance.G1])
	must(t, err)
	if !got.ThisUpdate.Equal(answer.ThisUpdate) || !got.NextUpdate.Equal(answer.NextUpdate) {
		t.Errorf("body says %s to %s, headers would say %s to %s", got.ThisUpdate, got.NextUpdate, answer.ThisUpdate, answer.NextUpdate)
	}
	if answer.ETag != ca.ETag(answer.Body) {
		t.Errorf("ETag %s of another body", answer.ETag)
	}
	return got
}

// question asks about one serial of G1.
func question(t *testing.T, o *catest.Office, serial string) []byte {
	t.Helper()
	n, err := pki.ParseSerial(serial)
	must(t, err)
	return questionOf(t, o, n, issuance.G1, nil)
}

func questionOf(t *testing.T, o *catest.Office, serial *big.Int, issuer string, nonce []byte) []byte {
	t.Helper()
	leaf := *o.CAs[issuance.G1]
	leaf.SerialNumber = serial
	der, err := ocsp.CreateRequest(&leaf, o.CAs[issuer], &ocsp.RequestOptions{Hash: crypto.SHA256})
	must(t, err)
	if nonce == nil {
		return der
	}
	in := cryptobyte.String(der)
	var outer, tbs cryptobyte.String
	if !in.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1(&tbs, asn1.SEQUENCE) {
		t.Fatal("request does not parse")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddASN1(asn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier([]int{1, 3, 6, 1, 5, 5, 7, 48, 1, 2})
						b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

func TestAnswers(t *testing.T) {
	o := catest.New(t, catest.Options{})
	good := o.Issued(catest.Application(1))
	gone := o.Issued(catest.Application(2))
	held := o.Issued(catest.Application(3))
	revoked := revoke(t, o, gone.Serial, pki.KeyCompromise)
	revoke(t, o, held.Serial, pki.CertificateHold)
	v := newView(t, o, o.Now)
	a := newAnswers(t, o, v)
	for _, row := range []struct {
		name, serial string
		status       int
		reason       pki.Reason
	}{
		{"good", good.Serial, ocsp.Good, 0},
		{"revoked", gone.Serial, ocsp.Revoked, pki.KeyCompromise},
		{"hold", held.Serial, ocsp.Revoked, pki.CertificateHold},
		{"never issued", "7f01", ocsp.Unknown, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := a.ask(t, question(t, o, row.serial))
			if got.Status != row.status || got.RevocationReason != int(row.reason) {
				t.Errorf("status %d, reason %d", got.Status, got.RevocationReason)
			}
			if got.NextUpdate.Sub(got.ThisUpdate) != ca.OCSPLife {
				t.Errorf("to be believed for %s", got.NextUpdate.Sub(got.ThisUpdate))
			}
			if row.name == "revoked" && !got.RevokedAt.Equal(revoked.RevokedAt.Truncate(time.Second)) {
				t.Errorf("revoked at %s, want %s", got.RevokedAt, revoked.RevokedAt)
			}
		})
	}
	n, err := pki.ParseSerial(good.Serial)
	must(t, err)
	for name, row := range map[string]struct{ question, want []byte }{
		"another CA":   {questionOf(t, o, n, issuance.Operations, nil), issuance.OCSPUnauthorized},
		"not DER":      {[]byte("GET /"), issuance.OCSPMalformed},
		"nothing":      {nil, issuance.OCSPMalformed},
		"far too long": {make([]byte, issuance.MaxOCSPRequest+1), issuance.OCSPMalformed},
	} {
		answer, err := a.Answer(t.Context(), row.question, always)
		if err != nil || !bytes.Equal(answer.Body, row.want) || !answer.ThisUpdate.IsZero() {
			t.Errorf("%s: %x, %v", name, answer.Body, err)
		}
	}
}

// ST10: a node without a responder key, or whose responder has outlived its seven days,
// says tryLater.
func TestThreatST10NoAnswerWithoutAResponder(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	v := newView(t, o, o.Now)
	issuer, err := issuance.NewIssuer(issuance.G1, o.CAs[issuance.G1], catest.Config)
	must(t, err)
	ask := question(t, o, r.Serial)
	answer, err := ca.NewAnswers(v, issuer, o.Now).Answer(t.Context(), ask, always)
	if err != nil || !bytes.Equal(answer.Body, issuance.OCSPTryLater) {
		t.Errorf("without: %x, %v", answer.Body, err)
	}
	a := newAnswers(t, o, v)
	o.Advance(8 * 24 * time.Hour)
	must(t, v.Catch(t.Context()))
	answer, err = a.Answer(t.Context(), ask, always)
	if err != nil || !bytes.Equal(answer.Body, issuance.OCSPTryLater) {
		t.Errorf("expired: %x, %v", answer.Body, err)
	}
}

// ST2: an answer with a nonce is fresh and carries it.
func TestThreatST2NonceIsEchoed(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	a := newAnswers(t, o, newView(t, o, o.Now))
	n, err := pki.ParseSerial(r.Serial)
	must(t, err)
	nonce := bytes.Repeat([]byte{0xa5, 0x5a}, 16)
	question := questionOf(t, o, n, issuance.G1, nonce)
	first, err := a.Answer(t.Context(), question, always)
	must(t, err)
	second, err := a.Answer(t.Context(), question, always)
	must(t, err)
	if !bytes.Contains(first.Body, nonce) || !bytes.Contains(second.Body, nonce) {
		t.Error("the nonce is missing")
	}
	if bytes.Equal(first.Body, second.Body) {
		t.Error("an answer with a nonce was given twice")
	}
	a.ask(t, question)
}

// A kept answer serves again for a while, and never after something changed.
func TestKeptAnswers(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	v := newView(t, o, o.Now)
	a := newAnswers(t, o, v)
	ask := question(t, o, r.Serial)
	body := func() string {
		t.Helper()
		must(t, v.Catch(t.Context()))
		answer, err := a.Answer(t.Context(), ask, always)
		must(t, err)
		return string(answer.Body)
	}
	first := body()
	o.Advance(10 * time.Second)
	if body() != first {
		t.Error("an answer of 10 s was made anew")
	}
	o.Advance(15 * time.Second)
	if body() == first {
		t.Error("an answer of 25 s was given again")
	}
	if got := a.ask(t, ask); got.Status != ocsp.Good {
		t.Fatalf("status %d", got.Status)
	}
	revoke(t, o, r.Serial, pki.KeyCompromise)
	must(t, v.Catch(t.Context()))
	if got := a.ask(t, ask); got.Status != ocsp.Revoked {
		t.Error("the kept answer outlived the revocation")
	}
	key := o.Keyed(pki.P256)
	cert, err := o.CA.IssueOwn(t.Context(), issuance.ProfileOCSP, "OCSP Responder 2", key.Public(), nil, nil)
	must(t, err)
	before := body()
	must(t, a.UseResponder(cert, key))
	if body() == before {
		t.Error("the answer of the old responder was given again")
	}
}

// RV6: a revocation dated forward bounds how long good may be believed, at once, also
// where an answer was kept; from that moment on it is revoked.
func TestThreatRV6DatedForward(t *testing.T) {
	o := catest.New(t, catest.Options{})
	r := o.Issued(catest.Application(1))
	v := newView(t, o, o.Now)
	a := newAnswers(t, o, v)
	ask := question(t, o, r.Serial)
	a.ask(t, ask) // kept
	effective := o.Now().Add(30 * time.Second).Truncate(time.Second)
	must(t, o.DB.Update(t.Context(), func(tx *store.Tx) error {
		serial, err := pki.ParseSerial(r.Serial)
		if err != nil {
			return err
		}
		_, _, err = tx.Audit(catest.Officer, "certificate.revoked", r.Serial, nil)
		if err != nil {
			return err
		}
		return tx.RevokeCertificate(pki.Certificate{Serial: r.Serial, Reason: pki.CessationOfOperation, EffectiveAt: effective}, issuance.EncodeEntry(serial, effective, pki.CessationOfOperation, time.Time{}))
	}))
	for _, row := range []struct {
		after  time.Duration
		status int
	}{{time.Second, ocsp.Good}, {28 * time.Second, ocsp.Good}, {2 * time.Second, ocsp.Revoked}} {
		o.Advance(row.after)
		must(t, v.Catch(t.Context()))
		got := a.ask(t, ask)
		if got.Status != row.status {
			t.Errorf("%s before: status %d, want %d", effective.Sub(o.Now()), got.Status, row.status)
		}
		if got.Status == ocsp.Good && got.NextUpdate.After(effective) {
			t.Errorf("good may be believed until %s, the revocation counts from %s", got.NextUpdate, effective)
		}
	}
}
