// Package release keeps the program for terminals (クライアントソフト) that this server
// gives out: files in a directory, and beside them a note that is signed with a key kept
// off line.
//
// It owns the signing and the checking of that note and of the files. What a release
// says is pki.Release; whom it is given to, and with which words, the portal's. It never
// gives a byte that was not signed for (threat AG7).
package release

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"inkan/internal/pki"
)

// NewKey makes a key: the private half for a file that never sees a server, the public
// one for configurations.
func NewKey(name string) (private pki.Secret, public string, err error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", "", pki.E(pki.Invalid, "release.key").Because(err)
	}
	return pki.Secret(skey), vkey, nil
}

// Sign makes the note of a release.
func Sign(r pki.Release, private pki.Secret) ([]byte, error) {
	err := r.Check()
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(private.Reveal())
	if err != nil {
		return nil, pki.E(pki.Invalid, "release.key") // the cause may hold the key
	}
	signed, err := note.Sign(&note.Note{Text: r.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign release: %w", err)
	}
	return signed, nil
}

// File is a file whose bytes were signed for.
type File struct {
	pki.ReleaseFile
	Body []byte
}

// Offer is what may be given out.
type Offer struct {
	pki.Release
	Signer string // name of the key
	Note   []byte // what was signed, for programs that check it themselves
	Files  []File // those that verified; perhaps not all of the release's
}

// Shelf is the directory as it was last looked at. It holds the files in memory: what is
// given out is what was checked, whatever happens to the disk meanwhile.
type Shelf struct {
	dir  string
	keys []note.Verifier
	now  func() time.Time

	mu    sync.Mutex
	state string // of the directory, when it was last read
	offer *Offer // nil: nothing verified
	wrong error  // with the directory, whenever it is
}

// ParseKeys reads the public keys of a configuration.
func ParseKeys(public []string) ([]note.Verifier, error) {
	var out []note.Verifier
	for _, text := range public {
		v, err := note.NewVerifier(text)
		if err != nil {
			return nil, pki.E(pki.Invalid, "release.key").Because(err)
		}
		out = append(out, v)
	}
	return out, nil
}

// NewShelf opens nothing yet.
func NewShelf(dir string, keys []note.Verifier, now func() time.Time) *Shelf {
	return &Shelf{dir: dir, keys: keys, now: now}
}

// Offer gives what may be given out now.
func (s *Shelf) Offer() (Offer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offer == nil || len(s.offer.Files) == 0 || s.offer.Current(s.now()) != nil {
		return Offer{}, false
	}
	return *s.offer, true
}

// Look reads the directory where it changed, and says what in it must not be given out.
// An empty or missing directory is nothing wrong.
func (s *Shelf) Look() error {
	root, err := os.OpenRoot(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		s.keep("", nil, nil)
		return nil
	}
	if err != nil {
		return s.lose(fmt.Errorf("open directory of downloads: %w", err))
	}
	defer root.Close()
	files, state, err := list(root)
	if err != nil {
		return s.lose(fmt.Errorf("list downloads: %w", err))
	}
	s.mu.Lock()
	same := state == s.state
	s.mu.Unlock()
	if !same {
		offer, wrong := s.read(root, files)
		s.keep(state, offer, wrong)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.offer == nil {
		return s.wrong
	}
	return errors.Join(s.offer.Current(s.now()), s.wrong)
}

func (s *Shelf) keep(state string, offer *Offer, wrong error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.offer, s.wrong = state, offer, wrong
}

// lose offers nothing while the directory cannot be read.
func (s *Shelf) lose(err error) error {
	s.keep("", nil, err)
	return err
}

// list gives the files of the directory, and a text that changes when one of them does.
func list(root *os.Root) ([]string, string, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, "", err
	}
	var names []string
	var state strings.Builder
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue // of a copy that is under way
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		names = append(names, e.Name())
		fmt.Fprintf(&state, "%q %s %d %d\n", e.Name(), info.Mode(), info.Size(), info.ModTime().UnixNano())
	}
	return names, state.String(), nil
}

// read checks everything in the directory. The offer is nil without a release that one
// of our keys signed; an error tells every file that is left out.
func (s *Shelf) read(root *os.Root, files []string) (*Offer, error) {
	if len(files) == 0 {
		return nil, nil
	}
	text, err := readFile(root, pki.ReleaseNote, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pki.E(pki.Invalid, "release.unsigned").With("Files", strings.Join(files, ", "))
	}
	if err != nil {
		return nil, err
	}
	signed, err := note.Open(text, note.VerifierList(s.keys...))
	if err != nil {
		return nil, pki.E(pki.Forbidden, "release.signature").Because(err)
	}
	r, err := pki.ParseRelease(signed.Text)
	if err != nil {
		return nil, err
	}
	offer := &Offer{Release: r, Signer: signed.Sigs[0].Name, Note: text}
	var wrong []error
	for _, f := range r.Files {
		files = slices.DeleteFunc(files, func(name string) bool { return name == f.Name })
		body, err := readFile(root, f.Name, f.Size)
		switch {
		case err != nil:
			wrong = append(wrong, pki.E(pki.Invalid, "release.missing").With("File", f.Name).Because(err))
		case int64(len(body)) != f.Size || sha256.Sum256(body) != f.SHA256:
			wrong = append(wrong, pki.E(pki.Forbidden, "release.mismatch").With("File", f.Name))
		default:
			offer.Files = append(offer.Files, File{f, body})
		}
	}
	files = slices.DeleteFunc(files, func(name string) bool { return name == pki.ReleaseNote })
	if len(files) > 0 {
		wrong = append(wrong, pki.E(pki.Invalid, "release.unlisted").With("Files", strings.Join(files, ", ")))
	}
	return offer, errors.Join(wrong...)
}

var errNoFile = errors.New("not a plain file")

// readFile reads at most one byte more than limit, so that what is too long is seen.
// Links out of the directory, devices and pipes are not followed.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoFile
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return body, nil
}
