package release_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/internal/pki"
	"inkan/internal/release"
)

var start = time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)

const client, other = "inkan-agent-1.2.0-windows.msi", "inkan-agent-1.2.0-linux.tar.gz"

// shop is a directory of downloads and who signs for it.
type shop struct {
	t       *testing.T
	dir     string
	private pki.Secret
	public  string
	now     time.Time
	shelf   *release.Shelf
}

func open(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, dir: filepath.Join(t.TempDir(), "downloads"), now: start}
	s.private, s.public = key(t)
	s.shelf = shelf(s, s.public)
	return s
}

func key(t *testing.T) (pki.Secret, string) {
	t.Helper()
	private, public, err := release.NewKey("test-release")
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func shelf(s *shop, public ...string) *release.Shelf {
	keys, err := release.ParseKeys(public)
	if err != nil {
		s.t.Fatal(err)
	}
	return release.NewShelf(s.dir, keys, func() time.Time { return s.now })
}

func (s *shop) put(name, content string) {
	s.t.Helper()
	err := os.MkdirAll(s.dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o644)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// describe is a release of files with the given contents.
func describe(contents map[string]string) pki.Release {
	r := pki.Release{Version: pki.Version{1, 2, 0}, Minimum: pki.Version{1, 0, 0}, Until: start.AddDate(0, 0, 90)}
	for _, name := range []string{client, other} {
		content, ok := contents[name]
		if ok {
			r.Files = append(r.Files, pki.ReleaseFile{Name: name, Size: int64(len(content)), SHA256: sha256.Sum256([]byte(content))})
		}
	}
	return r
}

func (s *shop) sign(r pki.Release, private pki.Secret) {
	s.t.Helper()
	signed, err := release.Sign(r, private)
	if err != nil {
		s.t.Fatal(err)
	}
	s.put(pki.ReleaseNote, string(signed))
}

// publish puts both files and a note that vouches for them.
func (s *shop) publish() {
	contents := map[string]string{client: "windows", other: "linux"}
	for name, content := range contents {
		s.put(name, content)
	}
	s.sign(describe(contents), s.private)
}

// codes lists what an error is about, whatever joins and wraps it.
func codes(err error) string {
	if err == nil {
		return ""
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return pki.CodeOf(err)
	}
	var out []string
	for _, one := range joined.Unwrap() {
		out = append(out, codes(one))
	}
	return strings.Join(out, " ")
}

// Threat AG7: what is not signed for by a key of ours, whole, and now, is not given out,
// and is told.
func TestThreatAG7(t *testing.T) {
	tests := []struct {
		name    string
		change  func(s *shop)
		offered string // names, with spaces
		told    string // codes
	}{
		{"as it was signed", func(*shop) {}, client + " " + other, ""},
		{"no directory", func(s *shop) { _ = os.RemoveAll(s.dir) }, "", ""},
		{"empty directory", func(s *shop) { _ = os.RemoveAll(s.dir); _ = os.Mkdir(s.dir, 0o700) }, "", ""},
		{"unsigned", func(s *shop) { _ = os.Remove(filepath.Join(s.dir, pki.ReleaseNote)) }, "", "release.unsigned"},
		{"signed by a stranger", func(s *shop) {
			private, _ := key(s.t)
			s.sign(describe(map[string]string{client: "windows"}), private)
		}, "", "release.signature"},
		{"no key configured", func(s *shop) { s.shelf = shelf(s) }, "", "release.signature"},
		{"signed by the second of our keys", func(s *shop) { _, old := key(s.t); s.shelf = shelf(s, old, s.public) }, client + " " + other, ""},
		{"note changed", func(s *shop) {
			note, _ := os.ReadFile(filepath.Join(s.dir, pki.ReleaseNote))
			s.put(pki.ReleaseNote, strings.Replace(string(note), "version 1.2.0", "version 1.3.0", 1))
		}, "", "release.signature"},
		{"another content of the same size", func(s *shop) { s.put(client, "w1ndows") }, other, "release.mismatch"},
		{"content cut off", func(s *shop) { s.put(client, "wind") }, other, "release.mismatch"},
		{"content appended to", func(s *shop) { s.put(client, "windows and more") }, other, "release.mismatch"},
		{"a file is missing", func(s *shop) { _ = os.Remove(filepath.Join(s.dir, client)) }, other, "release.missing"},
		{"a link instead of a file", func(s *shop) {
			path := filepath.Join(s.dir, client)
			_ = os.WriteFile(s.dir+"-elsewhere", []byte("windows"), 0o600)
			_ = os.Remove(path)
			_ = os.Symlink(s.dir+"-elsewhere", path)
		}, other, "release.missing"},
		{"a file more", func(s *shop) { s.put("setup.exe", "x") }, client + " " + other, "release.unlisted"},
		{"a copy under way", func(s *shop) { s.put(".setup.exe.part", "x") }, client + " " + other, ""},
		{"the last second", func(s *shop) { s.now = start.AddDate(0, 0, 90).Add(-time.Second) }, client + " " + other, ""},
		{"over", func(s *shop) { s.now = start.AddDate(0, 0, 90) }, "", "release.expired"},
		{"over, and a file changed", func(s *shop) { s.put(client, "w1ndows"); s.now = start.AddDate(1, 0, 0) }, "", "release.expired release.mismatch"},
		{"signed for longer than 90 days", func(s *shop) { s.now = start.AddDate(0, 0, -2) }, "", "release.far"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			s.publish()
			tt.change(s)
			err := s.shelf.Look()
			if codes(err) != tt.told {
				t.Errorf("told %q, want %q: %v", codes(err), tt.told, err)
			}
			if again := s.shelf.Look(); codes(again) != tt.told {
				t.Errorf("told %q at the second look, want %q", codes(again), tt.told)
			}
			offer, ok := s.shelf.Offer()
			var names []string
			for _, f := range offer.Files {
				names = append(names, f.Name)
				if sha256.Sum256(f.Body) != f.SHA256 {
					t.Errorf("%s: other bytes than were signed for", f.Name)
				}
			}
			if strings.Join(names, " ") != tt.offered || ok != (tt.offered != "") {
				t.Errorf("offered %v, want %q", names, tt.offered)
			}
			if ok && (offer.Signer != "test-release" || offer.Version.String() != "1.2.0" || !bytes.Contains(offer.Note, []byte("— test-release "))) {
				t.Errorf("offer: %+v", offer)
			}
		})
	}
}

// What was checked is what is given, though the disk has other bytes meanwhile, and an
// offer ends at its second, not at the next look.
func TestThreatAG7BetweenLooks(t *testing.T) {
	s := open(t)
	s.publish()
	err := s.shelf.Look()
	if err != nil {
		t.Fatal(err)
	}
	s.put(client, "w1ndows")
	offer, ok := s.shelf.Offer()
	if !ok || string(offer.Files[0].Body) != "windows" {
		t.Errorf("%t, %q", ok, offer.Files[0].Body)
	}
	s.now = start.AddDate(0, 0, 90)
	_, ok = s.shelf.Offer()
	if ok {
		t.Error("offered when it was over")
	}
	s.now = start
	if codes(s.shelf.Look()) != "release.mismatch" {
		t.Error("the next look did not see the change")
	}
	s.publish()
	if err := s.shelf.Look(); err != nil {
		t.Errorf("repaired: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	private, _ := key(t)
	good := describe(map[string]string{client: "windows"})
	with := func(change func(*pki.Release)) pki.Release {
		r := good
		r.Files = append([]pki.ReleaseFile(nil), good.Files...)
		change(&r)
		return r
	}
	tests := []struct {
		name string
		r    pki.Release
		want string
	}{
		{"no file", with(func(r *pki.Release) { r.Files = nil }), "release.malformed"},
		{"minimum above the version", with(func(r *pki.Release) { r.Minimum = pki.Version{1, 2, 1} }), "release.malformed"},
		{"a path", with(func(r *pki.Release) { r.Files[0].Name = "../" + client }), "release.file_name"},
		{"a space", with(func(r *pki.Release) { r.Files[0].Name = "a b.msi" }), "release.file_name"},
		{"the note itself", with(func(r *pki.Release) { r.Files[0].Name = "Release.note" }), "release.file_name"},
		{"twice", with(func(r *pki.Release) { r.Files = append(r.Files, r.Files[0]) }), "release.file_name"},
		{"empty", with(func(r *pki.Release) { r.Files[0].Size = 0 }), "release.file_size"},
		{"too large", with(func(r *pki.Release) { r.Files[0].Size = pki.MaxReleaseFile + 1 }), "release.file_size"},
	}
	for _, tt := range tests {
		_, err := release.Sign(tt.r, private)
		if pki.CodeOf(err) != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	_, err := release.Sign(good, "PRIVATE+KEY+CANARY")
	if pki.CodeOf(err) != "release.key" || strings.Contains(fmt.Sprintf("%v %v", err, errors.Unwrap(err)), "CANARY") {
		t.Errorf("a broken key: %v", err)
	}
}
