package app

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
	"inkan/internal/release"
)

// releaseCommand makes and checks what the download page of the program for terminals
// gives out. Keys are made, and releases signed, on a machine without a network.
func (c *cli) releaseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "release", Short: "the program for terminals (クライアントソフト)"}
	cmd.AddCommand(c.releaseKeyCommand(), c.releaseSignCommand(), c.releaseVerifyCommand())
	return cmd
}

func (c *cli) releaseKeyCommand() *cobra.Command {
	var out, name string
	cmd := &cobra.Command{Use: "key", Short: "make a key that signs releases; print the line for [downloads] keys", RunE: func(*cobra.Command, []string) error {
		private, public, err := release.NewKey(name)
		if err != nil {
			return err
		}
		err = writeNew(out, private.Reveal()+"\n")
		if err != nil {
			return pki.E(pki.Conflict, "file.write").With("File", out).Because(err)
		}
		c.say("%s", public)
		return nil
	}}
	cmd.Flags().StringVar(&out, "out", "", "file for the private key")
	cmd.Flags().StringVar(&name, "name", "inkan-release", "name of the key, shown on the download page")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

// writeNew writes a secret file that must not exist yet.
func writeNew(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}

func (c *cli) releaseSignCommand() *cobra.Command {
	var key, version, minimum string
	var days int
	cmd := &cobra.Command{Use: "sign FILE…", Short: "sign files as one release: writes " + pki.ReleaseNote + " beside them", Args: cobra.MinimumNArgs(1)}
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		if days < 1 || days > pki.ReleaseDays {
			return &usageError{"release sign", fmt.Errorf("--days %d: 1 to %d", days, pki.ReleaseDays)}
		}
		r := pki.Release{Until: now().Add(time.Duration(days) * 24 * time.Hour).UTC().Truncate(time.Second)}
		var err error
		r.Version, err = pki.ParseVersion(version)
		r.Minimum = r.Version
		if err == nil && minimum != "" {
			r.Minimum, err = pki.ParseVersion(minimum)
		}
		if err != nil {
			return err
		}
		return c.sign(r, key, files)
	}
	flags := cmd.Flags()
	flags.StringVar(&key, "key", "", "file with the private key")
	flags.StringVar(&version, "version", "", "version of the program, as 1.2.3")
	flags.StringVar(&minimum, "minimum", "", "oldest version that may go on being used (default: this one)")
	flags.IntVar(&days, "days", pki.ReleaseDays, "days for which it may be given out")
	_ = cmd.MarkFlagRequired("key")
	_ = cmd.MarkFlagRequired("version")
	return cmd
}

func (c *cli) sign(r pki.Release, key string, files []string) error {
	dir := filepath.Dir(files[0])
	for _, path := range files {
		if filepath.Dir(path) != dir {
			return &usageError{"release sign", errors.New("the files of a release lie in one directory")}
		}
		f, err := describe(path)
		if err != nil {
			return err
		}
		r.Files = append(r.Files, f)
	}
	private, err := readReleaseKey(key)
	if err != nil {
		return err
	}
	text, err := release.Sign(r, private)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, pki.ReleaseNote)
	err = os.WriteFile(filepath.Join(dir, "."+pki.ReleaseNote), text, 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(dir, "."+pki.ReleaseNote), path) // never half a note
	}
	if err != nil {
		return pki.E(pki.Conflict, "file.write").With("File", path).Because(err)
	}
	c.say("%s: version %s, until %s", path, r.Version, r.Until.Format(time.RFC3339))
	return nil
}

func readReleaseKey(path string) (pki.Secret, error) {
	err := checkFileMode(path)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", pki.E(pki.Invalid, "file.unreadable").With("File", path).Because(err)
	}
	return pki.Secret(strings.TrimSpace(string(raw))), nil
}

// describe measures a file that will be signed.
func describe(path string) (pki.ReleaseFile, error) {
	unreadable := pki.E(pki.Invalid, "file.unreadable").With("File", path)
	file, err := os.Open(path)
	if err != nil {
		return pki.ReleaseFile{}, unreadable.Because(err)
	}
	defer file.Close()
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return pki.ReleaseFile{}, unreadable.Because(err)
	}
	return pki.ReleaseFile{Name: filepath.Base(path), Size: size, SHA256: [32]byte(hash.Sum(nil))}, nil
}

// releaseFileJSON is one file that would be given out.
type releaseFileJSON struct {
	Version string    `json:"version"`
	File    string    `json:"file"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Signer  string    `json:"signer"`
	Until   time.Time `json:"until"`
}

func (c *cli) releaseVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "verify", Short: "list what the download page gives out, and what it refuses", RunE: func(*cobra.Command, []string) error {
		dir, err := filepath.Abs(c.dir)
		if err != nil {
			return fmt.Errorf("resolve directory: %w", err)
		}
		config, err := loadConfig(dir)
		if err != nil {
			return err
		}
		shelf, err := config.shelf(dir, now)
		if err != nil {
			return err
		}
		wrong := shelf.Look()
		out := []releaseFileJSON{}
		offer, _ := shelf.Offer()
		for _, f := range offer.Files {
			out = append(out, releaseFileJSON{Version: offer.Version.String(), File: f.Name, Size: f.Size, SHA256: fmt.Sprintf("%x", f.SHA256), Signer: offer.Signer, Until: offer.Until})
		}
		if c.json {
			err = c.print(out)
		} else {
			err = c.table([]string{"VERSION", "FILE", "SIZE", "SHA-256", "SIGNED BY", "UNTIL"}, len(out), func(n int) []string {
				r := out[n]
				return []string{r.Version, r.File, fmt.Sprint(r.Size), r.SHA256, r.Signer, r.Until.Format(time.RFC3339)}
			})
		}
		return errors.Join(err, wrong)
	}}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// shelf is the directory of downloads.
func (c Config) shelf(dir string, now func() time.Time) (*release.Shelf, error) {
	keys, err := release.ParseKeys(c.Downloads.Keys)
	if err != nil {
		return nil, err
	}
	return release.NewShelf(inside(dir, c.Downloads.Dir), keys, now), nil
}
