package pki

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Release is what is signed about one version of the program for terminals
// (クライアントソフト), inside a signed note (golang.org/x/mod/sumdb/note): what a server
// may give out, and what a terminal may take (threat AG7).
type Release struct {
	Version Version
	Minimum Version // older ones should not be used any more
	Until   time.Time
	Files   []ReleaseFile
}

// ReleaseFile is one file of a release, for one kind of terminal.
type ReleaseFile struct {
	Name   string
	Size   int64
	SHA256 [32]byte
}

// Version is a program's version as installers compare it.
type Version [3]int

// ReleaseNote is the name of the signed note beside the files.
const ReleaseNote = "release.note"

// ReleaseDays is the longest time for which a release may be signed: an old one that
// somebody puts back is refused after that (threat AG7).
const ReleaseDays = 90

// Bounds of a release: a server keeps its files in memory.
const (
	MaxReleaseFile  = 64 << 20
	maxReleaseFiles = 8
	maxReleaseText  = 16 << 10
)

const releaseHead = "inkan-release/v1"

var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// Compare is negative where v is older than other.
func (v Version) Compare(other Version) int { return slices.Compare(v[:], other[:]) }

// ParseVersion reads "1.2.3".
func ParseVersion(text string) (Version, error) {
	var v Version
	parts := strings.Split(text, ".")
	if len(parts) != len(v) {
		return Version{}, E(Invalid, "release.version").With("Version", text)
	}
	for n, part := range parts {
		number, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return Version{}, E(Invalid, "release.version").With("Version", text)
		}
		v[n] = int(number)
	}
	if v.String() != text { // 1.02.3
		return Version{}, E(Invalid, "release.version").With("Version", text)
	}
	return v, nil
}

// Text gives the lines to be signed.
func (r Release) Text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\nversion %s\nminimum %s\nuntil %s\n", releaseHead, r.Version, r.Minimum, r.Until.UTC().Format(time.RFC3339))
	for _, f := range r.Files {
		fmt.Fprintf(&out, "file %x %d %s\n", f.SHA256, f.Size, f.Name)
	}
	return out.String()
}

// ParseRelease reads the signed lines. There is one way to write a release, so what it
// accepts is exactly what Text gives.
func ParseRelease(text string) (Release, error) {
	malformed := E(Invalid, "release.malformed")
	var r Release
	lines := strings.Split(text, "\n")
	if len(text) > maxReleaseText || len(lines) < 6 || lines[0] != releaseHead {
		return Release{}, malformed
	}
	var errs [3]error
	r.Version, errs[0] = ParseVersion(strings.TrimPrefix(lines[1], "version "))
	r.Minimum, errs[1] = ParseVersion(strings.TrimPrefix(lines[2], "minimum "))
	r.Until, errs[2] = time.Parse(time.RFC3339, strings.TrimPrefix(lines[3], "until "))
	for _, err := range errs {
		if err != nil {
			return Release{}, malformed.Because(err)
		}
	}
	for _, line := range lines[4 : len(lines)-1] {
		f, ok := parseReleaseFile(line)
		if !ok {
			return Release{}, malformed
		}
		r.Files = append(r.Files, f)
	}
	err := r.Check()
	if err != nil {
		return Release{}, err
	}
	if r.Text() != text {
		return Release{}, malformed
	}
	return r, nil
}

func parseReleaseFile(line string) (ReleaseFile, bool) {
	parts := strings.Split(line, " ")
	if len(parts) != 4 || parts[0] != "file" {
		return ReleaseFile{}, false
	}
	sum, err := hex.DecodeString(parts[1])
	if err != nil || len(sum) != 32 {
		return ReleaseFile{}, false
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	return ReleaseFile{Name: parts[3], Size: size, SHA256: [32]byte(sum)}, err == nil
}

// Check says whether a release makes sense, whenever it is.
func (r Release) Check() error {
	malformed := E(Invalid, "release.malformed")
	if r.Minimum.Compare(r.Version) > 0 || len(r.Files) == 0 || len(r.Files) > maxReleaseFiles {
		return malformed
	}
	seen := map[string]bool{}
	for _, f := range r.Files {
		name := strings.ToLower(f.Name) // a terminal may not tell them apart
		if !fileName.MatchString(f.Name) || seen[name] || name == ReleaseNote {
			return E(Invalid, "release.file_name").With("File", f.Name)
		}
		if f.Size < 1 || f.Size > MaxReleaseFile {
			return E(Invalid, "release.file_size").With("File", f.Name).With("MB", MaxReleaseFile>>20)
		}
		seen[name] = true
	}
	return nil
}

// Current says whether a release may be given out at a time.
func (r Release) Current(at time.Time) error {
	switch {
	case !at.Before(r.Until):
		return E(Gone, "release.expired").With("Until", r.Until)
	case r.Until.Sub(at) > (ReleaseDays+1)*24*time.Hour: // a day for clocks that differ
		return E(Invalid, "release.far").With("Until", r.Until).With("Days", ReleaseDays)
	}
	return nil
}
