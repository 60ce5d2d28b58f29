package pki_test

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
)

var update = flag.Bool("update", false, "write the golden files")

// contents are one object of each kind, with every field of it.
func contents() map[string]interface{ Hash() string } {
	at := time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC)
	return map[string]interface{ Hash() string }{
		"application": pki.Application{Holder: pki.Holder{Kind: pki.Medical, Code: "0110119153"}, TerminalName: "受付1号機", Email: "clinic@example.jp",
			MaintenanceEmail: "it@example.jp", Department: "医事課", Phone: "03-0000-0000", PaymentMethod: 1, CSR: []byte{1, 2, 3}},
		"application, empty": pki.Application{},
		"case": pki.Revocation{ID: "R-20261123-000001", Serial: "0a0b", RequestID: "202611230000011", Proof: pki.ByLetter, AskedBy: "holder", Reason: pki.KeyCompromise,
			Email: "clinic@example.jp", State: pki.RevocationReceived, ReceivedAt: at, HeldAt: at, Dates: pki.RevocationDates{Effective: at, InvalidSince: at}, ProposedBy: "officer"},
		"grant": pki.Grant{ID: "0102030405060708", ClientID: "vendor", Kinds: []pki.HolderKind{pki.Medical, pki.Dental}, Prefectures: []string{"tokyo"},
			PerDay: 10, Total: 100, EndsAt: at, MadeBy: "admin"},
	}
}

// hashOnly lets a method be hashed as if it were the object's Hash.
type hashOnly string

func (h hashOnly) Hash() string { return string(h) }

// TestContentVectors: what was hashed once keeps its hash. A line of the file is never
// changed: a form that must change gets a new version, and new lines.
func TestContentVectors(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 4000, time.UTC)
	all := contents()
	all["origin"] = hashOnly(pki.Request{Kind: pki.Renewal, Source: pki.FromAPI, GrantID: "0102030405060708", ClientID: "vendor", Idempotency: "k1", Profile: "holder",
		KeyType: pki.RSA2048, Predecessor: "0a0b", Language: "ja", NotBefore: at}.Origin())
	all["revocation"] = hashOnly(pki.Revocation{Flow: "f", Serial: "0a0b", RequestID: "202611230000011", Proof: pki.ByLetter, AskedBy: "holder", Reason: pki.KeyCompromise,
		Email: "clinic@example.jp", Language: "ja"}.Content())
	const path = "testdata/content.txt"
	if *update {
		var out strings.Builder
		for _, name := range []string{"application", "application, empty", "case", "grant", "origin", "revocation"} {
			out.WriteString(name + "\t" + all[name].Hash() + "\n")
		}
		err := os.WriteFile(path, []byte(out.String()), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(raw)) {
		name, hash, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		seen[name] = true
		if all[name] == nil || all[name].Hash() != hash {
			t.Errorf("%s: another hash than %s", name, hash)
		}
	}
	for name := range all {
		if !seen[name] {
			t.Errorf("%s has no vector", name)
		}
	}
}

// thing is an object whose form got a field in version 2.
type thing struct{ name, fax string }

func thingContent(version int) pki.Content[thing] {
	fields := []pki.ContentField[thing]{
		{Name: "name", Since: 1, Value: func(v thing) string { return v.name }},
		{Name: "fax", Since: 2, Value: func(v thing) string { return v.fax }},
	}
	return pki.Content[thing]{Name: "thing", Version: version, Fields: fields[:version]}
}

// TestContentOfTwoVersions: a hash of yesterday proves the object of yesterday, and no
// object with a field that yesterday had no place for.
func TestContentOfTwoVersions(t *testing.T) {
	before, now := thingContent(1), thingContent(2)
	old := before.Hash(thing{name: "a"})
	text, ok := now.Text(thing{name: "受付", fax: "b\nc 1:d"}, 2)
	if want := "inkan thing 2\nname 6:受付\nfax 7:b\nc 1:d\n"; !ok || text != want {
		t.Errorf("text %q", text)
	}
	for what, f := range map[string]struct {
		v     thing
		other string
		same  bool
	}{
		"as it was":                      {thing{name: "a"}, old, true},
		"with a field that was not then": {thing{name: "a", fax: "1"}, old, false},
		"another":                        {thing{name: "b"}, old, false},
		"of today":                       {thing{name: "a", fax: "1"}, now.Hash(thing{name: "a", fax: "1"}), true},
		"of today, without the field":    {thing{name: "a"}, now.Hash(thing{name: "a"}), true},
		"as of today":                    {thing{name: "a"}, "2" + strings.TrimPrefix(old, "1"), false},
		"of a version to come":           {thing{name: "a"}, "3" + strings.TrimPrefix(old, "1"), false},
		"of version 0":                   {thing{name: "a"}, "0" + strings.TrimPrefix(old, "1"), false},
		"of version 01":                  {thing{name: "a"}, "0" + old, false},
		"of none":                        {thing{name: "a"}, "", false},
		"without its version":            {thing{name: "a"}, strings.TrimPrefix(old, "1:"), false},
	} {
		if same := now.HashAs(f.v, f.other) == f.other; same != f.same {
			t.Errorf("%s: %v", what, same)
		}
	}
}

// TestCaseHashSeesWhatIsDecided: whatever an officer was shown of a case changes its hash.
func TestCaseHashSeesWhatIsDecided(t *testing.T) {
	v := contents()["case"].(pki.Revocation)
	for what, change := range map[string]func(*pki.Revocation){
		"serial":   func(v *pki.Revocation) { v.Serial = "0a0c" },
		"reason":   func(v *pki.Revocation) { v.Reason = pki.Unspecified },
		"asker":    func(v *pki.Revocation) { v.AskedBy = "another" },
		"mail":     func(v *pki.Revocation) { v.Email = "x@example.jp" },
		"state":    func(v *pki.Revocation) { v.State = pki.RevocationDone },
		"hold":     func(v *pki.Revocation) { v.HeldAt = time.Time{} },
		"day":      func(v *pki.Revocation) { v.Dates.Effective = v.Dates.Effective.Add(time.Second) },
		"since":    func(v *pki.Revocation) { v.Dates.InvalidSince = time.Time{} },
		"proposal": func(v *pki.Revocation) { v.ProposedBy = "" },
	} {
		changed := v
		change(&changed)
		if changed.Is(v.Hash()) || !changed.Is(changed.Hash()) {
			t.Errorf("%s may change under a decision", what)
		}
	}
}
