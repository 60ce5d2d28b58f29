package signer_test

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/issuance"
	"inkan/internal/keystore"
	"inkan/internal/pki"
	"inkan/internal/signer"
	"inkan/internal/testkit"
)

// one signs one request and gives the code of its refusal.
func one(t testing.TB, s keystore.Service, r keystore.SignRequest) keystore.SignResult {
	t.Helper()
	results, err := s.SignIntents(t.Context(), []keystore.SignRequest{r})
	must(t, err)
	if len(results) != 1 || (results[0].Code == "") == (len(results[0].Signature) == 0) {
		t.Fatalf("results %+v", results)
	}
	return results[0]
}

// CK1: what an edge under an attacker's control could ask for.
func TestThreatCK1Refusals(t *testing.T) { eachHome(t, threatCK1Refusals) }

func threatCK1Refusals(t *testing.T, h home) {
	o := newOfficeAt(t, keystore.ModeLive, h)
	s := o.open()
	first := o.request(1)
	if r := one(t, s, first); r.Code != "" {
		t.Fatalf("a good request was refused: %s", r.Code)
	}
	serial := serialOf(t, o, first)
	tests := []struct {
		name, code string // "profile.": whichever of the lint's
		make       func() keystore.SignRequest
	}{
		{"a CA below the issuing CA", "profile.", func() keystore.SignRequest {
			return with(o.request(10), forged(t, o, func(c *x509.Certificate) {
				c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
			}))
		}},
		{"the issuing CA itself", "profile.backdated", func() keystore.SignRequest {
			return with(o.request(11), o.certs[issuance.G1].RawTBSCertificate)
		}},
		{"a server certificate", "profile.", func() keystore.SignRequest {
			return with(o.request(12), forged(t, o, func(c *x509.Certificate) {
				c.ExtKeyUsage, c.DNSNames = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, []string{"www.example.jp"}
			}))
		}},
		{"an operator under the issuing CA", "signer.profile", func() keystore.SignRequest {
			r := o.prepare(issuance.ProfileOperator, 13, o.time.Now(), issuance.NewSerial().Bytes())
			r.Issuer = issuance.G1
			return r
		}},
		{"an operator as a holder", "profile.", func() keystore.SignRequest {
			r := o.prepare(issuance.ProfileOperator, 14, o.time.Now(), issuance.NewSerial().Bytes())
			return with(o.request(14), r.TBS)
		}},
		{"a holder under the Operations CA", "signer.profile", func() keystore.SignRequest {
			r := o.request(15)
			r.Issuer = issuance.Operations
			return r
		}},
		{"the root", "signer.issuer", func() keystore.SignRequest { r := o.request(16); r.Issuer = issuance.Root; return r }},
		{"an unknown issuer", "signer.issuer", func() keystore.SignRequest { r := o.request(17); r.Issuer = "g2"; return r }},
		{"an unknown profile", "signer.profile", func() keystore.SignRequest { r := o.request(18); r.Profile = "ca"; return r }},
		{"backdated", "profile.backdated", func() keystore.SignRequest {
			return o.prepare(issuance.ProfileHolder, 19, o.time.Now().Add(-2*time.Hour), issuance.NewSerial().Bytes())
		}},
		{"postdated", "profile.postdated", func() keystore.SignRequest {
			return o.prepare(issuance.ProfileHolder, 20, o.time.Now().Add(2*time.Hour), issuance.NewSerial().Bytes())
		}},
		{"a serial again with other content", "signer.serial", func() keystore.SignRequest {
			return o.prepare(issuance.ProfileHolder, 21, o.time.Now(), serial)
		}},
		{"a short serial", "profile.", func() keystore.SignRequest {
			return with(o.request(22), forged(t, o, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(1) }))
		}},
		{"another's subject", "profile.", func() keystore.SignRequest {
			return with(o.request(30), forged(t, o, func(c *x509.Certificate) { c.RawSubject, c.Subject.OrganizationalUnit = nil, nil }))
		}},
		{"a longer life", "profile.", func() keystore.SignRequest {
			return with(o.request(31), forged(t, o, func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(1, 0, 0) }))
		}},
		{"no intent leaf", "signer.intent", func() keystore.SignRequest { r := o.request(23); r.AuditLeaf = nil; return r }},
		{"a short intent leaf", "signer.intent", func() keystore.SignRequest { r := o.request(24); r.AuditLeaf = r.AuditLeaf[:31]; return r }},
		{"an empty intent leaf", "signer.intent", func() keystore.SignRequest { r := o.request(25); r.AuditLeaf = make([]byte, 32); return r }},
		{"a negative index", "signer.intent", func() keystore.SignRequest { r := o.request(26); r.AuditIndex = -1; return r }},
		{"another leaf at a known index", "signer.leaf", func() keystore.SignRequest { r := o.request(27); r.AuditIndex = 1; return r }},
		{"no bytes", "profile.", func() keystore.SignRequest { return with(o.request(28), nil) }},
		{"altered after lint", "profile.", func() keystore.SignRequest {
			r := o.request(29)
			r.TBS[len(r.TBS)-1] ^= 1
			return r
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, err := s.Info(t.Context())
			must(t, err)
			r := one(t, s, tt.make())
			if r.Code != tt.code && (tt.code != "profile." || !strings.HasPrefix(r.Code, tt.code)) {
				t.Errorf("code %q, want %q", r.Code, tt.code)
			}
			after, err := s.Info(t.Context())
			must(t, err)
			if after.Refused != before.Refused+1 || !strings.Contains(o.log.String(), "code="+r.Code) {
				t.Error("no alarm")
			}
		})
	}
	// The same bytes again is recovery after a crash, not a duplicate.
	if r := one(t, s, first); r.Code != "" {
		t.Errorf("recovery was refused: %s", r.Code)
	}
	// One bad item does not harm its neighbours, and they come back in order.
	batch := []keystore.SignRequest{o.request(40), with(o.request(41), nil), o.request(42)}
	results, err := s.SignIntents(t.Context(), batch)
	must(t, err)
	for i, want := range []string{"", "profile.tbs", ""} {
		if results[i].Code != want {
			t.Errorf("item %d: %q", i, results[i].Code)
		}
		if want == "" {
			_, err = o.issuers[issuance.G1].Assemble(batch[i].TBS, results[i].Signature)
			must(t, err)
		}
	}
	// Twice the same serial within one batch: the first wins.
	a, b := o.request(50), o.request(51)
	b.TBS = o.prepare(issuance.ProfileHolder, 51, o.time.Now(), serialOf(t, o, a)).TBS
	results, err = s.SignIntents(t.Context(), []keystore.SignRequest{a, b})
	must(t, err)
	if results[0].Code != "" || results[1].Code != "signer.serial" {
		t.Errorf("results %+v", results)
	}
}

// CK1: issuers configured as a demo do not make a live vault backdate.
func TestThreatCK1LiveVaultDoesNotBackdate(t *testing.T) {
	for mode, code := range map[string]string{keystore.ModeLive: "profile.backdated", keystore.ModeDemo: ""} {
		o := newOffice(t, mode)
		o.issuers = map[string]*issuance.Issuer{issuance.G1: o.edge[issuance.G1]}
		s := o.open()
		r := one(t, s, o.prepare(issuance.ProfileHolder, 1, start.AddDate(0, -3, 0), issuance.NewSerial().Bytes()))
		if r.Code != code {
			t.Errorf("%s: code %q, want %q", mode, r.Code, code)
		}
		info, err := s.Info(t.Context())
		must(t, err)
		if info.Mode != mode || info.InstanceID != "test-1" {
			t.Errorf("info %+v", info)
		}
	}
}

func TestThreatCK1Rate(t *testing.T) { eachHome(t, threatCK1Rate) }

func threatCK1Rate(t *testing.T, h home) {
	o := newOfficeAt(t, keystore.ModeDemo, h)
	o.rate = 3
	s := o.open()
	codes := func(from int64, n int) []string {
		var out []string
		for i := range n {
			out = append(out, one(t, s, o.request(from+int64(i))).Code)
		}
		return out
	}
	got := codes(1, 5)
	if !slices.Equal(got, []string{"", "", "", "signer.rate", "signer.rate"}) {
		t.Errorf("got %q", got)
	}
	// Another profile has a budget of its own.
	if r := one(t, s, o.prepare(issuance.ProfileOperator, 9, o.time.Now(), issuance.NewSerial().Bytes())); r.Code != "" {
		t.Errorf("operator: %s", r.Code)
	}
	o.time.Advance(20 * time.Second)
	got = codes(10, 2)
	if !slices.Equal(got, []string{"", "signer.rate"}) {
		t.Errorf("after 20 s: %q", got)
	}
	for n, jump := range []time.Duration{10 * time.Minute, -10 * time.Minute} { // gives nothing away, and locks nobody out
		o.time.Jump(jump)
		got = codes(15+int64(n), 1)
		if !slices.Equal(got, []string{"signer.rate"}) {
			t.Errorf("after the clock was put by %s: %q", jump, got)
		}
	}
	o.time.Advance(time.Minute)
	got = codes(20, 4)
	if !slices.Equal(got, []string{"", "", "", "signer.rate"}) {
		t.Errorf("a minute later: %q", got)
	}
}

// CK6: the key of another certificate under the right name is not used.
func TestThreatCK6WrongKey(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	vault, err := keystore.OpenVault(o.dir, o.pass)
	must(t, err)
	other, err := issuance.GenerateKey(pki.P256)
	must(t, err)
	must(t, vault.AddKey("other", other))
	cfg := o.config()
	for uri, code := range map[string]string{
		keystore.KeyURI("other"): "signer.key_differs", keystore.KeyURI("absent"): "vault.missing", "pkcs11:token=x": "token.uri",
	} {
		cfg.Keys = map[string]string{issuance.G1: uri}
		_, err = signer.New(cfg)
		wantCode(t, err, code)
	}
	o.open() // the lock was given back each time
}

// ST8: numbers of CRLs only grow, whatever the database says.
func TestThreatST8CRLNumbers(t *testing.T) { eachHome(t, threatST8CRLNumbers) }

func threatST8CRLNumbers(t *testing.T, h home) {
	o := newOfficeAt(t, keystore.ModeLive, h)
	s := o.open()
	now := start.Unix()
	first := o.crl(issuance.G1, now, start)
	signature, err := s.SignCRL(t.Context(), issuance.G1, first)
	must(t, err)
	_, err = o.issuers[issuance.G1].AssembleCRL(bytes.Clone(first), signature)
	must(t, err)
	_, err = s.SignCRL(t.Context(), issuance.G1, first) // the answer was lost
	must(t, err)
	_, err = s.SignCRL(t.Context(), issuance.Operations, o.crl(issuance.Operations, 7, start))
	must(t, err)
	check := func(s keystore.Service) {
		t.Helper()
		for _, tt := range []struct {
			name, issuer, code string
			tbs                []byte
		}{
			{"same number, other content", issuance.G1, "signer.crl_number", o.crl(issuance.G1, now, start)},
			{"smaller number", issuance.G1, "signer.crl_number", o.crl(issuance.G1, now-1, start)},
			{"leap", issuance.G1, "signer.crl_number", o.crl(issuance.G1, now+100_000, start)},
			{"old", issuance.G1, "signer.crl_time", o.crl(issuance.G1, now+5, start.Add(-2*time.Hour))},
			{"of the future", issuance.G1, "signer.crl_time", o.crl(issuance.G1, now+5, start.Add(2*time.Hour))},
			{"another issuer's", issuance.G1, "crl.tbs", o.crl(issuance.TLS, now+5, start)},
			{"the root's", issuance.Root, "signer.issuer", o.crl(issuance.Root, now+5, start)},
			{"not a CRL", issuance.G1, "crl.tbs", o.request(1).TBS},
		} {
			_, err := s.SignCRL(t.Context(), tt.issuer, tt.tbs)
			if pki.CodeOf(err) != tt.code {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.code)
			}
		}
		info, err := s.Info(t.Context())
		must(t, err)
		if info.CRLNumbers[issuance.G1] != now || info.CRLNumbers[issuance.Operations] != 7 {
			t.Errorf("high-water %+v", info.CRLNumbers)
		}
	}
	check(s)
	must(t, s.Close())
	s = o.open() // the journal remembers
	check(s)
	_, err = s.SignCRL(t.Context(), issuance.G1, o.crl(issuance.G1, now+1, start))
	must(t, err)
}

// AU1, AU2: what is signed extends what was signed before, by proof; also after a restart,
// in a new segment of the journal, and with that segment alone.
func TestThreatAU2Checkpoints(t *testing.T) {
	o := newOffice(t, keystore.ModeDemo)
	s := o.open()
	info, err := s.Info(t.Context())
	must(t, err)
	verifier, err := note.NewVerifier(info.AuditVerifierKey)
	must(t, err)
	signed, err := s.SignCheckpoint(t.Context(), 0, treeOf("tree", 1, 50), nil)
	must(t, err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	must(t, err)
	tree, err := pki.ParseCheckpoint(opened.Text)
	must(t, err)
	if !tree.Same(treeOf("tree", 1, 50)) || tree.Origin != "inkan/test-1" || verifier.Name() != "inkan/test-1" {
		t.Errorf("tree %+v of %s", tree, verifier.Name())
	}
	check := func(s keystore.Service, last int64) { // signed at 50 for number 1, 51 for 2 and so on
		t.Helper()
		size := 49 + last
		before, err := s.Info(t.Context())
		must(t, err)
		forged := slices.Clone(proofOf("tree", size, 60))
		forged[0][0] ^= 1
		alarms := int64(0)
		for _, tt := range []struct {
			name  string
			after int64
			next  pki.Checkpoint
			proof tlog.TreeProof
			code  string
		}{
			{"the same again", last, treeOf("tree", last, size), nil, ""},
			{"the same again, by one who knows less", 0, treeOf("tree", last, size), nil, ""},
			{"another of the size", last, treeOf("fork", last+1, size), nil, "signer.tree_forked"},
			{"another of the size and number", last, treeOf("fork", last, size), nil, "signer.tree_moved"},
			{"a smaller one", last, treeOf("tree", last+1, size-1), nil, "signer.tree_smaller"},
			{"a smaller one with the proof between both", last, treeOf("tree", last+1, size-1), proofOf("tree", size-1, size), "signer.tree_smaller"},
			{"a larger one without a proof", last, treeOf("tree", last+1, 60), nil, "signer.tree_forked"},
			{"a larger one with another's proof", last, treeOf("tree", last+1, 60), proofOf("fork", size, 60), "signer.tree_forked"},
			{"a larger one with a changed proof", last, treeOf("tree", last+1, 60), forged, "signer.tree_forked"},
			{"a proof from elsewhere", last, treeOf("tree", last+1, 60), proofOf("tree", 40, 60), "signer.tree_forked"},
			{"a fork with its own proof", last, treeOf("fork", last+1, 60), proofOf("fork", size, 60), "signer.tree_forked"},
			{"a fork as the first", 0, treeOf("fork", 1, 60), nil, "signer.tree_moved"},
			{"one who does not know the newest", last - 1, treeOf("tree", last+1, 60), proofOf("tree", size, 60), "signer.tree_moved"},
			{"a number that is gone", last, treeOf("tree", last, 60), proofOf("tree", size, 60), "signer.tree_moved"},
			{"an empty tree", last, pki.Checkpoint{Number: last + 1}, nil, "signer.message"},
			{"a negative size", last, pki.Checkpoint{Number: last + 1, Size: -1}, nil, "signer.message"},
			{"no number", last, treeOf("tree", 0, 60), proofOf("tree", size, 60), "signer.message"},
		} {
			_, err := s.SignCheckpoint(t.Context(), tt.after, tt.next, tt.proof)
			switch {
			case err != nil && tt.code == "" || err == nil && tt.code != "":
				t.Errorf("%s: %v, want %q", tt.name, err, tt.code)
			case tt.code != "" && pki.CodeOf(err) != tt.code:
				t.Errorf("%s: %v, want %q", tt.name, err, tt.code)
			}
			if tt.code == "signer.tree_forked" || tt.code == "signer.tree_smaller" {
				alarms++
			}
		}
		info, err := s.Info(t.Context())
		must(t, err)
		if !info.Tree.Same(treeOf("tree", last, size)) || info.Refused != before.Refused+alarms {
			t.Errorf("remembers %+v, %d alarms after %d", info.Tree, info.Refused, before.Refused)
		}
	}
	check(s, 1)
	must(t, s.Close())
	s = o.open()
	check(s, 1)
	must(t, grow(s, 51))
	s.Turn() // rotation of the journal
	check(s, 2)
	must(t, grow(s, 52))
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(o.dir, "journal.000001"))) // moved to an archive
	s = o.open()
	check(s, 3)
	must(t, grow(s, 53))
}

// CK10: destruction is journaled, completed by the next start, and never too early.
func TestThreatCK10Epochs(t *testing.T) {
	o := newOffice(t, keystore.ModeLive)
	s := o.open()
	seal := func() keystore.HoldRequest {
		key, err := issuance.GenerateKey(pki.P256)
		must(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		blobs, err := s.SealPool(t.Context(), []keystore.PoolKey{{KeyID: "k1", PKCS8: der}})
		must(t, err)
		return keystore.HoldRequest{KeyID: "k1", RequestID: "202611230000001", PoolBlob: blobs[0]}
	}
	old := seal()
	_, err := s.DestroyEpochs(t.Context(), "2026-12")
	wantCode(t, err, "signer.epoch")
	o.time.Advance(150 * 24 * time.Hour) // 2027-04
	gone, err := s.DestroyEpochs(t.Context(), "2027-04")
	must(t, err)
	if len(gone) != 0 {
		t.Errorf("destroyed %v before the last deadline", gone)
	}
	o.time.Advance(60 * 24 * time.Hour) // 2027-06
	young := seal()
	path := filepath.Join(o.dir, "epochs", "2026-11.key")
	backup, err := os.ReadFile(path)
	must(t, err)
	gone, err = s.DestroyEpochs(t.Context(), "2027-06")
	must(t, err)
	if !slices.Equal(gone, []string{"2026-11"}) {
		t.Errorf("destroyed %v", gone)
	}
	for range 2 {
		_, err = s.Hold(t.Context(), old)
		wantCode(t, err, "pickup.key_destroyed")
		_, err = s.Hold(t.Context(), young)
		must(t, err)
		must(t, s.Close())
		must(t, os.WriteFile(path, backup, 0o600)) // an old backup of the signer's directory
		s = o.open()
	}
}

func with(r keystore.SignRequest, tbs []byte) keystore.SignRequest {
	r.TBS = tbs
	return r
}

func serialOf(t testing.TB, o *office, r keystore.SignRequest) []byte {
	t.Helper()
	linted, err := o.edge[r.Issuer].Relint(issuance.Profiles(config)[r.Profile], r.TBS, o.time.Now())
	must(t, err)
	return linted.Serial().Bytes()
}

// forged makes the bytes of a certificate that is a holder's but for one change.
func forged(t testing.TB, o *office, change func(c *x509.Certificate)) []byte {
	t.Helper()
	good := o.request(99)
	linted, err := o.edge[issuance.G1].Relint(issuance.Profiles(config)[issuance.ProfileHolder], good.TBS, o.time.Now())
	must(t, err)
	signature, err := linted.Sign(o.keys[issuance.G1])
	must(t, err)
	template, err := o.edge[issuance.G1].Assemble(good.TBS, signature)
	must(t, err)
	template.SerialNumber = issuance.NewSerial()
	change(template)
	return testkit.Sign(t, template, o.certs[issuance.G1], template.PublicKey, o.keys[issuance.G1]).RawTBSCertificate
}
